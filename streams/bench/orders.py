"""`quantum bench orders`: what our order path costs over the bare client, and how fast the local exchange's engine is.

One dict of both parts, each a module of its own.
"""

from __future__ import annotations

from typing import Any

from streams.bench.engine import engine_part
from streams.bench.order_path import order_path_part


def run() -> dict[str, Any]:
    return {**order_path_part(), **engine_part()}
