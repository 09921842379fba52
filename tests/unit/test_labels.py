"""Splits that do not leak: what a fold learnt from, with the reach of its labels, ends before what it is judged on."""

from __future__ import annotations

import numpy as np
import pytest

from processors.learning.labels import EMBARGO, HORIZON, forward_return, walk_forward


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
