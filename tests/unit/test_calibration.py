"""Votes and curves: what was right counts, what knows nothing comes out flat, nothing ever falls as the score rises."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `trees` is not installed")

from processors.learning.calibration import ENOUGH, rising, vote


def outcomes(slope: float, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    score = rng.normal(size=rows)
    p = 1 / (1 + np.exp(-slope * score))
    return score, (rng.random(rows) < p).astype(float), p


def test_votes_add_up_and_follow_what_was_right() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(size=4_000)
    good, noise, wrong = 0.5 * target + rng.normal(size=4_000), rng.normal(size=4_000), -target
    weights = vote(np.stack([good, noise, wrong], axis=1), target)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > weights[1] > 0
    assert weights[2] == pytest.approx(1 / 6)  # half is shared equally whatever happened
    np.testing.assert_allclose(vote(np.stack([wrong, wrong], axis=1), target), 0.5)


@pytest.mark.parametrize(("weight", "kind"), [(1.0, "isotonic"), (0.05, "platt")])
def test_a_probability_is_what_came(weight: float, kind: str) -> None:
    score, outcome, p = outcomes(1.0, 20_000)
    curve = rising(score, outcome, np.full(len(score), weight))
    assert curve.kind == kind
    assert (np.diff(curve.x) > 0).all()
    assert (np.diff(curve.y) >= 0).all()
    inside = np.abs(score) < 1.5
    assert np.mean(np.abs(curve(score) - p)[inside]) < 0.02


def test_scores_that_mean_nothing_or_the_opposite_give_a_flat_curve() -> None:
    score, outcome, _ = outcomes(-1.0, 30_000)
    for weight in (1.0, 0.01):
        curve = rising(score, outcome, np.full(len(score), weight))
        assert np.ptp(curve.y) < 0.01
        assert np.mean(curve.y) == pytest.approx(outcome.mean(), abs=0.01)
    flat = rising(np.zeros(50), np.ones(50), np.ones(50))
    assert (flat.kind, flat(np.array([3.0]))[0]) == ("flat", 1.0)


def test_a_line_that_is_within_its_own_error_is_none() -> None:
    rng = np.random.default_rng(9)
    few = int(ENOUGH / 4)
    score, outcome = rng.normal(size=few), rng.choice([-1.0, 0.0, 1.0], few)
    assert np.ptp(rising(score, outcome, np.ones(few)).y) < 0.1
    assert np.ptp(rising(score, np.sign(score), np.ones(few)).y) > 1.0
