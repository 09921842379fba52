"""Every feature against an oracle in pandas that shares no code with the kernel; and what must hold of the numbers at all."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from processors.features import catalogue, kernel
from processors.features.catalogue import FEATURES, INDEX, NAMES
from processors.features.kernel import FeatureState, UnknownStateVersion, replay

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


def oracle(data: Candles) -> pd.DataFrame:
    """The catalogue's formulas in pandas, over the whole history."""
    o, h, l, c, v = (pd.Series(column) for column in data)  # noqa: E741
    c0, span = c.shift(1), h - l
    r = np.log(c / c0)

    def ema(series: pd.Series, n: int) -> pd.Series:
        return seeded(series, n, 2 / (n + 1))

    def wilder(series: pd.Series, n: int) -> pd.Series:
        return seeded(series, n, 1 / n)

    def seeded(series: pd.Series, n: int, alpha: float) -> pd.Series:
        """Mean of the first n values, then exponential from there."""
        values = series.dropna()
        begun = values.copy()
        begun.iloc[n - 1] = values.iloc[:n].mean()
        rest = begun.iloc[n - 1 :].ewm(alpha=alpha, adjust=False).mean()
        return pd.concat([values.iloc[: n - 1].expanding().mean(), rest]).reindex(series.index)

    def rsi(n: int) -> pd.Series:
        change = c.diff()
        up, down = wilder(change.clip(lower=0), n), wilder(-change.clip(upper=0), n)
        return 2 * up / (up + down) - 1

    sma20, sd20 = c.rolling(20).mean(), c.rolling(20).std(ddof=0)
    tr = pd.concat([h - l, (h - c0).abs(), (l - c0).abs()], axis=1).max(axis=1)
    tr[0] = np.nan
    atr = wilder(tr, 14)
    whole_tr = tr.fillna(span)
    up, down = h.diff(), -l.diff()
    plus = wilder(up.where((up > down) & (up > 0), 0).where(up.notna()), 14) / atr
    minus = wilder(down.where((down > up) & (down > 0), 0).where(down.notna()), 14) / atr
    macd_raw = ema(c, 12) - ema(c, 26)
    low14, high14 = l.rolling(14).min(), h.rolling(14).max()
    k = ((c - low14) / (high14 - low14)).fillna(0.5)
    v20, v100 = v.rolling(20).mean(), v.rolling(100).mean()
    weights = np.arange(1, 21)
    hv50 = r.rolling(50).std(ddof=0)
    macd, signal = macd_raw / c, ema(macd_raw, 9) / c
    return pd.DataFrame(
        {
            "open_rel": o / c0 - 1,
            "high_rel": h / c0 - 1,
            "low_rel": l / c0 - 1,
            "close_rel": c.pct_change(),
            "volume_log_rel": np.log((v + 0.01 * v100) / (1.01 * v100)),
            "log_ret_1": r,
            "ret_3": c.pct_change(3),
            "ret_6": c.pct_change(6),
            "ret_12": c.pct_change(12),
            "range_rel": span / c,
            "body_rel": ((c - o) / span).fillna(0),
            "close_pos": ((c - l) / span).fillna(0.5),
            "rsi_7": rsi(7),
            "rsi_14": rsi(14),
            "rsi_21": rsi(21),
            "macd": macd,
            "macd_signal": signal,
            "macd_hist": macd - signal,
            "bb_upper": (sma20 + 2 * sd20) / c - 1,
            "bb_mid": sma20 / c - 1,
            "bb_lower": (sma20 - 2 * sd20) / c - 1,
            "bb_pctb": (c - (sma20 - 2 * sd20)) / (4 * sd20),
            "bb_width": 4 * sd20 / sma20,
            "stoch_k": k,
            "stoch_d": k.rolling(3).mean(),
            "natr_14": atr / c,
            "atr_ratio": atr / whole_tr.rolling(50).mean(),
            "adx_14": wilder((plus - minus).abs() / (plus + minus), 14),
            "plus_di_14": plus,
            "minus_di_14": minus,
            "sma10_rel": c / c.rolling(10).mean() - 1,
            "sma50_rel": c / c.rolling(50).mean() - 1,
            "ema9_rel": c / ema(c, 9) - 1,
            "ema21_rel": c / ema(c, 21) - 1,
            "ema50_rel": c / ema(c, 50) - 1,
            "wma20_rel": c / c.rolling(20).apply(lambda w: np.dot(w, weights) / weights.sum(), raw=True) - 1,
            "volume_ratio": v / v20,
            "volume_ma_ratio": v20 / v100,
            "obv_20": (np.sign(c.diff()) * v).rolling(20).sum() / v.rolling(20).sum(),
            "vpt_20": (r * v).rolling(20).sum() / v.rolling(20).sum(),
            "hv_20": r.rolling(20).std(ddof=0),
            "hv_50": hv50,
            "trend_strength": (ema(c, 9) - ema(c, 50)).abs() / atr,
            "trend_direction": np.sign(ema(c, 9) - ema(c, 50)),
            "support_dist": (c - l.rolling(50).min()) / c,
            "resistance_dist": (h.rolling(50).max() - c) / c,
            "roc_10": c.pct_change(10),
            "mom_10_atr": c.diff(10) / atr,
            "rel_momentum": c.pct_change(12) / (hv50 * np.sqrt(12)),
        }
    )


@pytest.fixture(scope="module")
def history() -> Candles:
    return candles(7)


@pytest.fixture(scope="module")
def computed(history: Candles) -> NDArray[np.float32]:
    return replay(*history)


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
def test_a_feature_equals_its_formula_written_in_pandas(name: str, history: Candles, computed: NDArray[np.float32]) -> None:
    wanted = oracle(history)[name].to_numpy()
    have = computed[:, INDEX[name]]
    begin = max(FEATURES[INDEX[name]].warm_up, 110)
    np.testing.assert_allclose(have[begin:], wanted[begin:].astype(np.float32), rtol=3e-5, atol=3e-7)


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
