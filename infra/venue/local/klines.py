"""Candles of every interval, aggregated from the trades: one truth for REST, streams and features.

A trade touches only the current minute; a closed minute is rolled into the longer intervals, so that the cost of an
interval is paid once a minute. The past comes as 5-minute candles. Its minutes are made from them by rule (open ->
nearer extreme -> other extreme -> close) so that five of them give the candle back exactly; they are a story about
the past, as good as any that agrees with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from infra.venue.local.market.base import Candle5m, Trade

MINUTE_MS: Final = 60_000
INTERVALS: Final[dict[str, int]] = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
}
KEPT: Final = 12_000  # closed candles of an interval


class Candle:
    """Ticks and steps; turnover in ticks x steps. `trades == 0`: nothing was traded, the prices are the close before."""

    __slots__ = (
        "close",
        "first_id",
        "high",
        "last_id",
        "low",
        "open",
        "open_t",
        "taker_turnover",
        "taker_volume",
        "trades",
        "turnover",
        "volume",
    )

    def __init__(self, open_t: int, price: int) -> None:
        self.open_t = open_t
        self.open = self.high = self.low = self.close = price
        self.volume = self.turnover = self.taker_volume = self.taker_turnover = self.trades = 0
        self.first_id = self.last_id = -1

    def add(self, trade: Trade, trade_id: int) -> None:
        price, qty = trade.price, trade.qty
        if not self.trades:
            self.open = self.high = self.low = price
            self.first_id = trade_id
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.last_id = trade_id
        self.trades += 1
        self.volume += qty
        self.turnover += price * qty
        if not trade.buyer_is_maker:
            self.taker_volume += qty
            self.taker_turnover += price * qty

    def merge(self, later: Candle) -> None:
        """Take in a later candle of a shorter interval."""
        if not later.trades:
            return
        if not self.trades:
            self.open, self.high, self.low = later.open, later.high, later.low
            self.first_id = later.first_id
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close
        self.last_id = later.last_id
        self.trades += later.trades
        self.volume += later.volume
        self.turnover += later.turnover
        self.taker_volume += later.taker_volume
        self.taker_turnover += later.taker_turnover

    def copy(self) -> Candle:
        twin = Candle(self.open_t, self.close)
        for name in Candle.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def row(self) -> list[int]:
        return [getattr(self, name) for name in Candle.__slots__]

    @classmethod
    def from_row(cls, row: list[int]) -> Candle:
        candle = cls(0, 0)
        for name, value in zip(Candle.__slots__, row, strict=True):
            setattr(candle, name, value)
        return candle


Closed = Callable[[str, str, Candle], None]  # symbol, interval, candle


class Candles:
    """All candles of one symbol. `advance(t)` before anything at t is counted: it closes what has ended."""

    def __init__(self, symbol: str, start_t: int, price: int, on_close: Closed | None = None) -> None:
        self.symbol = symbol
        self.on_close = on_close
        self.current = Candle(start_t - start_t % MINUTE_MS, price)
        self.closed: dict[str, list[Candle]] = {interval: [] for interval in INTERVALS}
        self.rolling: dict[str, Candle | None] = {interval: None for interval in INTERVALS}  # closed minutes so far
        self.end_t = self.current.open_t + MINUTE_MS

    def seed(self, minutes: Iterable[Candle]) -> None:
        """Put the past before the first live minute; told to nobody."""
        told, self.on_close = self.on_close, None
        current, end = self.current, self.end_t
        for minute in minutes:
            self._roll(minute)
        self.current, self.end_t, self.on_close = current, end, told

    def take_up(self, current: Candle) -> None:
        """Go on with a minute that was open when we stopped."""
        self.current, self.end_t = current, current.open_t + MINUTE_MS

    def advance(self, t: int) -> None:
        while t >= self.end_t:
            done = self.current
            self.current = Candle(self.end_t, done.close)
            self.end_t += MINUTE_MS
            self._roll(done)

    def add(self, trade: Trade, trade_id: int) -> None:
        """Count a trade; `advance(trade.t)` has been called."""
        self.current.add(trade, trade_id)

    def _roll(self, minute: Candle) -> None:
        number = minute.open_t // MINUTE_MS
        for interval, length in INTERVALS.items():
            if length == 1:
                self._close(interval, minute)
                continue
            rolling = self.rolling[interval]
            if rolling is None:
                rolling = minute.copy()
                rolling.open_t = (number - number % length) * MINUTE_MS
                self.rolling[interval] = rolling
            else:
                rolling.merge(minute)
            if (number + 1) % length == 0:
                self.rolling[interval] = None
                self._close(interval, rolling)

    def _close(self, interval: str, candle: Candle) -> None:
        rows = self.closed[interval]
        rows.append(candle)
        if len(rows) > KEPT * 5 // 4:
            del rows[:-KEPT]
        if self.on_close is not None:
            self.on_close(self.symbol, interval, candle)

    def now(self, interval: str) -> Candle:
        """The candle that is not closed yet."""
        rolling = self.rolling[interval]
        if rolling is None:
            candle = self.current.copy()
            number, length = candle.open_t // MINUTE_MS, INTERVALS[interval]
            candle.open_t = (number - number % length) * MINUTE_MS
            return candle
        candle = rolling.copy()
        candle.merge(self.current)
        return candle

    def range(self, interval: str, start_t: int | None, end_t: int | None, limit: int) -> list[Candle]:
        """Candles whose open time lies in [start_t, end_t]: the first `limit` of them with a start, else the last."""
        rows = [*self.closed[interval], self.now(interval)]
        if start_t is not None:
            rows = [c for c in rows if c.open_t >= start_t]
        if end_t is not None:
            rows = [c for c in rows if c.open_t <= end_t]
        return rows[:limit] if start_t is not None else rows[-limit:]


def minutes_of(candle: Candle5m) -> Iterator[Candle]:
    """Five minutes whose aggregation is the candle: open, high, low, close and volume exactly."""
    up_first = abs(candle.high - candle.open) < abs(candle.open - candle.low)
    first, second = (candle.high, candle.low) if up_first else (candle.low, candle.high)
    stations = (candle.open, first, (first + second) // 2, second, candle.close)
    paths = (
        (candle.open, (candle.open + first) // 2),
        ((candle.open + first) // 2, first),
        (first, stations[2]),
        (stations[2], second),
        (second, candle.close),
    )
    share, rest = divmod(candle.volume, 5)
    for index, (start, end) in enumerate(paths):
        minute = Candle(candle.open_t + index * MINUTE_MS, start)
        minute.close, minute.high, minute.low = end, max(start, end), min(start, end)
        minute.volume = share + (rest if index == 4 else 0)
        minute.trades = 1 if candle.volume else 0
        minute.turnover = minute.volume * ((start + end) // 2)
        minute.taker_volume = minute.volume // 2
        minute.taker_turnover = minute.turnover // 2
        yield minute
