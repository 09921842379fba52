"""Depth behind the best quote: what a taker of our size would meet.

The market sources tell only the best bid and ask. Behind them stands a ladder made by rule, without randomness:
twenty levels, half a basis point (at least a tick) apart, each somewhat deeper than the one before. What our own
takers consume stays consumed until the next quote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.venue.local.market.base import Quote, Symbol
from infra.venue.local.orders import Side

LEVELS: Final = 20
LEVEL_NOTIONAL: Final = 2_500  # quote value that stands at least behind the best level, in steps of half of it
GAP_PARTS: Final = 20_000  # price / this = distance of two levels


class Book:
    """One symbol's best quote and the ladder behind it."""

    __slots__ = ("ask", "ask_qty", "bid", "bid_qty", "last", "most", "quote_t", "symbol", "used")

    def __init__(self, symbol: Symbol, last: int) -> None:
        self.symbol = symbol
        self.last = last
        self.quote_t = 0
        self.bid, self.ask = max(1, last - 1), last
        self.bid_qty = self.ask_qty = self._floor(last)  # until the market speaks
        self.used: dict[int, int] = {}
        self.most: int | None = None  # a thin book by order: nobody gets more than this at once

    def quote(self, quote: Quote) -> None:
        self.bid, self.bid_qty, self.ask, self.ask_qty = quote.bid, quote.bid_qty, quote.ask, quote.ask_qty
        self.quote_t = quote.t
        if self.used:
            self.used = {}

    def _floor(self, price: int) -> int:
        return max(1, int(LEVEL_NOTIONAL / (price * self.symbol.tick * self.symbol.step)))

    def levels(self, taker: Side) -> Iterator[tuple[int, int]]:
        """(price, steps left) from the best outwards, as a taker of this side meets them."""
        away = 1 if taker == "BUY" else -1
        best, shown = (self.ask, self.ask_qty) if taker == "BUY" else (self.bid, self.bid_qty)
        gap = max(1, best // GAP_PARTS)
        base = max(shown, self._floor(best))
        for level in range(LEVELS):
            price = best + away * gap * level
            if price <= 0:
                return
            qty = shown if level == 0 else base * (level + 2) // 2
            yield price, max(0, qty - self.used.get(price, 0))

    def take(self, taker: Side, qty: int, limit: int | None) -> list[tuple[int, int]]:
        """Consume up to `qty` steps no worse than `limit`; gives what was got as (price, steps)."""
        got: list[tuple[int, int]] = []
        if self.most is not None:
            qty = min(qty, self.most)
        for price, there in self.levels(taker):
            if qty <= 0 or (limit is not None and (price > limit if taker == "BUY" else price < limit)):
                break
            part = min(qty, there)
            if part:
                got.append((price, part))
                self.used[price] = self.used.get(price, 0) + part
                qty -= part
        return got

    def reachable(self, taker: Side, limit: int | None) -> int:
        """Steps that a taker could get at once, no worse than `limit`."""
        return sum(
            there for price, there in self.levels(taker) if limit is None or (price <= limit if taker == "BUY" else price >= limit)
        )

    def crosses(self, side: Side, price: int) -> bool:
        """Whether an order of this side and price would take at once."""
        return price >= self.ask if side == "BUY" else price <= self.bid

    def queue_at(self, side: Side, price: int) -> int:
        """Steps displayed at this price on our own side: those who came before us."""
        opposite: Side = "SELL" if side == "BUY" else "BUY"
        return next((there for level, there in self.levels(opposite) if level == price), 0)
