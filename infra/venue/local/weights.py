"""What a request weighs where that depends on what it asks for: by `limit`, or by whether one symbol is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

Weight = Callable[[Mapping[str, str]], int]

KLINES: Final = ((100, 1), (500, 2), (1_001, 5))  # (below this limit, weight); above: 10
DEPTH: Final = ((51, 2), (101, 5), (501, 10))  # above: 20
SPOT_DEPTH: Final = ((101, 5), (501, 25), (1_001, 50))  # above: 250


def _limit(params: Mapping[str, str], default: int) -> int:
    text = params.get("limit", "")
    return int(text) if text.isdecimal() and len(text) < 10 else default


def _stepped(steps: tuple[tuple[int, int], ...], most: int, default: int = 500) -> Weight:
    def weigh(params: Mapping[str, str]) -> int:
        limit = _limit(params, default)
        return next((weight for below, weight in steps if limit < below), most)

    return weigh


by_klines: Final = _stepped(KLINES, 10)
by_depth: Final = _stepped(DEPTH, 20)
by_spot_depth: Final = _stepped(SPOT_DEPTH, 250, 100)


def always(weight: int) -> Weight:
    return lambda params: weight


def by_symbol(one: int, all_of_them: int) -> Weight:
    return lambda params: one if params.get("symbol") else all_of_them
