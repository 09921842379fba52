"""The stage `features`: trades and ticks into closed candles, each closed 5-minute candle into a feature vector.

| event                    | what happens                                                                  |
|--------------------------|-------------------------------------------------------------------------------|
| market.candle-history    | the fold begins at its end, the kernel is warmed, the last vectors are told   |
| market.trade-frame       | the trades join the candles in the making; now and then a peek is told        |
| market.tick              | candles that end at or before it are closed and said; 5m ones step the kernel |
| the same, own key        | behind all vectors of a 5m close in this partition: a barrier                 |
A peek is the vector of the forming candle. It is told behind a frame, PEEK_MS of market time after the one before, and PEEKS times
at most until the next wall second's tick: so four in a second of an instrument, however fast the market runs. It is an event of its
own that no decision takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from processors import candles
from processors.atr import Atr
from processors.candles import INTERVALS, Bucket, Closed, Fold
from processors.features.catalogue import FEATURE_SET, READY_BARS, feature_hash
from processors.features.kernel import KEPT, FeatureState, step_many
from processors.step import Context, Step
from schemas import hot, ids

INTERVAL: Final = "5m"
"""The candles that features are made of."""
LONGEST_MS: Final = max(INTERVALS.values())
BAR_MS: Final = INTERVALS[INTERVAL]
WINDOW: Final = 64
"""Vectors that are told of the past: as many as the longest window of a model."""
HOUR_MS: Final = INTERVALS["1h"]
PEEK_MS: Final = 250
PEEKS: Final = 4
KERNELS: Final = 512
"""Remembered at once, of 32 kB each: the instruments of a worker, before and after a close."""


class State(msgspec.Struct, frozen=True):
    """Of one instrument, or of a partition's barriers. `kernel`: bytes of the FeatureState after the last closed 5-minute candle.

    `peeked_at`: market time of the last peek; `peeks`: how many there were since a wall second's tick. `barred_to`: last barrier.
    `atr`: of closed hourly candles.
    """

    version: int = 2
    source: str = ""
    fold: Fold = Fold()
    kernel: bytes = b""
    peeked_at: int = 0
    peeks: int = 0
    barred_to: int = 0
    atr: Atr = Atr()


def barrier_key(partition: int) -> str:
    """Of a partition's own state. It must be asked last."""
    return f"barrier/{partition}"


def is_barrier(key: str) -> bool:
    return key.startswith("barrier/")


class Together:
    """What a tick closes, taken through the kernel in one pass. It saves time and nothing else: every instrument comes to what it
    would come to alone, bit for bit.

    A close is told to one partition after another, and one pass for all costs half of one for each: the first tick of a
    close has the others' instruments looked at too, as long as most are found unchanged when their own tick comes.
    """

    def __init__(self) -> None:
        self._at = -1
        self._ends: dict[str, tuple[State, _End]] = {}
        self._met: dict[str, State] = {}
        self._kept = self._changed = 0

    def take(self, tick: hot.Tick, states: Mapping[str, State], others: Mapping[str, State]) -> None:
        """`states`: of the tick's partition, by instrument; `others`: of those beside it."""
        if tick.at != self._at:
            self._at, self._ends, self._met = tick.at, {}, {}
            if not tick.at % BAR_MS:
                self._ahead(tick, others)
        met = [self._met[key] is state for key, state in states.items() if key in self._met]
        self._kept, self._changed = self._kept + sum(met), self._changed + len(met) - sum(met)
        self._look(tick, {key: state for key, state in states.items() if self._known(key, state, tick) is None})

    def _ahead(self, tick: hot.Tick, others: Mapping[str, State]) -> None:
        worth, self._kept, self._changed = self._kept >= self._changed, 0, 0
        self._met = {key: state for key, state in others.items() if state.fold.closed_at == tick.at - candles.MINUTE_MS}
        if worth:
            self._look(tick, self._met)

    def _look(self, tick: hot.Tick, states: Mapping[str, State]) -> None:
        ends = {key: (state, _end(state, tick)) for key, state in states.items()}
        self._ends |= ends
        many = {
            key: (candle, kernel)
            for key, (state, end) in ends.items()
            if (candle := end.only) is not None and state.kernel and (kernel := _kernel(state.kernel)).bars >= KEPT
        }
        if len(many) < 2:
            return
        rows, kernels = step_many([kernel for _, kernel in many.values()], np.array([_ohlcv(c) for c, _ in many.values()]).T)
        for key, row, kernel in zip(many, rows, kernels, strict=True):
            state, end = ends[key]
            self._ends[key] = state, end._replace(stepped=_Stepped(row, kernel.bars, _remembered(kernel)))

    def _known(self, key: str, state: State, tick: hot.Tick) -> _End | None:
        was, end = self._ends.get(key, (None, None))
        return end if end is not None and was is state and end.at == tick.at else None

    def end(self, key: str, state: State, tick: hot.Tick) -> _End:
        """As taken, when this is the state that was looked at."""
        return self._known(key, state, tick) or _end(state, tick)


