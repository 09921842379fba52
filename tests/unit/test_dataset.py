"""Rows of a dataset: windows end at their own candle, answers lie behind it, and no fold learns what it is judged on."""

from __future__ import annotations

import numpy as np
import pytest

from processors.features.catalogue import NAMES, READY_BARS
from processors.learning import dataset as ds
from processors.learning.labels import CLIP, EMBARGO, HORIZON, walk_forward

BARS, SYMBOLS = 1_400, 3


@pytest.fixture(scope="module")
def data() -> ds.Dataset:
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 1e-3, (BARS, SYMBOLS)), axis=0))
    features = rng.normal(size=(BARS, SYMBOLS, len(NAMES))).astype(np.float32)
    features[:, :, ds.HV] = 1e-3
    traded = np.ones((BARS, SYMBOLS), dtype=np.bool_)
    traded[900, 1] = False
    flat = np.full_like(close, 1.0)
    return ds.labelled(
        ds.Market("made up", ["A", "B", "C"], close, close * 1.001, close * 0.999, close, flat, None, traded), features
    )


def test_a_row_needs_a_full_window_of_ready_features_and_a_full_horizon(data: ds.Dataset) -> None:
    assert data.span == (READY_BARS + ds.WINDOW - 2, BARS - HORIZON)
    rows = data.rows(*data.span)
    assert np.isfinite(data.target[rows]).all()
    assert np.isfinite(data.volatility[rows]).all()
    bars = rows[rows % SYMBOLS == 1] // SYMBOLS
    assert not np.isin(np.arange(900 - HORIZON, 901), bars).any()  # a filled candle is nobody's answer and nobody's question
    assert np.isin([899 - HORIZON, 901], bars).all()


def test_a_window_ends_at_its_own_candle(data: ds.Dataset) -> None:
    row = 800 * SYMBOLS + 2
    window = data.windows(np.array([row]))
    np.testing.assert_array_equal(window[0], data.features[2, 800 - ds.WINDOW + 1 : 801])
    np.testing.assert_array_equal(window[:, -1], data.latest(np.array([row])))


def test_the_path_ends_at_the_target(data: ds.Dataset) -> None:
    rows = data.rows(*data.span, stride=5)
    paths = data.paths(rows)
    assert paths.shape == (len(rows), HORIZON)
    np.testing.assert_allclose(paths[:, -1], data.target[rows], atol=1e-5)
    assert np.abs(paths).max() <= CLIP


def test_no_row_of_a_fold_reaches_into_its_test(data: ds.Dataset) -> None:
    first, last = data.span
    for fold in walk_forward(first, last, 3):
        learnable, judged = data.learnable(fold), data.rows(fold.test_from, fold.test_to)
        assert data.ends[learnable].max() + EMBARGO <= judged.min() // SYMBOLS
        bars = [set(learnable[learnable % SYMBOLS == s] // SYMBOLS) for s in range(SYMBOLS)]
        assert bars[0] == bars[2]  # one split in time for all symbols


def test_too_few_candles_are_refused() -> None:
    few = np.ones((READY_BARS, 1))
    with pytest.raises(ValueError, match="are needed"):
        ds.dataset(ds.Market("few", ["A"], few, few, few, few, few))
