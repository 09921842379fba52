"""Every feature against pandas and TA-Lib, which share no code with the kernel; and what must hold of the numbers at all."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.features import catalogue, kernel
from processors.features.catalogue import FEATURES, INDEX, NAMES
from processors.features.kernel import FeatureState, UnknownStateVersion, replay
from streams.bench.rivals import TalibStreams, by_pandas, by_talib

BARS = 1_100
Candles = NDArray[np.float64]


def candles(seed: int, bars: int = BARS, price: float = 100.0, volume: float = 20.0) -> Candles:
    """[5, bars]: a random walk with quiet candles, candles without a range and candles without volume."""
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0, 0.002, bars)))
    open_ = np.concatenate([[price], close[:-1]]) * np.exp(rng.normal(0, 0.0002, bars))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.001, bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.001, bars)))
    amount = volume * rng.lognormal(0, 0.8, bars)
    flat = rng.random(bars) < 0.03
    for position in np.flatnonzero(flat)[np.flatnonzero(flat) > 0]:
        open_[position] = high[position] = low[position] = close[position] = close[position - 1]
        amount[position] = 0.0
    return np.stack([open_, high, low, close, amount])


@pytest.fixture(scope="module")
def history() -> Candles:
    return candles(7)


@pytest.fixture(scope="module")
def exact(history: Candles) -> NDArray[np.float64]:
    """[bars, 49] before the rounding to float32."""
    state, rows = FeatureState(), []
    for candle in history.T:
        rows.append(state.exact(*candle))
        state.step(*candle)
    return np.array(rows)


@pytest.fixture(scope="module")
def computed(exact: NDArray[np.float64]) -> NDArray[np.float32]:
    return exact.astype(np.float32)


@pytest.fixture(scope="module")
def pandas(history: Candles) -> Mapping[str, NDArray[np.float64]]:
    return {name: column.to_numpy() for name, column in by_pandas(history).items()}


@pytest.fixture(scope="module")
def talib(history: Candles) -> Mapping[str, NDArray[np.float64]]:
    return by_talib(history)


def test_the_catalogue_is_the_list_that_models_mean() -> None:
    assert len(NAMES) == len(set(NAMES)) == 49
    assert max(feature.warm_up for feature in FEATURES) <= catalogue.READY_BARS
    assert max(100, 50 + 1) < kernel.KEPT


def test_a_changed_formula_is_another_feature_set() -> None:
    """A change here refuses every model: retrain the seed model, and say so in the changelog."""
    assert (catalogue.FEATURE_SET, catalogue.feature_hash()) == ("u49.v1", "1fa9777345776bb5")


def test_the_kernel_file_names_every_feature_once() -> None:
    text = Path(kernel.__file__).read_text()
    assert re.findall(r'^ +"([a-z0-9_]+)":', text, re.MULTILINE) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_equals_its_formula_written_in_pandas(
    name: str, pandas: Mapping[str, NDArray[np.float64]], exact: NDArray[np.float64]
) -> None:
    """From the candle on that the catalogue names; pandas keeps running sums, which cost it some digits."""
    begin = FEATURES[INDEX[name]].warm_up
    np.testing.assert_allclose(exact[begin:, INDEX[name]], pandas[name][begin:], rtol=1e-9, atol=1e-9)


FORGOTTEN = 500
"""Candles after which the beginnings of recursions, which TA-Lib makes otherwise, are below 1e-10."""


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_equals_what_talib_makes_of_it(
    name: str, talib: Mapping[str, NDArray[np.float64]], exact: NDArray[np.float64]
) -> None:
    np.testing.assert_allclose(exact[FORGOTTEN:, INDEX[name]], talib[name][FORGOTTEN:], rtol=1e-9, atol=1e-9)


def test_talibs_own_streams_go_the_same_way(history: Candles, exact: NDArray[np.float64]) -> None:
    stream = TalibStreams(history[:, :1_000])
    for position, candle in enumerate(history.T[1_000:], 1_000):
        row = stream.update(*candle.tolist())
        np.testing.assert_allclose(exact[position], [row[name] for name in NAMES], rtol=1e-8, atol=1e-8)


def test_what_is_published_is_the_exact_value_rounded_once(history: Candles, computed: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(replay(*history), computed)


def test_every_value_is_finite_from_the_first_candle_on(computed: NDArray[np.float32]) -> None:
    assert np.isfinite(computed).all()


def test_ready_after_600_candles_and_not_before(history: Candles) -> None:
    state = FeatureState()
    state.replay(*history[:, : catalogue.READY_BARS - 1])
    assert not state.ready
    state.step(*history[:, catalogue.READY_BARS - 1])
    assert state.ready


def test_after_600_candles_the_beginning_is_forgotten(history: Candles) -> None:
    """1,000 candles of warm-up or 600: the same to 1e-4 of a feature's deviation."""
    whole, late = replay(*history)[-1], replay(*history[:, -600:])[-1]
    spread = np.std(replay(*history)[600:], axis=0) + 1e-12
    assert float(np.max(np.abs(whole - late) / spread)) < 1e-4


