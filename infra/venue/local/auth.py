"""Who asks, and when: API key, HMAC over query and body as they came, and the request's time against the real
clock.

Market time plays no part here: a request is signed in real time whatever the speed of the market.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from infra.venue.local.refusals import Refusal, missing, refuse

DEFAULT_WINDOW_MS: Final = 5_000
MOST_WINDOW_MS: Final = 60_000
AHEAD_MS: Final = 1_000
_SIGNATURE: Final = re.compile(r"&?signature=[^&]*")


class Keys:
    def __init__(self, key: str, secret: str) -> None:
        self.key = key
        self._secret = secret.encode()

    def check_key(self, sent: str | None) -> None:
        if not sent:
            raise refuse(-2014)
        if not hmac.compare_digest(sent.encode(), self.key.encode()):
            raise refuse(-2015)

    def check_signed(self, query: str, body: str, params: dict[str, str], now_ms: int) -> None:
        """`query` and `body` raw as received, `params` parsed from both; `now_ms` real time."""
        signature = params.get("signature")
        if not params.get("timestamp"):
            raise missing("timestamp")
        if not signature:
            raise missing("signature")
        timestamp = _integer(params, "timestamp")
        window = _integer(params, "recvWindow") if params.get("recvWindow") else DEFAULT_WINDOW_MS
        if window > MOST_WINDOW_MS:
            raise refuse(-1131)
        if timestamp >= now_ms + AHEAD_MS:
            raise Refusal(-1021, f"Timestamp for this request was {AHEAD_MS}ms ahead of the server's time.")
        if now_ms - timestamp > window:
            raise refuse(-1021)
        signed = _SIGNATURE.sub("", query).lstrip("&") + _SIGNATURE.sub("", body).lstrip("&")
        proof = hmac.new(self._secret, signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(proof, signature.lower()):
            raise refuse(-1022)


def _integer(params: dict[str, str], name: str) -> int:
    try:
        return int(params[name])
    except ValueError:
        raise missing(name) from None
