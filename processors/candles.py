"""Trades into closed candles of 1m, 5m, 15m, 1h and 4h: a fold that gives the same candles however the trades were cut into frames.

A trade belongs to the minute of its own time `t`; a longer candle is made of the closed candles of the interval below it.
Only ticks close candles: a tick says that every trade with t < at stands before it. Rules for what is not as it should be:
- a trade whose id has been seen (id <= `last_id`) is a repetition: skipped;
- a trade older than the last closed minute is late: counted, and left out of every interval, so that a candle is always made
  of exactly the trades of its minutes; the next candle of each interval reports the count;
- a minute without trades gives a flat candle (o = h = l = c = the close before, v = 0) from the first trade or the seed on;
  a longer candle passes over its flat ones and is flat when all of them are;
- a seed brings closed 5m candles: longer ones that they began go on from there, marked `backfilled`, with first id 0;
- without a seed the first candles begin at the first trade, inside their interval.
Sums run trade by trade within a minute, in the order of ids, and then candle by candle: no compensation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, compress, pairwise
from operator import mul, not_
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

MINUTE_MS: Final = 60_000
INTERVALS: Final = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
}
"""Interval to its length. Each is a multiple of the one before, of whose closed candles it is made."""
SEEDED: Final = list(INTERVALS).index("5m")
"""Place of the interval of which a seed brings candles."""

VERSION: Final = 2
MOST: Final = 1e15
"""Of a price or a quantity."""
LEAP: Final = 10_000_000
"""Ids that may be missing before a frame; where more are, a candle history comes first."""
HORIZON_MS: Final = 7 * 24 * 60 * MINUTE_MS
"""A tick may pass that much at once. Behind a longer silence a candle history must come first (`seed`)."""

_NAMES: Final = tuple(INTERVALS)


class Bucket(msgspec.Struct, frozen=True, array_like=True):
    """A candle in the making. `quote`: sum of price x quantity, `taker_buy`: quantity that the taker bought.

    `first_id` 0: its first trades were before the log, known by a candle of the history only.
    """

    open_at: int
    o: float
    h: float
    l: float  # noqa: E741 - the field's standard letter
    c: float
    v: float
    quote: float
    taker_buy: float
    trades: int
    first_id: int
    last_id: int
    backfilled: bool


class Fold(msgspec.Struct, frozen=True):
    """Candles of one instrument in the making. `closed_at`: everything before is closed, 0 before the first trade or seed.

    `open`: the minutes that no tick has closed yet, by time; `forming`: per longer interval what closed candles have brought
    so far; `late`: per interval, since its last candle. `missed`: ids that never came (a gap that nobody refilled), for a metric.
    """

    version: int = VERSION
    last_id: int = 0
    closed_at: int = 0
    price: float = 0.0
    missed: int = 0
    late: tuple[int, ...] = (0,) * len(INTERVALS)
    open: tuple[Bucket, ...] = ()
    forming: tuple[Bucket | None, ...] = (None,) * len(INTERVALS)  # the first place stays empty


class Closed(NamedTuple):
    """A closed candle [open_at, close_at). A flat one has no trades: its ids are the last id seen and one more (first > last)."""

    interval: str
    open_at: int
    close_at: int
    o: float
    h: float
    l: float  # noqa: E741 - the field's standard letter
    c: float
    v: float
    quote_volume: float
    taker_buy_volume: float
    trades: int
    first_id: int
    last_id: int
    flat: bool
    backfilled: bool
    late: int


def seed(fold: Fold, at: int, price: float, next_id: int, past: Sequence[Bucket] = ()) -> Fold:
    """Begin where a candle history ends: `at` its last close (a minute), `price` its last price, `next_id` of the trade after it.

    `past`: its newest 5m candles up to `at`, oldest first, without the flat ones, for the longer candles that `at` falls into.
    What was in the making is forgotten, unless the history tells nothing new: a repeated seed changes nothing.
    """
    if at <= fold.closed_at and next_id - 1 <= fold.last_id:
        return fold
    if at <= fold.closed_at:  # trades are missing, but no candle is closed twice
        return replace(fold, last_id=next_id - 1, missed=fold.missed + next_id - 1 - fold.last_id)
    forming: list[Bucket | None] = [None] * len(INTERVALS)
    lengths = list(INTERVALS.values())
    for place in range(SEEDED + 1, len(lengths)):
        begin, end = at - at % lengths[place], at - at % lengths[place - 1]  # what lies behind `end` is in a shorter one
        for bucket in past:
            if begin <= bucket.open_at < end:
                forming[place] = _joined(forming[place], bucket, begin)
    return Fold(last_id=next_id - 1, closed_at=at - at % MINUTE_MS, price=price, missed=fold.missed, forming=tuple(forming))


def trades(
    fold: Fold,
    first_id: int,
    t: Sequence[int],
    p: Sequence[float],
    q: Sequence[float],
    m: Sequence[int],
    *,
    backfilled: bool = False,
) -> Fold:
    """Fold a frame: columns of equal length, ids contiguous from `first_id`, `m` true where the buyer was the maker.

    Raises ValueError for a frame that no market can have made: folded, it would spoil every later sum, logarithm or id.
    """
    if t and not (
        len(t) == len(p) == len(q) == len(m) and 0 < min(p) <= max(p) < MOST and 0 <= min(q) <= max(q) < MOST and min(t) > 0
    ):
        raise ValueError("a frame's columns differ in length, or a price, quantity or time of it is absurd")
    if fold.last_id and first_id - fold.last_id > LEAP:  # a recording's first id may be any
        raise ValueError(f"a frame leaps from trade {fold.last_id} to {first_id}")
    seen = fold.last_id + 1 - first_id
    if seen > 0 and fold.closed_at:
        if seen >= len(t):
            return fold
        first_id, t, p, q, m = first_id + seen, t[seen:], p[seen:], q[seen:], m[seen:]
    if not t:
        return fold
    missed = fold.missed + (first_id - fold.last_id - 1 if fold.closed_at else 0)
    closed_at = fold.closed_at or t[0] - t[0] % MINUTE_MS
    late = 0
    open_ = fold.open
    for begin, end, minute in _runs(t):
        if minute < closed_at:
            late += end - begin
            continue
        run = (p, q, m) if end - begin == len(t) else (p[begin:end], q[begin:end], m[begin:end])
        open_ = _add(open_, minute, first_id + begin, *run, backfilled=backfilled)
    counts = tuple(count + late for count in fold.late) if late else fold.late
    return replace(fold, last_id=first_id + len(t) - 1, closed_at=closed_at, missed=missed, late=counts, open=open_)


def close(fold: Fold, at: int) -> tuple[Fold, list[Closed]]:
    """A tick has come: every candle that ends at or before `at` is closed, oldest first, the shorter interval first.

    Raises ValueError for a tick beyond the horizon: taken at its word it would close candles for ever and make every later
    trade late.
    """
    boundary = at - at % MINUTE_MS
    if not fold.closed_at or boundary <= fold.closed_at:
        return fold, []
    if boundary - fold.closed_at > HORIZON_MS:
        raise ValueError(f"a tick at {at} is {(boundary - fold.closed_at) // MINUTE_MS} minutes past the last close")
    candles: list[Closed] = []
    price, last_id = fold.price, fold.open[0].first_id - 1 if fold.open else fold.last_id
    minutes, forming, late = deque(fold.open), list(fold.forming), list(fold.late)
    for close_at in range(fold.closed_at + MINUTE_MS, boundary + MINUTE_MS, MINUTE_MS):
        minute = minutes.popleft() if minutes and minutes[0].open_at < close_at else None
        if minute is not None:
            price, last_id = minute.c, minute.last_id
        for place, bucket in _handed_up(forming, minute, 0, close_at):
            interval = _NAMES[place]
            if bucket is not None:
                candles.append(_closed(interval, INTERVALS[interval], bucket, late[place]))
            else:
                candles.append(_flat(interval, INTERVALS[interval], close_at, price, last_id, late[place]))
            late[place] = 0
    left = replace(fold, closed_at=boundary, price=price, late=tuple(late), open=tuple(minutes), forming=tuple(forming))
    return left, candles


def unfinished(fold: Fold, interval: str) -> Bucket | None:
    """The candle of a longer interval that the last closed minute left open, with all trades so far; None before its first.

    Its end is not known to have passed: trades that stand behind it wait for the tick, and are not in it.
    """
    length = INTERVALS[interval]
    open_at = fold.closed_at - fold.closed_at % length
    found = None
    for place in range(_NAMES.index(interval), 0, -1):  # the shorter, the newer
        below = fold.forming[place]
        found = _joined(found, below, open_at) if below is not None else found
    for minute in fold.open:
        found = _joined(found, minute, open_at) if minute.open_at < open_at + length else found
    return found


def _handed_up(
    forming: list[Bucket | None], bucket: Bucket | None, place: int, close_at: int
) -> Iterator[tuple[int, Bucket | None]]:
    """A candle is closed and goes into the next longer one, which may be closed by it, and so on: (place of the interval, candle)

    of each that ends at `close_at`, shortest first; None where nothing traded. Changes `forming`.
    """
    yield place, bucket
    for longer in range(place + 1, len(_NAMES)):
        length = INTERVALS[_NAMES[longer]]
        if bucket is not None:
            forming[longer] = _joined(forming[longer], bucket, bucket.open_at - bucket.open_at % length)
        if close_at % length:
            return
        bucket, forming[longer] = forming[longer], None
        yield longer, bucket


def _joined(old: Bucket | None, new: Bucket, open_at: int) -> Bucket:
    """The candle that opens at `open_at` with a later part of it."""
    if old is None:
        return replace(new, open_at=open_at)
    return Bucket(
        open_at,
        old.o,
        max(old.h, new.h),
        min(old.l, new.l),
        new.c,
        old.v + new.v,
        old.quote + new.quote,
        old.taker_buy + new.taker_buy,
        old.trades + new.trades,
        old.first_id,
        new.last_id,
        old.backfilled or new.backfilled,
    )


def _runs(t: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """Neighbours of one minute: (begin, end, minute). Mostly the whole frame."""
    low = min(t)
    minute = low - low % MINUTE_MS
    if max(t) < minute + MINUTE_MS:
        return [(0, len(t), minute)]
    minutes = [moment - moment % MINUTE_MS for moment in t]
    cuts = [0, *(i for i in range(1, len(t)) if minutes[i] != minutes[i - 1]), len(t)]
    return [(begin, end, minutes[begin]) for begin, end in pairwise(cuts)]


def _add(
    buckets: tuple[Bucket, ...],
    open_at: int,
    first_id: int,
    p: Sequence[float],
    q: Sequence[float],
    m: Sequence[int],
    *,
    backfilled: bool,
) -> tuple[Bucket, ...]:
    """The buckets with a run of trades in the one that opens at `open_at`."""
    place = len(buckets)
    while place and buckets[place - 1].open_at > open_at:
        place -= 1
    old = buckets[place - 1] if place and buckets[place - 1].open_at == open_at else None
    high, low, last_id = max(p), min(p), first_id + len(p) - 1
    bought = compress(q, map(not_, m))
    if old is None:
        bucket = Bucket(
            open_at,
            p[0],
            high,
            low,
            p[-1],
            _sum(q, 0.0),
            _sum(map(mul, p, q), 0.0),
            _sum(bought, 0.0),
            len(p),
            first_id,
            last_id,
            backfilled,
        )
        return (*buckets[:place], bucket, *buckets[place:])
    bucket = Bucket(
        open_at,
        old.o,
        high if high > old.h else old.h,
        low if low < old.l else old.l,
        p[-1],
        _sum(q, old.v),
        _sum(map(mul, p, q), old.quote),
        _sum(bought, old.taker_buy),
        old.trades + len(p),
        old.first_id,
        last_id,
        backfilled or old.backfilled,
    )
    return (*buckets[: place - 1], bucket, *buckets[place:])


def _sum(values: Iterable[float], start: float) -> float:
    """Plain additions from left to right: Python's own `sum` compensates from 3.12 on, and a cut frame would sum otherwise."""
    return deque(accumulate(values, initial=start), maxlen=1)[0]


def _closed(interval: str, length: int, b: Bucket, late: int) -> Closed:
    return Closed(
        interval,
        b.open_at,
        b.open_at + length,
        b.o,
        b.h,
        b.l,
        b.c,
        b.v,
        b.quote,
        b.taker_buy,
        b.trades,
        b.first_id,
        b.last_id,
        False,
        b.backfilled,
        late,
    )


def _flat(interval: str, length: int, close_at: int, price: float, last_id: int, late: int) -> Closed:
    return Closed(
        interval, close_at - length, close_at, price, price, price, price, 0.0, 0.0, 0.0, 0, last_id + 1, last_id, True, False, late
    )
