"""Histories of the features stage: warmed by the log, closed by ticks, the same after a restart."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from processors.features.kernel import FeatureState
from processors.features.step import State, Together, step
from processors.step import Context
from schemas import hot
from schemas.policy import Policy
from streams.features import home, keys

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
        quote_volume=(columns["v"] * c).tolist(),
        taker_buy_volume=(columns["v"] / 2).tolist(),
        trades=[3] * BARS,
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


def tick(at: int, *, boundary: bool = True) -> hot.Tick:
    return hot.Tick(event_id=f"t{at}", type="market.tick", at=at, partition=0, boundary=boundary, feed_age_ms=0)


COLUMNS = ("open_at", "o", "h", "l", "c", "v", "quote_volume", "taker_buy_volume", "trades")


def context_of(key: str) -> Context:
    return CONTEXT._replace(key=key)


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
    assert all(isinstance(event, hot.Candle | hot.Features | hot.Peek | hot.FeatureHistory) for event in said)
    (features,) = [event for event in said if isinstance(event, hot.Features)]
    assert [(c.interval, c.flat) for c in candles] == [("1m", False), *[("1m", True)] * 3, ("1m", False), ("5m", False)]
    assert (features.o, features.h, features.l, features.c, features.v) == (101.0, 103.0, 99.0, 99.0, 4.0)
    assert features.ready
    assert features.bars == BARS + 1
    h = history()
    kernel = FeatureState()
    rows = kernel.replay(*(np.asarray(column) for column in (h.o, h.h, h.l, h.c, h.v)))
    (past,) = [event for event in said if isinstance(event, hot.FeatureHistory)]
    assert past.rows == rows[-64:].tolist(), "windows begin with what was before the first live candle"
    assert past.at == features.open_at
    assert features.values == [float(value) for value in kernel.step(101.0, 103.0, 99.0, 99.0, 4.0)]


def test_a_restart_between_any_two_events_changes_nothing() -> None:
    whole = run(*STREET)
    for cut in range(1, len(STREET)):
        state, before = run(*STREET[:cut])
        revived = msgspec.json.decode(msgspec.json.encode(state), type=State)
        state, after = run(*STREET[cut:], state=revived)
        assert (state, before + after) == whole


def test_instruments_of_a_partition_together_come_to_what_each_comes_to_alone() -> None:
    """Warm ones, one that began yesterday, one that has never traded; over closes, empty ticks, two candles at once, a restart."""
    young = replace(history(), event_id="y", instrument="young", **{name: getattr(history(), name)[-90:] for name in COLUMNS})
    known = {"a": run(history())[0], "b": run(history(), STREET[1])[0], "young": run(young)[0], "none": State()}
    alone, beside = dict(known), {key: state and replace(state) for key, state in known.items()}
    together = Together()
    for minutes in (1, 5, 6, 10, 20, 25):
        at = BEGIN + minutes * MINUTE
        for key in ("a", "young"):
            made = replace(frame(1100 + minutes, (at - 1500, 100.0 + minutes, 1.0)), instrument=key)
            for states in (alone, beside):
                states[key] = step(states[key], made, context_of(key)).state
        here = {key: beside[key] for key in ("a", "none")}
        together.take(tick(at), here, {key: state for key, state in beside.items() if key not in here})
        if minutes == 20:  # a trade of another partition comes between the ticks of a close
            made = replace(frame(1300, (at + 500, 99.0, 1.0)), instrument="b")
            for states in (alone, beside):
                states["b"] = step(states["b"], made, context_of("b")).state
        together.take(tick(at), {key: state for key, state in beside.items() if key not in here}, here)
        for key in known:
            one, other = step(alone[key], tick(at), context_of(key)), step(beside[key], tick(at), context_of(key), together)
            assert one == other
            alone[key], beside[key] = one.state, other.state
        if minutes == 10:
            beside = {key: msgspec.json.decode(msgspec.json.encode(state), type=State) for key, state in beside.items()}


def test_the_hourly_range_is_known_from_the_history_on_and_goes_on_with_the_market() -> None:
    """By hand: true ranges of the hours of the history, the hour that it ends in (700 = 58 x 12 + 4) finished by the market."""
    h = history()
    trade = (BEGIN + 39 * MINUTE, 105.0, 1.0)
    _, said = run(h, frame(1000, (BEGIN + 1000, 101.0, 1.0), trade), tick(BEGIN + 5 * MINUTE), tick(BEGIN + 40 * MINUTE))
    first, *_, last = [event for event in said if isinstance(event, hot.Features)]
    ranges, before = [], None
    for begin in range(0, 58 * 12, 12):
        hours = slice(begin, begin + 12)
        high, low = max(h.h[hours]), min(h.l[hours])
        ranges.append(high - low if before is None else max(high - low, abs(high - before), abs(low - before)))
        before = h.c[begin + 11]
    atr = float(np.mean(ranges[:14]))
    for true_range in ranges[14:]:
        atr += (true_range - atr) / 14
    assert first.atr_1h is not None
    assert np.isclose(first.atr_1h, atr / first.c)
    high, low = max(*h.h[58 * 12 :], 105.0), min(*h.l[58 * 12 :], 101.0)
    atr += (max(high - low, abs(high - before), abs(low - before)) - atr) / 14
    assert last.atr_1h is not None
    assert np.isclose(last.atr_1h, atr / last.c), "the vector of the close that ends an hour knows it"


def test_a_repeated_history_changes_nothing() -> None:
    state, _ = run(*STREET)
    assert run(history(), state=state) == (state, [])


def test_no_candle_closes_without_a_tick() -> None:
    _, said = run(STREET[0], frame(1000, (BEGIN + 1000, 101.0, 1.0)), frame(1001, (BEGIN + 20 * MINUTE, 101.0, 1.0)))
    assert [event.type for event in said] == ["market.feature-history", "market.peek"]


def test_a_close_has_one_barrier_a_partition_behind_all_its_vectors() -> None:
    context = CONTEXT._replace(key="barrier/7")
    assert keys(tick(BEGIN), ("barrier/0", BTC)) == [BTC, "barrier/0"]
    assert keys(tick(BEGIN), ("barrier/0",)) == keys(tick(BEGIN), ()) == [], "nothing to wait for"
    assert home("barrier/7") == 7
    state, barriers = None, []
    for at in (BEGIN, BEGIN + 1000, BEGIN + MINUTE, BEGIN, BEGIN + 5 * MINUTE + 1, BEGIN + 17 * MINUTE, BEGIN + 18 * MINUTE):
        state, events = step(state, tick(at), context)
        barriers += [event.at for event in events]
    assert barriers == [BEGIN, BEGIN + 5 * MINUTE, BEGIN + 15 * MINUTE]


def peeks(said: list[Any]) -> list[hot.Peek]:
    return [event for event in said if isinstance(event, hot.Peek)]


def test_a_peek_is_the_vector_that_would_come_if_the_candle_closed_now() -> None:
    trade = (BEGIN + 5 * MINUTE - 1, 104.0, 1.5)
    state, said = run(*STREET[:4], frame(1003, trade))
    (*_, peek) = peeks(said)
    _, after = run(tick(BEGIN + 5 * MINUTE), state=state)
    (features,) = [event for event in after if isinstance(event, hot.Features)]
    assert peek.values == features.values
    assert (peek.open_at, peek.o, peek.h, peek.l, peek.c, peek.v) == (BEGIN, 101.0, 104.0, 99.0, 104.0, 5.5)
    assert (peek.at, peek.bars, features.bars) == (trade[0], BARS, BARS + 1)
    assert peek.feature_hash == features.feature_hash


def test_peeks_leave_no_trace_in_what_is_closed() -> None:
    trades = [(BEGIN + n * 100, 100.0 + n % 7, 1.0) for n in range(2_990)]
    often = [frame(1000 + n, trade) for n, trade in enumerate(trades)]
    seldom = [frame(1000 + n, *trades[n : n + 299]) for n in range(0, len(trades), 299)]
    ends = (tick(BEGIN + 5 * MINUTE),)
    told = [[event for event in run(history(), *frames, *ends)[1] if event.type != "market.peek"] for frames in (often, seldom)]
    assert told[0] == told[1]


def test_four_peeks_in_a_second_of_the_market_and_four_in_a_second_of_the_wall() -> None:
    """A wall second's tick stands between the seconds of the wall; the market may run at any speed in them."""
    slow = [frame(1000 + n, (BEGIN + n * 20, 101.0, 1.0)) for n in range(50)]
    assert len(peeks(run(history(), *slow)[1])) == 4
    fast = [frame(1000 + n, (BEGIN + n * 5_000, 101.0, 1.0)) for n in range(50)]
    assert len(peeks(run(history(), *fast)[1])) == 4
    assert len(peeks(run(history(), *fast[:20], tick(BEGIN + 100_000, boundary=False), *fast[20:])[1])) == 8


