"""Depth behind the best quote: what a taker of our size would meet, and the mark that it leaves.

All market sources tell the best bid and ask; a recording of ticks tells the depth behind them too. Elsewhere a ladder
made by rule stands there, without randomness: twenty levels, half a basis point (at least a tick) apart, each somewhat deeper
than the one before. The quote is always the newer word: recorded levels at or before the best do not count. What our own
takers consume is missing for all who look, and comes back with the quotes: half of it in every `HALF_LIFE_MS` of market
time. The source's quotes do not know of us; what is shown is theirs less what is still missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.venue.local.market.base import Depth, Quote, Symbol
from infra.venue.local.orders import Side

LEVELS: Final = 20
LEVEL_NOTIONAL: Final = 2_500  # quote value that stands at least behind the best level, in steps of half of it
GAP_PARTS: Final = 20_000  # price / this = distance of two levels
HALF_LIFE_MS: Final = 1_000
Missing = tuple[int, int]  # steps, and since when


def still_missing(steps: int, age_ms: int) -> int:
    """What has not come back yet: halved by every whole half-life, in a straight line between; in integers, so always the same."""
    halvings, rest = divmod(max(0, age_ms), HALF_LIFE_MS)
    left = steps >> halvings
    return left - left * rest // (2 * HALF_LIFE_MS)


class Book:
    """One symbol's best quote and the ladder behind it."""

    __slots__ = ("ask", "ask_qty", "behind", "bid", "bid_qty", "last", "most", "quote_t", "symbol", "used")

    def __init__(self, symbol: Symbol, last: int) -> None:
        self.symbol = symbol
        self.last = last
        self.quote_t = 0
        self.bid, self.ask = max(1, last - 1), last
        self.bid_qty = self.ask_qty = self._floor(last)  # until the market speaks
        self.used: dict[int, Missing] = {}  # by price: what our takers have consumed
        self.behind: tuple[dict[int, int], dict[int, int]] | None = None  # recorded depth: bids, asks
        self.most: int | None = None  # a thin book by order: nobody gets more than this at once

    def quote(self, quote: Quote) -> None:
        self.bid, self.bid_qty, self.ask, self.ask_qty = quote.bid, quote.bid_qty, quote.ask, quote.ask_qty
        self.quote_t = quote.t

    def depth(self, depth: Depth) -> None:
        """Recorded levels; changes mean nothing before all levels have been told once."""
        if depth.is_whole:
            self.behind = {}, {}
        if self.behind is None:
            return
        self.behind[0].update(depth.bids)  # what is gone stays with 0 steps
        self.behind[1].update(depth.asks)

    def _floor(self, price: int) -> int:
        return max(1, int(LEVEL_NOTIONAL / (price * self.symbol.tick * self.symbol.step)))

    def levels(self, taker: Side) -> Iterator[tuple[int, int]]:
        """(price, steps left) from the best outwards, as a taker of this side meets them."""
        away = 1 if taker == "BUY" else -1
        best, shown = (self.ask, self.ask_qty) if taker == "BUY" else (self.bid, self.bid_qty)
        if self.behind is not None:
            yield best, self._left(best, shown)
            known = self.behind[away > 0]
            for price in sorted((p for p, qty in known.items() if qty and (p - best) * away > 0), reverse=away < 0):
                yield price, self._left(price, known[price])
            return
        gap = max(1, best // GAP_PARTS)
        for level in range(LEVELS):
            price = best + away * gap * level
            if price <= 0:
                return
            yield price, self._made_up(level, price, best, shown)

    def _made_up(self, level: int, price: int, best: int, shown: int) -> int:
        return self._left(price, max(shown, self._floor(best)) * (level + 2) // 2 if level else shown)

    def _left(self, price: int, qty: int) -> int:
        return max(0, qty - self._missing(price)) if self.used else qty

    def _missing(self, price: int) -> int:
        """As the last quote sees it: nothing comes back while the market does not move."""
        found = self.used.get(price)
        return 0 if found is None else still_missing(found[0], self.quote_t - found[1])

    def best(self) -> tuple[int, int, int, int]:
        """Bid, its steps, ask, its steps as they are shown: the quote, less what our takers have consumed."""
        if not self.used:
            return self.bid, self.bid_qty, self.ask, self.ask_qty
        bid, bid_qty = self._first("SELL")
        ask, ask_qty = self._first("BUY")
        return bid, bid_qty, ask, ask_qty

    def _first(self, taker: Side) -> tuple[int, int]:
        shown = (self.ask, self.ask_qty) if taker == "BUY" else (self.bid, self.bid_qty)
        return next(((price, there) for price, there in self.levels(taker) if there), shown)

    def take(self, taker: Side, qty: int, limit: int | None, t: int) -> list[tuple[int, int]]:
        """Consume up to `qty` steps no worse than `limit` at time `t`; gives what was got as (price, steps)."""
        got: list[tuple[int, int]] = []
        if self.most is not None:
            qty = min(qty, self.most)
        for price, there in self.levels(taker):
            if qty <= 0 or (limit is not None and (price > limit if taker == "BUY" else price < limit)):
                break
            part = min(qty, there)
            if part:
                got.append((price, part))
                qty -= part
        if got:
            self.used = {p: (left, max(since, self.quote_t)) for p, (_, since) in self.used.items() if (left := self._missing(p))}
            for price, part in got:
                self.used[price] = self.used.get(price, (0, 0))[0] + part, t
        return got

    def reachable(self, taker: Side, limit: int | None) -> int:
        """Steps that a taker could get at once, no worse than `limit`."""
        return sum(
            there for price, there in self.levels(taker) if limit is None or (price <= limit if taker == "BUY" else price >= limit)
        )

    def crosses(self, side: Side, price: int) -> bool:
        """Whether an order of this side and price would take at once."""
        if self.used:
            return price >= self._first("BUY")[0] if side == "BUY" else price <= self._first("SELL")[0]
        return price >= self.ask if side == "BUY" else price <= self.bid

    def queue_at(self, side: Side, price: int) -> int:
        """Steps displayed at this price on our own side: those who came before us."""
        best, shown = (self.bid, self.bid_qty) if side == "BUY" else (self.ask, self.ask_qty)
        away = best - price if side == "BUY" else price - best
        if self.behind is not None:
            known = self.behind[side == "SELL"].get(price, 0) if away > 0 else shown if not away else 0
            return self._left(price, known)
        level, between = divmod(away, max(1, best // GAP_PARTS))
        return 0 if between or not 0 <= level < LEVELS else self._made_up(level, price, best, shown)
