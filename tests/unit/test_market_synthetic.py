"""The made-up market is the same every time, looks like a market, and hides exactly the signal that it declares."""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.errors import UserError
from infra.venue.local.market import open_source
from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Trade
from infra.venue.local.market.expand import aggregate
from infra.venue.local.market.synthetic import BLOCK, DRIFT_CANDLES, Candles, SyntheticMarket, candles, planted

AHEAD = DRIFT_CANDLES
N = 12_000


def rule(c: Candles) -> NDArray[np.int64]:
    """What anyone may compute from closed candles: a burst of volume that closes at its extreme, with its direction."""
    _, high, low, close, volume = c.floats()
    total = np.cumsum(np.vstack((np.zeros((1, volume.shape[1])), volume)), axis=0)
    ratio = np.zeros_like(volume)
    ratio[19:] = volume[19:] / ((total[20:] - total[:-20]) / 20)
    span = np.where(high > low, high - low, 1.0)
    close_pos = np.where(high > low, (close - low) / span, 0.5)
    signal: NDArray[np.int64] = np.where(ratio > 2.5, np.where(close_pos > 0.85, 1, np.where(close_pos < 0.15, -1, 0)), 0)
    return signal


def forward(c: Candles) -> NDArray[np.float64]:
    close = np.log(c.floats()[3])
    return close[AHEAD:] - close[:-AHEAD]


def test_the_same_seed_gives_the_same_market_whoever_is_asked_for() -> None:
    whole = candles(7, None, 2500)
    again = candles(7, ["ADAUSDT", "BTCUSDT"], 1500)
    names = [s.name for s in whole.symbols]
    for i, symbol in enumerate(again.symbols):
        j = names.index(symbol.name)
        assert np.array_equal(again.close[:, i], whole.close[:1500, j])
        assert np.array_equal(again.volume[:, i], whole.volume[:1500, j])
    assert not np.array_equal(whole.close, candles(8, None, 2500).close)


def test_candles_are_sound_and_joined() -> None:
    c = candles(7, None, 3 * BLOCK)
    assert np.array_equal(c.open[1:], c.close[:-1])
    assert (c.low <= np.minimum(c.open, c.close)).all()
    assert (c.high >= np.maximum(c.open, c.close)).all()
    assert c.low.min() > 0
    assert c.volume.min() >= 4
    assert np.array_equal(np.diff(c.open_t), np.full(3 * BLOCK - 1, CANDLE_MS))


def test_floats_are_what_a_decoder_reads() -> None:
    c = candles(7, None, 50)
    _, _, _, close, volume = c.floats()
    for i, symbol in enumerate(c.symbols):
        assert close[:, i].tolist() == [float(str(ticks * symbol.tick)) for ticks in c.close[:, i].tolist()]
        assert volume[:, i].tolist() == [float(str(steps * symbol.step)) for steps in c.volume[:, i].tolist()]


def test_it_moves_like_a_market() -> None:
    c = candles(7, None, N, planted_signal=False)
    r = np.diff(np.log(c.floats()[3]), axis=0)
    sd = r.std(axis=0)
    assert (sd > 0.0015).all()
    assert (sd < 0.0040).all()  # jumps included
    kurtosis = (r**4).mean(axis=0) / (r**2).mean(axis=0) ** 2
    assert (kurtosis > 3.5).all()
    size = np.minimum(np.abs(r), 0.01)  # jumps come alone
    clusters = [np.corrcoef(size[:-1, i], size[1:, i])[0, 1] for i in range(len(c.symbols))]
    assert np.mean(clusters) > 0.05  # volatility comes in clusters
    assert abs(np.corrcoef(r[:-1, 0], r[1:, 0])[0, 1]) < 0.04
    assert np.corrcoef(np.clip(r, -0.01, 0.01).T)[0, 1] > 0.3  # one market


def test_patterns_are_labelled_and_about_one_in_thirty() -> None:
    sign = planted(7, None, N)
    per_symbol = N / (sign != 0).sum(axis=0)
    assert (per_symbol > 25).all()
    assert (per_symbol < 40).all()
    assert abs(sign.sum()) < 0.1 * np.abs(sign).sum()  # both ways alike


def test_a_simple_rule_finds_the_signal_in_a_market_it_has_not_seen() -> None:
    c = candles(11, None, N)
    found = rule(c)
    assert (found[c.planted != 0] == c.planted[c.planted != 0]).mean() > 0.95
    rows = found[:-AHEAD] != 0
    hits = np.sign(forward(c)[rows]) == found[:-AHEAD][rows]
    assert hits.sum() > 1000
    assert 0.77 < hits.mean() < 0.87