def test_nothing_is_peeked_at_before_600_candles_and_behind_a_boundary_that_no_tick_has_confirmed() -> None:
    short = msgspec.structs.replace(history(), **{name: getattr(history(), name)[-500:] for name in "ohlcv"})
    assert run(short, frame(1000, (BEGIN + 1000, 101.0, 1.0)))[1] == []
    assert peeks(run(history(), frame(1000, (BEGIN + 5 * MINUTE, 101.0, 1.0)))[1]) == []


def test_longer_candles_go_on_from_the_history() -> None:
    """700 candles end 20 minutes into the hour: the quarter and the hour that close next know what came before the log."""
    _, said = run(STREET[0], frame(1000, (BEGIN + 1000, 101.0, 1.0)), tick(BEGIN + 40 * MINUTE))
    told = {c.interval: c for c in reversed(said) if isinstance(c, hot.Candle)}
    h = history()
    quarter, hour = told["15m"], told["1h"]
    assert (quarter.o, quarter.trades, quarter.backfilled, quarter.first_id) == (h.o[-1], 4, True, 0)
    assert (hour.o, hour.v, hour.trades) == (h.o[-4], sum(h.v[-4:-1]) + (h.v[-1] + 1.0), 13)
    old = msgspec.structs.replace(h, quote_volume=[], taker_buy_volume=[], trades=[])
    _, said = run(old, frame(1000, (BEGIN + 1000, 101.0, 1.0)), tick(BEGIN + 40 * MINUTE))
    assert [(c.trades, c.backfilled) for c in said if isinstance(c, hot.Candle) and c.interval == "1h"] == [(1, False)]
