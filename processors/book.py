"""What risk keeps: of each instrument what is held and reserved, and its breaker; of the account its equity, and the stop."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors import order_ids
from processors.breaker import Breaker
from processors.emergency import Emergency
from schemas.units import Side, Source

ACCOUNT = "account"
"""The key of the account's own state: snapshots come on a topic of one partition."""
UNIVERSE = "universe"
"""The key of the universe, as the market worker last told it."""

ZERO = Decimal(0)


class Held(msgspec.Struct, frozen=True):
    position_id: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_client_id: str
    at: int = 0
    source: Source = Source.LIVE

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.entry_price


class Reservation(msgspec.Struct, frozen=True):
    """An approved entry that is not yet a position. It goes when its order has ended and what it filled has been seen.

    `client_id`: that of the first attempt.
    """

    entry_id: str
    client_id: str
    notional: Decimal
    margin: Decimal
    ended: bool = False
    filled: bool = False
    seen: bool = False

    @property
    def done(self) -> bool:
        return self.ended and (self.seen or not self.filled)

    def named(self, *client_ids: str) -> bool:
        """Whether one of them is this entry's order, at whatever attempt."""
        return any(order_ids.attempt_id(self.client_id, n) in client_ids for n in range(1, order_ids.MAX_ATTEMPTS + 1))


class Account(msgspec.Struct, frozen=True):
    equity: Decimal
    available: Decimal
    at: int


class Universe(msgspec.Struct, frozen=True):
    """`outside`: why, by instrument."""

    at: int
    members: tuple[str, ...]
    outside: dict[str, str]


class State(msgspec.Struct, frozen=True):
    version: int = 1
    held: Held | None = None
    reserved: Reservation | None = None
    last_closed_at: int = -1
    decided: tuple[str, ...] = ()
    account: Account | None = None
    breaker: Breaker = Breaker()
    emergency: Emergency = Emergency()
    universe: Universe | None = None

    @property
    def notional(self) -> Decimal:
        """What this instrument may come to: a position that is still being filled is part of its reservation."""
        return max(self.held.notional if self.held else ZERO, self.reserved.notional if self.reserved else ZERO)


class Book(NamedTuple):
    """The whole portfolio, orders under way included."""

    positions: int
    notional: Decimal
    reserved_margin: Decimal
    account: Account | None
    universe: Universe | None


def book(states: Mapping[str, State]) -> Book:
    """Sums over everything that this instance holds."""
    used = [each for each in states.values() if each.held or each.reserved]
    account, universe = states.get(ACCOUNT), states.get(UNIVERSE)
    return Book(
        positions=len(used),
        notional=sum((each.notional for each in used), ZERO),
        reserved_margin=sum((each.reserved.margin for each in used if each.reserved), ZERO),
        account=account.account if account else None,
        universe=universe.universe if universe else None,
    )