def test_without_the_planted_signal_the_same_rule_finds_nothing() -> None:
    c = candles(11, None, N, planted_signal=False)
    found = rule(c)
    rows = found[:-AHEAD] != 0
    hits = np.sign(forward(c)[rows]) == found[:-AHEAD][rows]
    assert hits.sum() > 500
    assert 0.45 < hits.mean() < 0.55
    assert not momentum(c)
    assert momentum(candles(11, None, N))  # the same measure sees the drift where it is planted


def momentum(c: Candles) -> bool:
    """Whether any past return of the last hour says something about the next one (rank correlation beyond noise)."""
    close = np.log(c.floats()[3])
    ahead = forward(c)
    for back in (1, 3, 6, 12):
        past = close[back:-AHEAD] - close[: -AHEAD - back]
        if abs(np.corrcoef(past.ravel(), ahead[back:].ravel())[0, 1]) > 0.05:
            return True
    return False


def test_between_patterns_nothing_is_predictable() -> None:
    c = candles(13, None, N)
    age = np.zeros_like(c.close)
    for i in range(1, len(c)):
        age[i] = np.where(c.planted[i] != 0, 0, age[i - 1] + 1)
    close = np.log(c.floats()[3])
    rows = age[AHEAD:-AHEAD] >= 2 * AHEAD
    past, ahead = (close[AHEAD:] - close[:-AHEAD])[:-AHEAD][rows], forward(c)[AHEAD:][rows]
    assert rows.sum() > 5000
    assert abs(np.corrcoef(past, ahead)[0, 1]) < 0.06


def test_positions_on_the_signal_meet_their_take_profit_often_and_their_stop_sometimes() -> None:
    c = candles(17, None, 6000)
    _, high, low, close, _ = c.floats()
    first = {"take-profit": 0, "stop": 0, "neither": 0}
    for k, s in zip(*np.nonzero(c.planted[:-60]), strict=True):
        side, entry = int(c.planted[k, s]), close[k, s]
        best, worst = (high, low) if side > 0 else (low, high)
        for i in range(k + 1, k + 61):
            if side * (worst[i, s] / entry - 1) <= -0.025:
                first["stop"] += 1
                break
            if side * (best[i, s] / entry - 1) >= 0.015:
                first["take-profit"] += 1
                break
        else:
            first["neither"] += 1
    n = sum(first.values())
    assert first["take-profit"] / n > 0.7
    assert 0.1 < first["stop"] / n < 0.3


def test_the_live_market_continues_its_history_and_adds_up_to_the_same_series() -> None:
    market = SyntheticMarket(7, ["BTCUSDT", "ADAUSDT"], history=BLOCK - 2)
    past = list(market.history())
    assert len(past) == 2 * (BLOCK - 2)
    assert past[-1].open_t + CANDLE_MS == market.start_t
    live: dict[tuple[str, int], list[Trade]] = defaultdict(list)
    for event in takewhile(lambda event: event.t < market.start_t + 5 * CANDLE_MS, market.events()):
        if isinstance(event, Trade):
            live[event.symbol, event.t - event.t % CANDLE_MS].append(event)
    series = candles(7, ["BTCUSDT", "ADAUSDT"], BLOCK + 3)
    expected = [candle for i in range(BLOCK - 2, BLOCK + 3) for candle in series.row(i)]  # over the edge of a block
    assert [aggregate(live[c.symbol, c.open_t], c.open_t) for c in expected] == expected


@pytest.mark.parametrize("candles_later", [0, 1, 40])
@pytest.mark.parametrize("ms_later", [0, 1, 123_456])
def test_a_resumed_market_goes_on_as_if_it_had_never_stopped(candles_later: int, ms_later: int) -> None:
    market = SyntheticMarket(7, ["BTCUSDT", "ETHUSDT"], history=1000)
    at = market.start_t + candles_later * CANDLE_MS + ms_later
    until = at + 2 * CANDLE_MS
    unbroken = [event for event in takewhile(lambda event: event.t < until, market.events()) if event.t > at]
    again = SyntheticMarket(7, ["BTCUSDT", "ETHUSDT"], history=1000)
    assert list(takewhile(lambda event: event.t < until, again.events(resume_t=at))) == unbroken


def test_a_symbol_or_market_that_does_not_exist_is_told() -> None:
    with pytest.raises(UserError, match="PEPEUSDT"):
        open_source("synthetic", seed=1, symbols=["PEPEUSDT"])
    with pytest.raises(UserError, match="synthetic, ticks:PATH or candles:PATH"):
        open_source("moon", seed=1)
    with pytest.raises(UserError, match="seed -1"):
        open_source("synthetic", seed=-1)


def test_the_default_market_has_eight_symbols_and_enough_past() -> None:
    market = open_source("synthetic", seed=1)
    assert market.label == "synthetic"
    assert [s.name for s in market.symbols] == list(SYMBOLS)
    assert len(list(market.history())) == 8 * 1100
