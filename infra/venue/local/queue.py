"""Who rests at which price, and whom the market serves: the rules that both markets, futures and spot, match by.

An order is filled whole when the price goes through it, and otherwise by trades at its price after those who stood
there before it. Those ahead go when they are filled, or when less is shown at the price than were ahead (they have
cancelled); nobody ahead of us cancels unseen: the conservative queue.

The generators give one execution after the other; who iterates books it before asking for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, SupportsIndex, TypeVar

from infra.venue.local.books import Book
from infra.venue.local.market.base import Trade
from infra.venue.local.orders import Side

NEVER: Final = 1 << 62


class Waiting(Protocol):
    """What an order must tell to rest."""

    id: int
    side: Side
    price: int
    queue_ahead: int

    @property
    def left(self) -> int: ...

    @property
    def is_open(self) -> bool: ...


W = TypeVar("W", bound=Waiting)


class Resting(list[W]):
    """One symbol's resting orders in the order of their coming; knows how far they reach, so that most of what happens
    in the market costs two comparisons.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reach: tuple[int, int] | None = None

    def append(self, order: W) -> None:
        super().append(order)
        self._reach = None

    def insert(self, index: SupportsIndex, order: W) -> None:
        super().insert(index, order)
        self._reach = None

    def remove(self, order: W) -> None:
        del self[self.index(order)]
        self._reach = None

    def index(self, order: W, *_: SupportsIndex) -> int:
        for place, other in enumerate(self):
            if other is order:
                return place
        raise ValueError(f"order {order.id} does not rest")

    def __contains__(self, order: object) -> bool:
        return any(other is order for other in self)

    def reach(self) -> tuple[int, int]:
        """The highest price at which somebody buys, and the lowest at which somebody sells."""
        if self._reach is None:
            buys = max((o.price for o in self if o.side == "BUY"), default=-NEVER)
            self._reach = buys, min((o.price for o in self if o.side == "SELL"), default=NEVER)
        return self._reach

    def by_price(self) -> list[W]:
        return sorted(self, key=lambda o: (-o.price if o.side == "BUY" else o.price, o.id))


def crossed(book: Book, resting: Resting[W], t: int) -> Iterator[tuple[W, int]]:
    """A quote that crosses resting orders fills them at their own price as far as there is depth: (order, steps)."""
    buys, sells = resting.reach()
    if buys < book.bid and sells > book.ask:
        return
    for order in resting.by_price():
        if not order.is_open:
            continue
        buying = order.side == "BUY"
        if order.price == (book.bid if buying else book.ask):
            order.queue_ahead = min(order.queue_ahead, book.bid_qty if buying else book.ask_qty)
        if book.crosses(order.side, order.price):
            for _, qty in book.take(order.side, order.left, order.price, t):
                if order.is_open:
                    yield order, qty


def traded(trade: Trade, resting: Resting[W]) -> Iterator[tuple[W, int]]:
    """A trade beyond an order's price fills it; one at its price serves the queue first: (order, steps)."""
    buys, sells = resting.reach()
    if buys < trade.price < sells:
        return
    seller_took = trade.buyer_is_maker
    for order in resting.by_price():
        if not order.is_open:
            continue
        better = order.price - trade.price if order.side == "BUY" else trade.price - order.price
        if better > 0:
            yield order, order.left
        elif better == 0 and seller_took == (order.side == "BUY"):
            served = min(order.queue_ahead, trade.qty)
            order.queue_ahead -= served
            if trade.qty > served:
                yield order, min(order.left, trade.qty - served)
