"""One 5-minute candle becomes 300 seconds of trades, quotes and marks whose re-aggregation is the candle, exactly.

The path is open -> worse extreme -> other extreme -> close. Worse means against the candle's own direction: a candle that
closes at or above its open visits its low first, one that closes below visits its high first; the other extreme is never
touched before. Between these points the price is a bounded noisy bridge. Every number follows from (seed, symbol, open_t),
so any candle can be expanded again after a restart.

A candle without volume yields no trade, only marks at its price; it must then be flat. Marks are the mean of the last three
trades, the index of the last six, so they follow the path smoothly; both start from the previous close.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from infra.venue.local.market.base import CANDLE_MS, FUNDING_MS, Candle5m, Mark, MarketEvent, Quote, Symbol, Trade, next_funding

TRADES: Final = 40  # a candle, by default
MARKS: Final = 24
NOISE: Final = 0.35  # of the candle's range, standard deviation of the bridge at its widest
WIDE_SPREAD: Final = 0.05  # share of quotes wider than one tick
MARK_TRADES: Final = 3
INDEX_TRADES: Final = 6

Ints = NDArray[np.int64]


def pivots(candle: Candle5m) -> list[int]:
    """The prices that the path must visit in this order, consecutive repetitions removed."""
    rising = candle.close >= candle.open
    first, second = (candle.low, candle.high) if rising else (candle.high, candle.low)
    visited = [candle.open]
    for price in (first, second, candle.close):
        if price != visited[-1]:
            visited.append(price)
    return visited


def unfit(candle: Candle5m) -> str | None:
    """Why a candle cannot be told in trades; None when it can."""
    low_ok = 0 < candle.low <= min(candle.open, candle.close)
    if not (low_ok and max(candle.open, candle.close) <= candle.high):
        return "its prices are not ordered low <= open, close <= high"
    if candle.volume < 0:
        return "its volume is negative"
    if candle.volume == 0:
        return None if candle.low == candle.high else "its price moves without volume"
    if candle.volume < len(pivots(candle)):
        return f"its volume of {candle.volume} steps is too small for the prices it visits"
    return None


@dataclass(frozen=True, slots=True)
class Path:
    """A candle's trades as arrays, in time order: `t` in market ms, prices in ticks, quantities in steps."""

    t: Ints
    price: Ints
    qty: Ints
    buyer_is_maker: NDArray[np.bool_]
    wide: Ints  # ticks that the spread has beyond one
    depth: Ints  # [2, n] displayed bid and ask quantities in steps


