"""Regimes: a symbol's by its features, the market's when the last partition has closed a candle, whatever the order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from processors import regime, signals
from processors.features.catalogue import INDEX, NAMES, feature_hash
from processors.signals import State
from processors.step import Context
from schemas import hot
from schemas.ids import partition_of
from schemas.policy import Policy
from schemas.regime import MarketRegime, Regime
from schemas.signals import Wish

BAR = 300_000
NAMED = [f"binance.usdm.{name}USDT" for name in ("BTC", "ETH", "SOL", "XRP")]
CALM = {"hv_20": 0.002, "hv_50": 0.002}


def row(**features: float) -> np.ndarray:
    found = np.zeros(len(NAMES), dtype=np.float32)
    for name, value in (CALM | features).items():
        found[INDEX[name]] = value
    return found


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, Regime.RANGE),
        ({"adx_14": 0.3, "trend_strength": 1.2}, Regime.TREND),
        ({"adx_14": 0.3, "trend_strength": 0.9}, Regime.RANGE),
        ({"adx_14": 0.2, "trend_strength": 2.0}, Regime.RANGE),
        ({"hv_20": 0.0031}, Regime.VOLATILE),
        ({"hv_20": 0.0011, "adx_14": 0.5, "trend_strength": 2.0}, Regime.QUIET),
        ({"rel_momentum": -3.5, "ret_12": -0.03, "hv_20": 0.004}, Regime.CRASH),
        ({"rel_momentum": -3.5, "ret_12": -0.01}, Regime.RANGE),
        ({"rel_momentum": 3.5, "ret_12": 0.03, "hv_20": 0.004}, Regime.VOLATILE),
        ({"hv_20": 0.0, "hv_50": 0.0}, Regime.RANGE),
    ],
)
def test_a_symbols_regime(features: dict[str, float], expected: Regime) -> None:
    assert regime.of(row(**features)).regime is expected


def windows(*returns: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for number, mine in enumerate(returns):
        rows = np.zeros((len(mine), len(NAMES)), dtype=np.float32)
        rows[:, INDEX["log_ret_1"]] = mine
        found[f"s{number}"] = rows
    return found


def test_the_correlation_is_the_mean_over_all_pairs() -> None:
    chance = np.random.default_rng(4)
    common = chance.normal(size=60)
    returns = [0.01 * (common + 0.8 * chance.normal(size=60)) for _ in range(5)]
    found = regime.wide(windows(*returns), [Regime.RANGE] * 5)
    table = np.array(returns, dtype=np.float32).astype(np.float64)[:, -regime.BARS :]
    matrix = np.corrcoef(table)
    assert found.correlation == pytest.approx(np.mean([matrix[i, j] for i, j in itertools.combinations(range(5), 2)]), abs=1e-6)
    for place, one in enumerate(found.couplings):
        rest = np.delete(table, place, axis=0).mean(axis=0)
        assert one == pytest.approx(np.corrcoef(table[place], rest)[0, 1], abs=1e-6)


def test_who_does_not_move_or_is_too_young_is_correlated_with_nobody() -> None:
    chance = np.random.default_rng(4)
    moving = [chance.normal(size=60) for _ in range(2)]
    found = regime.wide(windows(np.zeros(60), moving[0], moving[0][:10], moving[1]), [Regime.RANGE] * 4)
    alone = regime.wide(windows(*moving), [Regime.RANGE] * 2)
    assert (found.correlation, found.couplings) == (alone.correlation, (0.0, alone.couplings[0], 0.0, alone.couplings[1]))
    assert regime.wide(windows(np.zeros(60)), [Regime.QUIET]) == (Regime.QUIET, 0.0, (0.0,))


def test_a_third_in_a_crash_is_a_crash_and_among_equals_the_calmer_counts() -> None:
    def of(*regimes: Regime) -> Regime:
        return regime.wide(windows(*[np.zeros(2)] * len(regimes)), regimes).regime

    assert of(Regime.CRASH, Regime.RANGE, Regime.RANGE) is Regime.CRASH
    assert of(Regime.CRASH, *[Regime.TREND] * 3) is Regime.TREND
    assert of(Regime.VOLATILE, Regime.TREND) is Regime.TREND


class Market:
    """Instruments of several partitions and their states, fed in any order."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def warm(self) -> None:
        for name in NAMED:
            rows = [row(log_ret_1=n / 1e4).tolist() for n in range(64)]
            history = hot.FeatureHistory(
                "h", "market.feature-history", 10 * BAR, name, "5m", BAR, "u49.v1", feature_hash(), rows, "candles"
            )
            self.take(history, (name,))

    def close(self, n: int, *names: str, **features: float) -> list[Any]:
        """Vectors, and one barrier for all of these instruments: they stand in one partition."""
        for name in names:
            values = row(log_ret_1=0.001 * (n % 3) + NAMED.index(name) / 1e5, **features).tolist()
            at = (n + 1) * BAR
            plain = (1.0,) * 5
            self.take(
                hot.Features(
                    f"{name}{n}",
                    "market.features",
                    at,
                    name,
                    "5m",
                    "c",
                    n * BAR,
                    *plain,
                    "u49.v1",
                    "abc",
                    True,
                    700,
                    values,
                    "candles",
                ),
                (name,),
            )
        return self.take(hot.Barrier("b", "market.barrier", (n + 1) * BAR, 0, "5m"), sorted(names))

    def take(self, event: Any, keys: Any) -> list[Any]:
        said, changed = [], {}
        for key in keys:
            ctx = Context("", 0, 0, Policy(), 0, "sim", dict(self.states), "", key)
            changed[key], events = signals.step(self.states.get(key), event, ctx)
            said += events
        self.states |= changed
        return said


