"""For how long which position stands without a stop, by the user stream's word, to the event; looks at the exchange correct it.

fill -> position 0.5 .............. stop NEW        the first interval of a position: from its fill to its stop's acknowledgement
stop CANCELED ..................... stop NEW        a later one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Watch:
    """One instrument. `stops`: client ids of its live stops. `since`: caller's steady clock (ms); None: flat, or protected.
    `first`: no stop has been seen since it was opened."""

    quantity: Decimal = ZERO
    price: Decimal = ZERO
    stops: frozenset[str] = frozenset()
    since: float | None = None
    first: bool = True

    @property
    def notional(self) -> float:
        return float(abs(self.quantity) * self.price)


class Ended(NamedTuple):
    """An interval without a stop. `protected`: a stop ended it, else the position went."""

    instrument: str
    seconds: float
    notional: float
    protected: bool
    first: bool


Exposure = Mapping[str, Watch]


class Moved(NamedTuple):
    exposure: Exposure
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What was heard of an instrument: only what is not None is new. `live`, `gone`: a stop's client id."""

    instrument: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    live: str | None = None
    gone: str | None = None
    stops: frozenset[str] | None = None


def heard(exposure: Exposure, word: Word, now_ms: float) -> Moved:
    before = exposure.get(word.instrument, Watch())
    stops = before.stops if word.stops is None else word.stops
    stops = stops | {word.live} if word.live is not None else stops
    stops = stops - {word.gone} if word.gone is not None else stops
    quantity = before.quantity if word.quantity is None else word.quantity
    price = word.price or before.price
    turned = quantity * before.quantity <= 0  # flat before or now, or another side
    naked = bool(quantity) and not stops
    if naked:
        since = before.since if before.since is not None and not turned else now_ms
        first = before.first or turned
        after = Watch(quantity, price, stops, since, first)
    else:
        after = Watch(quantity, price, stops, None, not quantity)
    moved = {**exposure, word.instrument: after}
    if word.quantity is not None and not quantity and not stops:
        del moved[word.instrument]
    if before.since is None or after.since is not None:
        return Moved(moved)
    notional = max(before.notional, after.notional)
    return Moved(moved, Ended(word.instrument, (now_ms - before.since) / 1000, notional, bool(quantity), before.first))


def running(exposure: Exposure, now_ms: float) -> float:
    """Seconds x notional of the intervals that have not ended."""
    return sum((now_ms - each.since) / 1000 * each.notional for each in exposure.values() if each.since is not None)
