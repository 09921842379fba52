"""The stage `features`: trades and ticks into closed candles, each closed 5-minute candle into a feature vector.

| event                    | what happens                                                                  |
|--------------------------|-------------------------------------------------------------------------------|
| market.candle-history    | the fold begins at its end, the kernel is warmed on its candles               |
| market.trade-frame       | the trades join the candles in the making                                     |
| market.tick              | candles that end at or before it are closed and said; 5m ones step the kernel |
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from processors import candles
from processors.candles import Closed, Fold
from processors.features.catalogue import FEATURE_SET, feature_hash
from processors.features.kernel import FeatureState
from processors.step import Context, Step
from schemas import hot, ids

INTERVAL = "5m"
"""The candles that features are made of."""


class State(msgspec.Struct, frozen=True):
    """Of one instrument. `kernel`: bytes of the FeatureState after the last closed 5-minute candle."""

    version: int = 1
    source: str = ""
    fold: Fold = Fold()
    kernel: bytes = b""


def step(state: State | None, event: Any, context: Context) -> Step[State]:
    state = state or State()
    match event:
        case hot.TradeFrame():
            fold = candles.trades(state.fold, event.first_id, event.t, event.p, event.q, event.m, backfilled=event.backfilled)
            return Step(replace(state, source=event.source, fold=fold))
        case hot.Tick():
            return _closed(state, event, context)
        case hot.CandleHistory():
            return Step(_warmed(state, event))
    raise TypeError(f"features does not take {type(event).__name__}")


def _warmed(state: State, history: hot.CandleHistory) -> State:
    """A history that tells nothing new (the gateway has started again) leaves everything as it is."""
    fold = candles.seed(state.fold, history.at, history.c[-1], history.next_id)
    if fold.closed_at == state.fold.closed_at:
        return replace(state, fold=fold)
    kernel = FeatureState()
    kernel.replay(*(np.asarray(column) for column in (history.o, history.h, history.l, history.c, history.v)))
    return State(source=history.source, fold=fold, kernel=kernel.to_bytes())


def _closed(state: State, tick: hot.Tick, context: Context) -> Step[State]:
    instrument = context.key
    fold, closed = candles.close(state.fold, tick.at)
    if not closed:
        return Step(state if fold is state.fold else replace(state, fold=fold))
    events: list[Any] = []
    kernel: FeatureState | None = None
    for candle in closed:
        said = _candle(instrument, candle, state.source)
        events.append(said)
        if candle.interval == INTERVAL:
            kernel = kernel or (FeatureState.from_bytes(state.kernel) if state.kernel else FeatureState())
            values = kernel.step(candle.o, candle.h, candle.l, candle.c, candle.v)
            events.append(_features(said, kernel, [float(value) for value in values]))
    return Step(replace(state, fold=fold, kernel=kernel.to_bytes() if kernel else state.kernel), events)


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


def _features(candle: hot.Candle, kernel: FeatureState, values: list[float]) -> hot.Features:
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
        ready=kernel.ready,
        bars=kernel.bars,
        values=values,
        source=candle.source,
    )