def partitions() -> list[tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for name in NAMED:
        found.setdefault(partition_of(name), []).append(name)
    return [tuple(names) for names in found.values()]


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(partitions())))))
def test_the_market_is_told_once_a_close_by_the_last_partition_and_the_same_in_any_order(order: tuple[int, ...]) -> None:
    def told(order: tuple[int, ...]) -> list[MarketRegime]:
        market, found = Market(), []
        market.warm()
        for n in (10, 11):
            for place in order:
                said = market.close(n, *partitions()[place])
                wide = [event for event in said if isinstance(event, MarketRegime)]
                assert len(wide) == (place == order[-1])
                found += wide
        return found

    mine = told(order)
    assert mine == told(tuple(sorted(order)))
    assert [member.instrument for member in mine[0].members] == sorted(NAMED)


def test_a_partition_that_runs_ahead_changes_nothing_about_the_close_before() -> None:
    *first, last = partitions()
    together, ahead = Market(), Market()
    for market in (together, ahead):
        market.warm()
        for names in first:
            market.close(10, *names)
    for names in first:
        ahead.close(11, *names)
    (expected,) = [event for event in together.close(10, *last) if isinstance(event, MarketRegime)]
    assert [event for event in ahead.close(10, *last) if isinstance(event, MarketRegime)] == [expected]


def test_who_is_silent_for_an_hour_holds_up_nobody() -> None:
    market = Market()
    market.warm()
    others = partitions()[1:]
    told = [
        event.at for n in range(10, 26) for names in others for event in market.close(n, *names) if isinstance(event, MarketRegime)
    ]
    assert told == [(n + 1) * BAR for n in range(9 + signals.SILENT_BARS, 26)]


def test_a_regime_stands_on_the_decision_and_tells_since_when_it_is() -> None:
    market = Market()
    market.warm()
    said = [
        *market.close(10, NAMED[0]),
        *market.close(11, NAMED[0], hv_20=0.004),
        *market.close(12, NAMED[0], hv_20=0.004),
    ]
    regimes = [(event.regime, event.since) for event in said if isinstance(event, hot.SymbolRegime)]
    assert regimes == [(Regime.RANGE, 11 * BAR), (Regime.VOLATILE, 12 * BAR), (Regime.VOLATILE, 12 * BAR)]
    assert [event.regime for event in said if isinstance(event, Wish)] == [one for one, _ in regimes]