def test_neither_price_level_nor_volume_unit_matters(history: Candles, computed: NDArray[np.float32]) -> None:
    """Powers of two scale without rounding, so every bit must be the same; other factors to rounding."""
    exact = history * np.array([2.0**9] * 4 + [2.0**-5])[:, None]
    np.testing.assert_array_equal(replay(*exact), computed)
    rough = history * np.array([631.7] * 4 + [0.0173])[:, None]
    np.testing.assert_allclose(replay(*rough)[600:], computed[600:], rtol=1e-4, atol=1e-6)


def test_the_future_does_not_reach_back(history: Candles, computed: NDArray[np.float32]) -> None:
    for cut in (1, 13, 150, 700):
        other = history.copy()
        other[:4, cut:] *= 1.7
        other[4, cut:] *= 9.0
        np.testing.assert_array_equal(replay(*other)[:cut], computed[:cut])
        assert not np.array_equal(replay(*other[:, : cut + 1])[cut], computed[cut])


def test_a_market_that_stands_still_gives_quiet_numbers(history: Candles) -> None:
    """Hours without a trade: flat candles without volume; nothing blows up, nothing is undefined."""
    state = FeatureState()
    state.replay(*history)
    close = history[3, -1]
    for _ in range(3_000):
        row = state.step(close, close, close, close, 0.0)
    assert np.isfinite(row).all()
    assert float(np.abs(row).max()) <= 1.0
    assert (row[INDEX["bb_pctb"]], row[INDEX["rel_momentum"]], row[INDEX["trend_strength"]]) == (0.5, 0.0, 0.0)


def test_one_symbol_alone_and_many_together_agree_bit_for_bit() -> None:
    many = [candles(seed, 400, price=10.0 ** (seed % 6 - 2)) for seed in range(11)]
    together = replay(*np.stack(many, axis=-1))
    for position, one in enumerate(many):
        np.testing.assert_array_equal(together[:, position], replay(*one))


def test_a_state_of_an_unknown_version_is_refused() -> None:
    raw = FeatureState().to_bytes()
    with pytest.raises(UnknownStateVersion, match="version 9"):
        FeatureState.from_bytes(struct.pack("<H", 9) + raw[2:])


def test_a_state_is_a_few_kilobytes(history: Candles) -> None:
    state = FeatureState()
    state.replay(*history)
    assert len(state.to_bytes()) < 5_000


def test_golden_vector() -> None:
    """Bits of the kernel on a history made of integers only: a library upgrade that changes one is noticed here."""
    t = np.arange(700, dtype=np.int64)
    close = 10_000 + (t * t * 7919 % 401) + (t * 31 % 97)
    open_ = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(open_, close) + t * 17 % 23, np.minimum(open_, close) - t * 13 % 19
    rows = replay(open_ / 10, high / 10, low / 10, close / 10, (t * 7907 % 1009) / 8)
    assert hashlib.sha256(rows.astype("<f4").tobytes()).hexdigest()[:16] == "30630e750b6bb20b"
