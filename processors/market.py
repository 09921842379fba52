"""From trades to frames, from the feed's time to ticks, from mark prices to marks records. No clock and no I/O: both come in.

`Cutter` holds what is not written yet and says what may be written, in an order that keeps the tick's promise: every trade of a
partition with t < at stands before the tick. Frames end at market minutes, so that trades after a boundary stand after its tick.
`now_ms` is any steady clock of the caller, only ever subtracted from itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas import hot
from schemas.ids import PARTITIONS, event_id, partition_of

MINUTE_MS = 60_000
FRAME_MS = 20
FRAME_TRADES = 100


class Trade(NamedTuple):
    """A trade of the market; ids are contiguous per instrument."""

    id: int
    t: int
    p: float
    q: float
    buyer_maker: bool


class Gap(NamedTuple):
    """Trades `first` .. `last` of an instrument have not come."""

    instrument: str
    first: int
    last: int


@dataclass(slots=True)
class _Open:
    """A frame that still grows."""

    first_id: int
    since_ms: float
    backfilled: bool
    t: list[int] = field(default_factory=list)
    p: list[float] = field(default_factory=list)
    q: list[float] = field(default_factory=list)
    m: list[int] = field(default_factory=list)


class Cutter:
    """`next_ids`: the id that each instrument's next trade must have. `watermark`: every trade with t < watermark has come.

    `ticked`: partition -> `at` of the last tick in the log (restart); ticks never run backwards.
    """

    def __init__(
        self,
        source: str,
        next_ids: Mapping[str, int],
        watermark: int,
        ticked: Mapping[int, int] | None = None,
        *,
        frame_ms: float = FRAME_MS,
        frame_trades: int = FRAME_TRADES,
        partitions: int = PARTITIONS,
    ) -> None:
        self.next_ids = dict(next_ids)
        self.watermark = watermark
        self.trades = 0
        self.backfilled = 0
        self.duplicates = 0
        self.late = 0
        self._source = source
        self._frame_ms = frame_ms
        self._frame_trades = frame_trades
        self._open: dict[str, _Open] = {}
        self._ticked = [(ticked or {}).get(p, 0) for p in range(partitions)]
        self._repeats = [0] * partitions
        self._boundary = _next_boundary(watermark)

    def gap(self, instrument: str, trade_id: int) -> Gap | None:
        """What must be fetched before a trade of this id may be added."""
        expected = self.next_ids[instrument]
        return Gap(instrument, expected, trade_id - 1) if trade_id > expected else None

    def add(self, instrument: str, trade: Trade, now_ms: float, *, backfilled: bool = False) -> Sequence[hot.TradeFrame]:
        """Frames that are full, or that this trade does not fit into. A trade that has been seen is dropped.

        ValueError where the trade would leave a hole: ask `gap` first.
        """
        expected = self.next_ids[instrument]
        if trade.id < expected:
            self.duplicates += 1
            return ()
        if trade.id > expected:
            raise ValueError(f"{instrument}: trade {trade.id} would leave a hole behind {expected - 1}")
        self.next_ids[instrument] = expected + 1
        self.trades += 1
        self.backfilled += backfilled
        self.late += trade.t < self.watermark
        cut: list[hot.TradeFrame] = []
        frame = self._open.get(instrument)
        if frame is not None and (frame.backfilled != backfilled or frame.t[-1] // MINUTE_MS != trade.t // MINUTE_MS):
            cut.append(self._close(instrument))
            frame = None
        if frame is None:
            frame = self._open[instrument] = _Open(trade.id, now_ms, backfilled)
        frame.t.append(trade.t)
        frame.p.append(trade.p)
        frame.q.append(trade.q)
        frame.m.append(int(trade.buyer_maker))
        if len(frame.t) >= self._frame_trades:
            cut.append(self._close(instrument))
        return cut

    def skip(self, instrument: str, next_id: int) -> Sequence[hot.TradeFrame]:
        """The trades before `next_id` will never come: the next frame begins behind the hole."""
        cut = [self._close(instrument)] if instrument in self._open else []
        self.next_ids[instrument] = max(next_id, self.next_ids[instrument])
        return cut

    def passed(self, at: int) -> Sequence[hot.TradeFrame | hot.Tick]:
        """The feed has reached market time `at`: every trade with t < at has been added. Boundary ticks on the way, in order."""
        if at < self._boundary:
            self.watermark = max(self.watermark, at)
            return ()
        out: list[hot.TradeFrame | hot.Tick] = [*self.cut_all()]
        while self._boundary <= at:
            self.watermark = self._boundary
            out.extend(self._ticks(boundary=True, feed_age_ms=0))
            self._boundary += MINUTE_MS
        self.watermark = at
        return out

    def second(self, feed_age_ms: int) -> Sequence[hot.TradeFrame | hot.Tick]:
        """A wall second has passed: what is open, and a tick into every partition."""
        return [*self.cut_all(), *self._ticks(boundary=False, feed_age_ms=feed_age_ms)]

    def due(self, now_ms: float) -> Sequence[hot.TradeFrame]:
        """Frames that have waited long enough."""
        return [self._close(name) for name, frame in list(self._open.items()) if now_ms - frame.since_ms >= self._frame_ms]

    def cut_all(self) -> Sequence[hot.TradeFrame]:
        return [self._close(name) for name in list(self._open)]

    def _close(self, instrument: str) -> hot.TradeFrame:
        frame = self._open.pop(instrument)
        return hot.TradeFrame(
            event_id=event_id("market.trade-frame", instrument, frame.first_id, len(frame.t)),
            type="market.trade-frame",
            at=frame.t[-1],
            instrument=instrument,
            first_id=frame.first_id,
            t=frame.t,
            p=frame.p,
            q=frame.q,
            m=frame.m,
            backfilled=frame.backfilled,
            source=self._source,
        )

    def _ticks(self, *, boundary: bool, feed_age_ms: int) -> Iterable[hot.Tick]:
        for partition, last in enumerate(self._ticked):
            if boundary and self.watermark <= last:
                continue  # it stands in the log already
            at = max(self.watermark, last)
            self._repeats[partition] = self._repeats[partition] + 1 if at == last else 0
            self._ticked[partition] = at
            yield hot.Tick(
                event_id=event_id("market.tick", partition, at, self._repeats[partition]),
                type="market.tick",
                at=at,
                partition=partition,
                boundary=boundary,
                feed_age_ms=feed_age_ms,
            )


@dataclass(slots=True)
class _Board:
    """One instrument between two marks records."""

    mark: float
    high: float
    low: float
    index: float
    funding_rate: float
    next_funding_at: int
    bid: float | None = None
    ask: float | None = None


class Marks:
    """What the next marks records will say. An instrument appears once its mark and a last price are known."""

    def __init__(self, source: str, instruments: Iterable[str]) -> None:
        self._source = source
        self._boards: dict[str, _Board] = {}
        self._last: dict[str, float] = {}
        self._by_partition: dict[int, list[str]] = {}
        self._repeats: dict[int, tuple[int, int]] = {}
        self._beside: frozenset[str] = frozenset()
        for name in sorted(instruments):
            self._by_partition.setdefault(partition_of(name), []).append(name)

    def mark(self, instrument: str, mark: float, index: float, funding_rate: float, next_funding_at: int) -> None:
        board = self._boards.get(instrument)
        if board is None:
            self._boards[instrument] = _Board(mark, mark, mark, index, funding_rate, next_funding_at)
            return
        board.mark = mark
        board.high = max(board.high, mark)
        board.low = min(board.low, mark)
        board.index, board.funding_rate, board.next_funding_at = index, funding_rate, next_funding_at

    def beside(self, instruments: Iterable[str]) -> None:
        """All that have a place beside those it began with. Who is not among them any more leaves: an old mark is no mark."""
        wanted = frozenset(instruments)
        for name in sorted(self._beside - wanted):
            self._by_partition[partition_of(name)].remove(name)
            self._boards.pop(name, None)
            self._last.pop(name, None)
        for name in sorted(wanted - self._beside):
            home = partition_of(name)
            self._by_partition[home] = sorted([*self._by_partition.get(home, ()), name])
        self._beside = wanted

    def last(self, instrument: str, price: float) -> None:
        self._last[instrument] = price

    def quote(self, instrument: str, bid: float, ask: float) -> None:
        board = self._boards.get(instrument)
        if board is not None:
            board.bid, board.ask = bid or None, ask or None

    def records(self, at: int, partitions: Iterable[int] = range(PARTITIONS)) -> list[hot.Marks]:
        """One record for each of these partitions that has an instrument with a price; high and low start anew from the present
        mark."""
        out = []
        for partition in partitions:
            names = self._by_partition.get(partition, ())
            marks = [self._take(name) for name in names if name in self._boards and self._last.get(name, 0.0) > 0]
            if not marks:
                continue
            before, repeat = self._repeats.get(partition, (-1, 0))
            repeat = repeat + 1 if before == at else 0
            self._repeats[partition] = (at, repeat)
            out.append(
                hot.Marks(
                    event_id=event_id("market.marks", partition, at, repeat),
                    type="market.marks",
                    at=at,
                    partition=partition,
                    marks=marks,
                    source=self._source,
                )
            )
        return out

    def _take(self, instrument: str) -> hot.Mark:
        board = self._boards[instrument]
        taken = hot.Mark(
            instrument=instrument,
            mark=board.mark,
            high=board.high,
            low=board.low,
            last=self._last[instrument],
            index=board.index,
            funding_rate=board.funding_rate,
            next_funding_at=board.next_funding_at,
            bid=board.bid,
            ask=board.ask,
        )
        board.high = board.low = board.mark
        return taken


def _next_boundary(at: int) -> int:
    """The first market minute after `at`: that at `at` itself is said by the tick that ends the history."""
    return (at // MINUTE_MS + 1) * MINUTE_MS
