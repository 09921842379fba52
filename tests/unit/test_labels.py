"""Splits that do not leak: what a fold learnt from, with the reach of its labels, ends before what it is judged on."""

from __future__ import annotations

import numpy as np
import pytest

from processors.learning.labels import (
    EMBARGO,
    HORIZON,
    forward_return,
    realised_volatility,
    triple_barrier,
    uniqueness,
    walk_forward,
)


def test_a_label_is_the_return_to_the_horizon_and_the_last_bars_have_none() -> None:
    close = np.exp(np.arange(40.0))[:, None] * np.array([[1.0, 3.0]])
    found = forward_return(close)
    assert found.shape == (40 - HORIZON, 2)
    np.testing.assert_allclose(found, HORIZON)


@pytest.mark.parametrize("folds", [1, 3, 5, 7])
def test_no_label_of_the_training_reaches_into_the_test(folds: int) -> None:
    found = walk_forward(600, 9_000, folds)
    assert len(found) == folds
    for fold in found:
        assert fold.train_from == 600
        assert fold.train_to + HORIZON + EMBARGO <= fold.test_from < fold.test_to
    assert [fold.test_to for fold in found[:-1]] == [fold.test_from for fold in found[1:]]
    assert found[-1].test_to == 9_000


def test_too_few_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        walk_forward(0, 600, 5)


def test_realised_volatility_looks_at_the_candles_of_the_horizon_and_no_others() -> None:
    returns = np.zeros(40)
    returns[20] = 0.12  # the move from bar 19 to bar 20
    found = realised_volatility(np.exp(np.cumsum(returns)))
    assert len(found) == 40 - HORIZON
    quiet = np.delete(np.arange(28), np.arange(20 - HORIZON, 20))
    np.testing.assert_allclose(found[20 - HORIZON : 20], 0.12 / np.sqrt(HORIZON))
    np.testing.assert_allclose(found[quiet], 1e-5)


def test_a_barrier_label_is_the_first_barrier_met() -> None:
    close = np.full((30, 5), 100.0)
    high, low = close.copy(), close.copy()
    high[4, 0] = 103.0  # up at the fourth candle, then down: up
    low[6, 0] = 90.0
    low[2, 1] = 97.0  # down
    high[3, 2], low[3, 2] = 104.0, 96.0  # both in one candle: nobody knows
    high[13, 3] = 110.0  # after the horizon of bar 0, at the end of that of bar 1
    label, took = triple_barrier(high, low, close, np.full(close.shape, 0.02))
    assert label[0].tolist() == [1, -1, 0, 0, 0]
    assert took[0].tolist() == [4, 2, 3, HORIZON, HORIZON]
    assert (label[1, 3], took[1, 3]) == (1, 12)


def test_uniqueness_is_one_where_labels_do_not_overlap_and_shared_where_they_do() -> None:
    used = np.zeros((60, 2), dtype=np.bool_)
    used[[0, 12, 24], 0] = True  # one behind the other
    used[[0, 6], 1] = True  # half of each label is shared
    weights = uniqueness(used, np.full((60, 2), HORIZON))
    np.testing.assert_allclose(weights[[0, 12, 24], 0], 1.0)
    np.testing.assert_allclose(weights[[0, 6], 1], 0.75)
    assert weights[~used].sum() == 0.0
    dense = uniqueness(np.ones((200, 1), dtype=np.bool_), np.full((200, 1), HORIZON))
    np.testing.assert_allclose(dense[50:150], 1 / HORIZON)