class _Stepped(NamedTuple):
    values: NDArray[np.float32]
    bars: int
    raw: bytes


class _End(NamedTuple):
    """What ends at `at` of one instrument. `stepped`: the kernel behind its only 5m candle, where it was asked with others."""

    at: int
    fold: Fold
    closed: Sequence[Closed]
    stepped: _Stepped | None = None

    @property
    def only(self) -> Closed | None:
        found = [candle for candle in self.closed if candle.interval == INTERVAL]
        return found[0] if len(found) == 1 else None


def _end(state: State, tick: hot.Tick) -> _End:
    fold, closed = candles.close(state.fold, tick.at)
    return _End(tick.at, fold, closed)


def _ohlcv(candle: Closed) -> tuple[float, float, float, float, float]:
    return candle.o, candle.h, candle.l, candle.c, candle.v


def step(state: State | None, event: Any, context: Context, together: Together | None = None) -> Step[State]:
    state = state or State()
    match event:
        case hot.TradeFrame():
            fold = candles.trades(state.fold, event.first_id, event.t, event.p, event.q, event.m, backfilled=event.backfilled)
            return _peeked(replace(state, source=event.source, fold=fold), event, context)
        case hot.Tick():
            if is_barrier(context.key):
                return _barred(state, event)
            end = together.end(context.key, state, event) if together else _end(state, event)
            if not event.boundary and state.peeks:
                state = replace(state, peeks=0)
            return _closed(state, end, context)
        case hot.CandleHistory():
            return _warmed(state, event)
    raise TypeError(f"features does not take {type(event).__name__}")


def _warmed(state: State, history: hot.CandleHistory) -> Step[State]:
    """A history that tells nothing new (the gateway has started again) leaves everything as it is."""
    fold = candles.seed(state.fold, history.at, history.c[-1], history.next_id, list(_buckets(history)))
    if fold.closed_at == state.fold.closed_at:
        return Step(replace(state, fold=fold))
    kernel = FeatureState()
    rows = kernel.replay(*(np.asarray(column) for column in (history.o, history.h, history.l, history.c, history.v)))
    warm = State(source=history.source, fold=fold, kernel=kernel.to_bytes(), atr=_hourly(history))
    if len(rows) < READY_BARS or history.interval != INTERVAL:
        return Step(warm)
    told = hot.FeatureHistory(
        event_id=ids.event_id("market.feature-history", history.event_id, feature_hash()),
        type="market.feature-history",
        at=history.at,
        instrument=history.instrument,
        interval=INTERVAL,
        bar_ms=BAR_MS,
        feature_set=FEATURE_SET,
        feature_hash=feature_hash(),
        rows=rows[max(READY_BARS - 1, len(rows) - WINDOW) :].tolist(),
        source=history.source,
    )
    return Step(warm, [told])


def _hourly(history: hot.CandleHistory) -> Atr:
    """Over the whole hours of the history; the hour that it ends in goes on in the fold."""
    atr, hour = Atr(), list[tuple[float, float, float]]()
    for open_at, high, low, close in zip(history.open_at, history.h, history.l, history.c, strict=False):
        if open_at % HOUR_MS == 0:
            hour = []
        hour.append((high, low, close))
        if (open_at + BAR_MS) % HOUR_MS == 0 and len(hour) == HOUR_MS // BAR_MS:
            atr = atr.after(max(h for h, _, _ in hour), min(low for _, low, _ in hour), close)
    return atr


def _barred(state: State, tick: hot.Tick) -> Step[State]:
    """One a close, however many ticks tell it; a tick that jumps over several closes is one barrier."""
    closed_to = tick.at // BAR_MS * BAR_MS
    if closed_to <= state.barred_to:
        return Step(state)
    barrier = hot.Barrier(
        event_id=ids.event_id("market.barrier", tick.partition, closed_to, feature_hash()),
        type="market.barrier",
        at=closed_to,
        partition=tick.partition,
        interval=INTERVAL,
    )
    return Step(replace(state, barred_to=closed_to), [barrier])


def _buckets(history: hot.CandleHistory) -> Iterator[Bucket]:
    """What longer candles may go on from. Nothing, where the message is too old to say what was bought."""
    rows = zip(
        *(history.open_at, history.o, history.h, history.l, history.c, history.v),
        *(history.quote_volume, history.taker_buy_volume, history.trades),
        strict=False,
    )
    for open_at, o, h, l, c, v, quote, taker_buy, trades in rows:  # noqa: E741
        if trades and open_at >= history.at - LONGEST_MS:
            yield Bucket(open_at, o, h, l, c, v, quote, taker_buy, trades, 0, history.next_id - 1, True)


