"""Figures of forecasts whose worth is known, and the trip-wire for those that are too good."""

from __future__ import annotations

import numpy as np
import pytest

from processors.learning import skill
from processors.learning.labels import HORIZON


def forecast(strength: float, days: int = 40, symbols: int = 2, seed: int = 4) -> skill.Forecast:
    """Returns in deviations of which `strength` is the correlation with the forecast."""
    rng = np.random.default_rng(seed)
    bar = np.repeat(np.arange(days * skill.DAY), symbols)
    known, unknown = rng.normal(size=(2, len(bar)))
    target = strength * known + np.sqrt(1 - strength**2) * unknown
    return skill.Forecast(bar, strength * known, target, 0.005 * target)


def test_a_forecast_of_known_strength_is_told_as_such() -> None:
    found = skill.of_returns(forecast(0.2))
    assert found["ic"] == pytest.approx(0.2, abs=0.02)
    assert found["rank_ic"] == pytest.approx(0.2, abs=0.02)
    assert found["r2_zero"] == pytest.approx(0.04, abs=0.01)
    assert found["rmse"] == pytest.approx(np.sqrt(1 - 0.04), abs=0.02)
    assert found["hit_rate"] == pytest.approx(0.5 + np.arcsin(0.2) / np.pi, abs=0.01)
    for name in ("ic", "hit"):
        assert found[f"{name}_low"] < found["ic" if name == "ic" else "hit_rate"] < found[f"{name}_high"]
    assert found["top_bp"] == pytest.approx(1e4 * 0.005 * 0.2 * 2.063, rel=0.1)  # mean |z| beyond 1.645
    assert found["top_net_bp"] == pytest.approx(found["top_bp"] - skill.COST_BP)


def test_zero_is_worth_nothing() -> None:
    found = skill.of_returns(forecast(0.0))
    assert (found["r2_zero"], found["ic"], found["rank_ic"], found["top_bp"], found["spread"]) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_interval_is_as_wide_as_days_are_few_not_as_rows_are_many() -> None:
    """All symbols move alike: ten times as many rows of the same days are no more evidence."""
    one = forecast(0.1, days=20, symbols=1)
    ten = skill.Forecast(*(np.repeat(column, 10) for column in (one.bar, one.predicted, one.target, one.forward)))
    a, b = skill.of_returns(one), skill.of_returns(ten)
    assert a["ic_high"] - a["ic_low"] == pytest.approx(b["ic_high"] - b["ic_low"], rel=1e-6)


def test_equity_counts_trades_that_do_not_overlap() -> None:
    f = forecast(0.3)
    bars, gross, net = skill.equity(f)
    assert (np.diff(bars) >= HORIZON).all()
    np.testing.assert_allclose(gross - net, skill.COST_BP * np.arange(1, len(bars) + 1))
    assert gross[-1] > 0


def test_too_good_trips_and_good_does_not() -> None:
    honest = {"model": skill.of_returns(forecast(0.3))}
    assert skill.suspicions(honest) == []
    boastful = skill.suspicions({"model": skill.of_returns(forecast(0.6))})
    assert any("model: r2_zero" in word for word in boastful)
    assert any("model: ic" in word for word in boastful)


def test_volatility_is_judged_against_its_own_mean() -> None:
    true = np.random.default_rng(2).normal(-6, 0.5, 5_000)
    assert skill.of_volatility(np.full(5_000, true.mean()), true)["r2"] == pytest.approx(0.0)
    assert skill.of_volatility(true, true)["r2"] == 1.0
