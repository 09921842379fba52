"""Leverage brackets: how much may be held at which leverage, and how much margin keeps it.

Two shapes, taken from recorded brackets of 2024: the two majors, and one cautious shape for everything else.
`cum` follows from continuity: cum[k] = cum[k-1] + floor[k] * (ratio[k] - ratio[k-1]).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Final

# (leverage, notional cap, maintenance margin ratio)
_MAJOR: Final = (
    (125, 50_000, "0.004"),
    (100, 600_000, "0.005"),
    (75, 3_000_000, "0.0065"),
    (50, 12_000_000, "0.01"),
    (25, 50_000_000, "0.02"),
    (20, 65_000_000, "0.025"),
    (10, 150_000_000, "0.05"),
    (5, 320_000_000, "0.1"),
    (4, 400_000_000, "0.125"),
    (2, 800_000_000, "0.25"),
    (1, 1_200_000_000, "0.5"),
)
_MINOR: Final = (
    (75, 10_000, "0.005"),
    (50, 50_000, "0.01"),
    (40, 100_000, "0.015"),
    (25, 500_000, "0.02"),
    (20, 1_000_000, "0.025"),
    (10, 5_000_000, "0.05"),
    (5, 10_000_000, "0.1"),
    (4, 20_000_000, "0.125"),
    (2, 30_000_000, "0.25"),
    (1, 50_000_000, "0.5"),
)
_MAJORS: Final = frozenset({"BTC", "ETH"})


@dataclass(frozen=True, slots=True)
class Bracket:
    number: int
    leverage: int
    floor: Decimal
    cap: Decimal
    ratio: Decimal
    cum: Decimal


@cache
def brackets_of(base: str) -> tuple[Bracket, ...]:
    """The brackets of a base asset, smallest notional first."""
    rows = _MAJOR if base in _MAJORS else _MINOR
    first = rows[0]
    found = [Bracket(1, first[0], Decimal(0), Decimal(first[1]), Decimal(first[2]), Decimal(0))]
    for number, (low, high) in enumerate(pairwise(rows), start=2):
        floor, ratio = Decimal(low[1]), Decimal(high[2])
        cum = found[-1].cum + floor * (ratio - found[-1].ratio)
        found.append(Bracket(number, high[0], floor, Decimal(high[1]), ratio, cum))
    return tuple(found)


def max_leverage(base: str) -> int:
    return brackets_of(base)[0].leverage


def max_notional(base: str, leverage: int) -> Decimal:
    """The largest position that this leverage allows."""
    return max(bracket.cap for bracket in brackets_of(base) if bracket.leverage >= leverage)


def maintenance_margin(base: str, notional: Decimal) -> Decimal:
    """Margin that keeps a position of this (absolute) notional."""
    for bracket in brackets_of(base):
        if notional <= bracket.cap:
            return notional * bracket.ratio - bracket.cum
    last = brackets_of(base)[-1]
    return notional * last.ratio - last.cum