def _peeked(state: State, frame: hot.TradeFrame, context: Context) -> Step[State]:
    if frame.at - state.peeked_at < PEEK_MS or state.peeks >= PEEKS or not state.kernel:
        return Step(state)
    forming, kernel = candles.unfinished(state.fold, INTERVAL), _kernel(state.kernel)
    if forming is None or forming.last_id != state.fold.last_id or not kernel.ready:
        return Step(state)  # the newest trade stands behind the candle's end, and the tick that says so is on its way
    values = kernel.peek(forming.o, forming.h, forming.l, forming.c, forming.v)
    peek = hot.Peek(
        event_id=ids.event_id("market.peek", context.key, forming.open_at, forming.last_id, feature_hash()),
        type="market.peek",
        at=frame.at,
        instrument=context.key,
        interval=INTERVAL,
        open_at=forming.open_at,
        o=forming.o,
        h=forming.h,
        l=forming.l,
        c=forming.c,
        v=forming.v,
        feature_set=FEATURE_SET,
        feature_hash=feature_hash(),
        bars=kernel.bars,
        values=values.tolist(),
        source=frame.source,
    )
    return Step(replace(state, peeked_at=frame.at, peeks=state.peeks + 1), [peek])


_kernels: dict[bytes, FeatureState] = {}
"""By their bytes, the newest last: read once a candle and not four times a second. Nobody steps them."""


def _kernel(raw: bytes) -> FeatureState:
    found = _kernels.get(raw)
    if found is None:
        _kernels[raw] = found = FeatureState.from_bytes(raw)
        _forget()
    return found


def _remembered(kernel: FeatureState) -> bytes:
    raw = kernel.to_bytes()
    _kernels[raw] = kernel
    _forget()
    return raw


def _forget() -> None:
    while len(_kernels) > KERNELS:
        del _kernels[next(iter(_kernels))]


def _closed(state: State, end: _End, context: Context) -> Step[State]:
    fold = end.fold
    if not end.closed:
        return Step(state if fold is state.fold else replace(state, fold=fold))
    events: list[Any] = []
    raw, atr = state.kernel, state.atr
    at_hours = [candle for candle in end.closed if candle.interval == "1h"]
    for candle in end.closed:
        said = _candle(context.key, candle, state.source)
        events.append(said)
        if candle.interval == INTERVAL:
            while at_hours and at_hours[0].close_at <= candle.close_at:
                hour = at_hours.pop(0)
                atr = atr.after(hour.h, hour.l, hour.c)
            stepped = end.stepped or _stepped(raw, candle)
            raw = stepped.raw
            events.append(_features(said, stepped, atr))
    return Step(replace(state, fold=fold, kernel=raw, atr=atr), events)


def _stepped(raw: bytes, candle: Closed) -> _Stepped:
    kernel = FeatureState.from_bytes(raw) if raw else FeatureState()
    values = kernel.step(*_ohlcv(candle))
    return _Stepped(values, kernel.bars, kernel.to_bytes())


def _candle(instrument: str, c: Closed, source: str) -> hot.Candle:
    return hot.Candle(
        event_id=ids.event_id("market.candle", instrument, c.interval, c.open_at),
        type="market.candle",
        at=c.close_at,
        instrument=instrument,
        interval=c.interval,
        open_at=c.open_at,
        o=c.o,
        h=c.h,
        l=c.l,
        c=c.c,
        v=c.v,
        quote_volume=c.quote_volume,
        taker_buy_volume=c.taker_buy_volume,
        trades=c.trades,
        first_id=c.first_id,
        last_id=c.last_id,
        flat=c.flat,
        backfilled=c.backfilled,
        late=c.late,
        source=source,
    )


def _features(candle: hot.Candle, stepped: _Stepped, atr: Atr) -> hot.Features:
    return hot.Features(
        event_id=ids.event_id("market.features", candle.event_id, feature_hash()),
        type="market.features",
        at=candle.at,
        instrument=candle.instrument,
        interval=candle.interval,
        candle_id=candle.event_id,
        open_at=candle.open_at,
        o=candle.o,
        h=candle.h,
        l=candle.l,
        c=candle.c,
        v=candle.v,
        feature_set=FEATURE_SET,
        feature_hash=feature_hash(),
        ready=stepped.bars >= READY_BARS,
        bars=stepped.bars,
        values=stepped.values.tolist(),
        source=candle.source,
        atr_1h=atr.share_of(candle.c),
    )
