"""The recent trades of one symbol, by id and by time: what REST serves to those who missed some.

Columns instead of objects: a trade costs 25 bytes, so that an hour of a busy market fits into memory. An aggregated
trade is one trade here (its id, first and last id are the trade's id): what the real exchange sums up within 100 ms
is told apart.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

from infra.venue.local.market.base import Trade

KEPT: Final = 200_000


class Tape:
    """Ids are contiguous; `first_id` is the oldest that is still here."""

    def __init__(self, next_id: int | None = None) -> None:
        self.first_id = 1 if next_id is None else next_id
        self._numbered = next_id is not None
        self.times = array("q")
        self.prices = array("q")
        self.qtys = array("q")
        self.makers = array("b")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def next_id(self) -> int:
        return self.first_id + len(self.times)

    def add(self, trade: Trade) -> int:
        """Append; gives the trade's id. The first recorded id begins the count, which then goes on without holes."""
        if not self._numbered:
            self._numbered = True
            self.first_id = trade.id or 1
        self.times.append(trade.t)
        self.prices.append(trade.price)
        self.qtys.append(trade.qty)
        self.makers.append(trade.buyer_is_maker)
        if len(self.times) > KEPT * 5 // 4:
            self._trim(len(self.times) - KEPT)
        return self.next_id - 1

    def take_up(self, trades: Iterable[tuple[int, int, int, int, bool]]) -> None:
        """(id, time, price, qty, buyer is maker) of the newest trades; they end before `next_id`."""
        for trade_id, t, price, qty, maker in trades:
            if not self.times:
                self.first_id = trade_id
            self.times.append(t)
            self.prices.append(price)
            self.qtys.append(qty)
            self.makers.append(maker)

    def _trim(self, count: int) -> None:
        self.first_id += count
        for column in (self.times, self.prices, self.qtys, self.makers):
            del column[:count]

    def from_id(self, trade_id: int, limit: int) -> range:
        """Indices of up to `limit` trades from this id on."""
        start = max(0, trade_id - self.first_id)
        return range(start, min(len(self), start + limit))

    def between(self, start_t: int | None, end_t: int | None, limit: int) -> range:
        """Indices with start_t <= time <= end_t: the first `limit` of them with a start, else the last."""
        low = 0 if start_t is None else bisect_left(self.times, start_t)
        high = len(self) if end_t is None else bisect_left(self.times, end_t + 1)
        if start_t is None:
            return range(max(low, high - limit), high)
        return range(low, min(high, low + limit))

    def rows(self, indices: range) -> Iterator[tuple[int, int, int, int, bool]]:
        """(id, time, price, qty, buyer is maker)."""
        for i in indices:
            yield self.first_id + i, self.times[i], self.prices[i], self.qtys[i], bool(self.makers[i])
