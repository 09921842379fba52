"""The local exchange's control port, from outside: what no client of ours does. Raises OSError where it does not answer."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def ask(control_url: str, what: str, timeout_s: float = 5.0) -> Any:
    """GET /control/WHAT"""
    return _answer(urllib.request.Request(f"{control_url}/control/{what}"), timeout_s)


def tell(control_url: str, what: str, timeout_s: float = 10.0, *, method: str = "POST", **body: Any) -> Any:
    """POST /control/WHAT (or another method), the body as JSON. Raises HTTPError where it is refused."""
    data = json.dumps(body).encode() if method == "POST" else None
    return _answer(urllib.request.Request(f"{control_url}/control/{what}", method=method, data=data), timeout_s)


def _answer(request: urllib.request.Request, timeout_s: float) -> Any:
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return json.loads(answer.read() or b"null")
