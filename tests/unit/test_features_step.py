"""Histories of the features stage: warmed by the log, closed by ticks, the same after a restart."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from processors.features.kernel import FeatureState
from processors.features.step import State, step
from processors.step import Context
from schemas import hot
from schemas.policy import Policy

BTC = "binance.usdm.BTCUSDT"
MINUTE, BARS = 60_000, 700
BEGIN = BARS * 5 * MINUTE
CONTEXT = Context("market.trades", 0, 0, Policy(), 0, "sim", MappingProxyType({}), "", BTC)


def history() -> hot.CandleHistory:
    rng = np.random.default_rng(1)
    c = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, BARS)))
    o = np.concatenate([[100.0], c[:-1]])
    spread = rng.uniform(0, 0.2, BARS)
    columns = {"o": o, "h": np.maximum(o, c) + spread, "l": np.minimum(o, c) - spread, "c": c, "v": rng.uniform(1, 9, BARS)}
    return hot.CandleHistory(
        event_id="h",
        type="market.candle-history",
        at=BEGIN,
        instrument=BTC,
        interval="5m",
        open_at=[n * 5 * MINUTE for n in range(BARS)],
        next_id=1000,
        source="synthetic",
        **{name: column.tolist() for name, column in columns.items()},
    )


def frame(first_id: int, *trades: tuple[int, float, float]) -> hot.TradeFrame:
    t, p, q = ([trade[i] for trade in trades] for i in range(3))
    return hot.TradeFrame(
        event_id=f"f{first_id}",
        type="market.trade-frame",
        at=int(t[-1]),
        instrument=BTC,
        first_id=first_id,
        t=[int(x) for x in t],
        p=p,
        q=q,
        m=[0] * len(t),
        source="synthetic",
    )


def tick(at: int) -> hot.Tick:
    return hot.Tick(event_id=f"t{at}", type="market.tick", at=at, partition=0, boundary=True, feed_age_ms=0)


def run(*events: Any, state: State | None = None) -> tuple[State | None, list[Any]]:
    said: list[Any] = []
    for event in events:
        state, more = step(state, event, CONTEXT)
        said += more
    return state, said


STREET = [
    history(),
    frame(1000, (BEGIN + 1000, 101.0, 1.0), (BEGIN + 2000, 103.0, 2.0)),
    tick(BEGIN + MINUTE),
    frame(1002, (BEGIN + 4 * MINUTE, 99.0, 1.0)),
    tick(BEGIN + 5 * MINUTE),
]


def test_features_come_warm_from_the_log_at_the_first_close() -> None:
    _, said = run(*STREET)
    candles = [event for event in said if isinstance(event, hot.Candle)]
    (features,) = [event for event in said if isinstance(event, hot.Features)]
    assert [(c.interval, c.flat) for c in candles] == [("1m", False), *[("1m", True)] * 3, ("1m", False), ("5m", False)]
    assert (features.o, features.h, features.l, features.c, features.v) == (101.0, 103.0, 99.0, 99.0, 4.0)
    assert features.ready
    assert features.bars == BARS + 1
    h = history()
    kernel = FeatureState()
    kernel.replay(*(np.asarray(column) for column in (h.o, h.h, h.l, h.c, h.v)))
    assert features.values == [float(value) for value in kernel.step(101.0, 103.0, 99.0, 99.0, 4.0)]


def test_a_restart_between_any_two_events_changes_nothing() -> None:
    whole = run(*STREET)
    for cut in range(1, len(STREET)):
        state, before = run(*STREET[:cut])
        revived = msgspec.json.decode(msgspec.json.encode(state), type=State)
        state, after = run(*STREET[cut:], state=revived)
        assert (state, before + after) == whole


def test_a_repeated_history_changes_nothing() -> None:
    state, _ = run(*STREET)
    assert run(history(), state=state) == (state, [])


def test_no_candle_closes_without_a_tick() -> None:
    _, said = run(STREET[0], frame(1000, (BEGIN + 1000, 101.0, 1.0)), frame(1001, (BEGIN + 20 * MINUTE, 101.0, 1.0)))
    assert said == []
