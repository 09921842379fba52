"""Scores of forecasts whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from processors.learning import evaluation


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(3)
    score, positive = np.round(rng.normal(size=120), 1), rng.random(120) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert evaluation.auc(score, positive) == pytest.approx(float(np.mean(pairs)))


def test_knowing_nothing_scores_nothing() -> None:
    found = evaluation.scores(np.full(1_000, 0.5), np.random.default_rng(1).normal(size=1_000))
    assert (found["ic"], found["rank_ic"], found["auc"], found["brier"], found["brier_skill"]) == (0.0, 0.0, 0.5, 0.25, 0.0)
    assert (found["coverage"], found["confident_hit"], found["confident_return"]) == (0.0, 0.0, 0.0)


def test_an_honest_forecast_is_calibrated_and_a_boastful_one_is_not() -> None:
    rng = np.random.default_rng(5)
    truth = rng.uniform(0.1, 0.9, 200_000)
    forward = np.where(rng.random(200_000) < truth, 0.01, -0.01)
    assert evaluation.scores(truth, forward)["ece"] < 0.01
    assert evaluation.scores(np.where(truth > 0.5, 0.99, 0.01), forward)["ece"] > 0.2


def test_coverage_and_gain_are_told_at_the_threshold() -> None:
    found = evaluation.scores(np.array([0.9, 0.2, 0.6, 0.71]), np.array([0.02, -0.01, 0.05, -0.03]))
    assert found["coverage"] == 0.75
    assert found["confident_hit"] == pytest.approx(2 / 3)
    assert found["confident_return"] == pytest.approx(0.0)


def test_rounded_keeps_the_structure() -> None:
    assert evaluation.rounded({"a": [1.23456789, {"b": 2}], "c": "x"}, 3) == {"a": [1.23, {"b": 2}], "c": "x"}