def path(candle: Candle5m, *, seed: int, trades: int = TRADES) -> Path:
    """Raises ValueError for a candle that cannot be told in trades."""
    if reason := unfit(candle):
        raise ValueError(f"{candle.symbol} candle at {candle.open_t}: {reason}")
    points = np.array(pivots(candle), dtype=np.int64)
    n = max(len(points), min(max(trades, 4), candle.volume)) if candle.volume else 0
    rng = np.random.default_rng([seed, crc32(candle.symbol.encode()), candle.open_t // CANDLE_MS])
    price = _prices(candle, points, n, rng)
    return Path(
        t=candle.open_t + ((np.arange(n) + rng.random(n)) * (CANDLE_MS / max(n, 1))).astype(np.int64),
        price=price,
        qty=_split(candle.volume, n, rng),
        buyer_is_maker=_sold(price, rng),
        wide=np.where(rng.random(n) < WIDE_SPREAD, rng.integers(1, 5, n), 0),
        depth=_depth(candle.volume, n, rng),
    )


def expand(
    candle: Candle5m,
    symbol: Symbol,
    *,
    seed: int,
    previous_close: int | None = None,
    trades: int = TRADES,
    marks: int = MARKS,
) -> list[MarketEvent]:
    """The candle's events in time order; within a millisecond Quote, Trade, Mark."""
    p = path(candle, seed=seed, trades=trades)
    before = candle.open if previous_close is None else previous_close
    name = symbol.name
    events: list[MarketEvent] = []
    next_mark = _mark_table(candle, symbol, p, before, seed, marks)
    shown = (0, 0)
    rows = zip(
        p.t.tolist(), p.price.tolist(), p.qty.tolist(), p.buyer_is_maker.tolist(), p.wide.tolist(), *p.depth.tolist(), strict=True
    )
    for t, price, qty, sold, wide, bid_qty, ask_qty in rows:
        quote = (price, price + 1 + wide) if sold else (max(1, price - 1 - wide), price)
        if quote != shown and quote[0] < quote[1]:
            shown = quote
            events.append(Quote(name, t, quote[0], bid_qty, quote[1], ask_qty))
        events.append(Trade(name, t, price, qty, sold))
        if (mark := next_mark.pop(t, None)) is not None:
            events.append(mark)
    events.extend(next_mark.values())  # only a candle without trades has any left
    return events


def expand_all(candles: Iterable[tuple[Candle5m, Symbol, int | None]], *, seed: int, trades: int = TRADES) -> list[MarketEvent]:
    """The same five minutes of several symbols in one stream: (candle, its symbol, its previous close)."""
    events: list[MarketEvent] = []
    for candle, symbol, previous_close in candles:
        events.extend(expand(candle, symbol, seed=seed, previous_close=previous_close, trades=trades))
    events.sort(key=attrgetter("t"))  # stable: the order within a symbol stays
    return events


def aggregate(trades: Sequence[Trade], open_t: int) -> Candle5m:
    """The candle of these trades of one symbol, at least one."""
    prices = [trade.price for trade in trades]
    volume = sum(trade.qty for trade in trades)
    return Candle5m(trades[0].symbol, open_t, prices[0], max(prices), min(prices), prices[-1], volume)


def _prices(candle: Candle5m, points: Ints, n: int, rng: np.random.Generator) -> Ints:
    if len(points) == 1 or n == 0:
        return np.full(n, candle.open, dtype=np.int64)
    legs = np.abs(np.diff(points)) * (0.6 + 0.8 * rng.random(len(points) - 1))
    spare = n - len(points)
    steps = 1 + np.floor(spare * legs / legs.sum()).astype(np.int64)
    steps[np.argmax(steps)] += n - 1 - int(steps.sum())
    at = np.concatenate(([0], np.cumsum(steps)))
    walk = np.cumsum(rng.standard_normal(n))
    index = np.arange(n)
    bridge = walk - np.interp(index, at, walk[at])
    raw = np.interp(index, at, points) + bridge * ((candle.high - candle.low) * NOISE / np.sqrt(n))
    price: Ints = np.clip(np.rint(raw).astype(np.int64), candle.low, candle.high)
    lead = price[: int(at[1])]  # while the first extreme is ahead, the other one stays out of reach
    if candle.close >= candle.open > candle.low:
        np.minimum(lead, candle.open + (candle.high - candle.open) // 2, out=lead)
    elif candle.close < candle.open < candle.high:
        np.maximum(lead, candle.open - (candle.open - candle.low) // 2, out=lead)
    price[at] = points
    return price


def _split(volume: int, n: int, rng: np.random.Generator) -> Ints:
    """`volume` steps over n trades of at least one step, sizes heavy-tailed."""
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    weight = rng.standard_exponential(n) ** 1.7
    qty: Ints = 1 + np.floor((volume - n) * (weight / weight.sum())).astype(np.int64)
    qty[np.argmax(qty)] += volume - int(qty.sum())
    return qty


def _sold(price: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Who took: falling prices are sold, rising ones bought, an unchanged one by whoever took last."""
    n = len(price)
    if n == 0:
        return np.zeros(0, dtype=np.bool_)
    sign = np.sign(np.diff(price, prepend=price[0]))
    sign[0] = 1 if rng.random() < 0.5 else -1
    last = np.maximum.accumulate(np.where(sign != 0, np.arange(n), 0))
    sold: NDArray[np.bool_] = sign[last] < 0
    return sold


def _depth(volume: int, n: int, rng: np.random.Generator) -> Ints:
    typical = 3.0 * volume / max(n, 1)
    depth: Ints = np.maximum(1, (typical * np.exp(0.8 * rng.standard_normal((2, n)))).astype(np.int64))
    return depth


def _mark_table(candle: Candle5m, symbol: Symbol, p: Path, before: int, seed: int, count: int) -> dict[int, Mark]:
    """Marks by their market time, in time order."""
    n = len(p.t)
    if n == 0:
        times = candle.open_t + np.arange(count) * (CANDLE_MS // max(count, 1))
        marks = index = np.full(count, candle.close * 100, dtype=np.int64)
    else:
        at = np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64))
        sums = np.concatenate(([0], np.cumsum(np.concatenate((np.full(INDEX_TRADES, before, dtype=np.int64), p.price)))))
        end = at + INDEX_TRADES + 1
        marks = (sums[end] - sums[end - MARK_TRADES]) * 100 // MARK_TRADES
        index = (sums[end] - sums[end - INDEX_TRADES]) * 100 // INDEX_TRADES
        times = p.t[at]
    cent = symbol.tick / 100
    name, rate, due = symbol.name, funding_rate(symbol.name, candle.open_t // FUNDING_MS, seed), next_funding(candle.open_t)
    return {
        t: Mark(name, t, mark * cent, level * cent, rate, due)
        for t, mark, level in zip(times.tolist(), marks.tolist(), index.tolist(), strict=True)
    }


@lru_cache(maxsize=4096)
def funding_rate(symbol: str, period: int, seed: int) -> Decimal:
    """A made-up rate of one 8-hour period: around 1 basis point, at most 3 either way."""
    draw = np.random.default_rng([seed, crc32(symbol.encode()), period, 8]).standard_normal()
    return Decimal(int(np.clip(1.0 + 0.6 * draw, -3.0, 3.0) * 10_000)).scaleb(-8)
