"""The 49 features as others would compute them: in pandas, by TA-Lib over a window, by TA-Lib's streams, and what talipp has.

None shares code with the kernel. `quantum bench features` measures against them, and the kernel's tests hold it to the first two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import talib
import talipp.indicators as ti
from numpy.typing import NDArray
from talib import stream
from talipp.ohlcv import OHLCV

Floats = NDArray[np.float64]


def by_pandas(data: Floats) -> pd.DataFrame:
    """The catalogue's formulas, one column each, over candles [5, bars] (o h l c v); NaN while a window is not full."""
    o, h, l, c, v = (pd.Series(column) for column in data)  # noqa: E741
    c0, span = c.shift(1), h - l
    r = np.log(c / c0)

    def ema(series: pd.Series, n: int) -> pd.Series:
        return _seeded(series, n, 2 / (n + 1))

    def wilder(series: pd.Series, n: int) -> pd.Series:
        return _seeded(series, n, 1 / n)

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


def _seeded(series: pd.Series, n: int, alpha: float) -> pd.Series:
    """Mean of the first n values, then exponential from there."""
    values = series.dropna()
    begun = values.copy()
    begun.iloc[n - 1] = values.iloc[:n].mean()
    rest = begun.iloc[n - 1 :].ewm(alpha=alpha, adjust=False).mean()
    return pd.concat([values.iloc[: n - 1].expanding().mean(), rest]).reindex(series.index)


def by_talib(data: Floats, last: bool = False) -> dict[str, Any]:
    """All 49 over candles [5, bars]: whole columns, or with `last` only the newest number of each (as a live user would)."""
    o, h, l, c, v = data  # noqa: E741
    moved = talib.ROCR(c, 1)
    r = talib.LN(moved)
    macd, signal, hist = talib.MACD(c, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(c, 20, 2.0, 2.0)
    k, d = talib.STOCHF(h, l, c, 14, 3)
    columns = (
        o, h, l, c, v, c / moved, r, macd, signal, hist, upper, middle, lower, k, d,
        talib.ROCP(c, 1), talib.ROCP(c, 3), talib.ROCP(c, 6), talib.ROCP(c, 12), talib.ROCP(c, 10), talib.MOM(c, 10),
        talib.RSI(c, 7), talib.RSI(c, 14), talib.RSI(c, 21),
        talib.ATR(h, l, c, 14), talib.SMA(talib.TRANGE(h, l, c), 50),
        talib.ADX(h, l, c, 14), talib.PLUS_DI(h, l, c, 14), talib.MINUS_DI(h, l, c, 14),
        talib.SMA(c, 10), talib.SMA(c, 50), talib.EMA(c, 9), talib.EMA(c, 21), talib.EMA(c, 50), talib.WMA(c, 20),
        talib.SMA(v, 20), talib.SMA(v, 100), talib.SUM(np.sign(moved - 1.0) * v, 20), talib.SUM(r * v, 20), talib.SUM(v, 20),
        talib.STDDEV(r, 20, 1.0), talib.STDDEV(r, 50, 1.0), talib.MIN(l, 50), talib.MAX(h, 50),
    )  # fmt: skip
    return _assembled(*((column[-1] for column in columns) if last else columns))


def _assembled(
    o: Any, h: Any, l: Any, c: Any, v: Any, c0: Any, r: Any, macd: Any, signal: Any, hist: Any, upper: Any, middle: Any,  # noqa: E741
    lower: Any, k: Any, d: Any, roc1: Any, roc3: Any, roc6: Any, roc12: Any, roc10: Any, mom10: Any, rsi7: Any, rsi14: Any,
    rsi21: Any, atr: Any, tr50: Any, adx: Any, plus: Any, minus: Any, sma10: Any, sma50: Any, ema9: Any, ema21: Any, ema50: Any,
    wma20: Any, v20: Any, v100: Any, obv: Any, vpt: Any, sum_v: Any, hv20: Any, hv50: Any, low50: Any, high50: Any,
) -> dict[str, Any]:  # fmt: skip
    """Indicators of TA-Lib, as numbers or as columns, into the catalogue's features."""
    span = h - l
    return {
        "open_rel": o / c0 - 1,
        "high_rel": h / c0 - 1,
        "low_rel": l / c0 - 1,
        "close_rel": roc1,
        "volume_log_rel": np.log((v + 0.01 * v100) / (1.01 * v100)) if isinstance(v, np.ndarray) else _log(v, v100),
        "log_ret_1": r,
        "ret_3": roc3,
        "ret_6": roc6,
        "ret_12": roc12,
        "range_rel": span / c,
        "body_rel": _over(c - o, span, 0.0),
        "close_pos": _over(c - l, span, 0.5),
        "rsi_7": rsi7 / 50 - 1,
        "rsi_14": rsi14 / 50 - 1,
        "rsi_21": rsi21 / 50 - 1,
        "macd": macd / c,
        "macd_signal": signal / c,
        "macd_hist": hist / c,
        "bb_upper": upper / c - 1,
        "bb_mid": middle / c - 1,
        "bb_lower": lower / c - 1,
        "bb_pctb": (c - lower) / (upper - lower),
        "bb_width": (upper - lower) / middle,
        "stoch_k": k / 100,
        "stoch_d": d / 100,
        "natr_14": atr / c,
        "atr_ratio": atr / tr50,
        "adx_14": adx / 100,
        "plus_di_14": plus / 100,
        "minus_di_14": minus / 100,
        "sma10_rel": c / sma10 - 1,
        "sma50_rel": c / sma50 - 1,
        "ema9_rel": c / ema9 - 1,
        "ema21_rel": c / ema21 - 1,
        "ema50_rel": c / ema50 - 1,
        "wma20_rel": c / wma20 - 1,
        "volume_ratio": v / v20,
        "volume_ma_ratio": v20 / v100,
        "obv_20": obv / sum_v,
        "vpt_20": vpt / sum_v,
        "hv_20": hv20,
        "hv_50": hv50,
        "trend_strength": abs(ema9 - ema50) / atr,
        "trend_direction": np.sign(ema9 - ema50) if isinstance(ema9, np.ndarray) else math.copysign(1.0, ema9 - ema50),
        "support_dist": (c - low50) / c,
        "resistance_dist": (high50 - c) / c,
        "roc_10": roc10,
        "mom_10_atr": mom10 / atr,
        "rel_momentum": roc12 / (hv50 * math.sqrt(12)),
    }


def _over(above: Any, below: Any, otherwise: float) -> Any:
    if isinstance(below, np.ndarray):
        return np.where(below > 0, above / np.where(below > 0, below, 1.0), otherwise)
    return above / below if below > 0 else otherwise


def _log(v: float, v100: float) -> float:
    return math.log((v + 0.01 * v100) / (1.01 * v100))


class TalibStreams:
    """One symbol by TA-Lib's own incremental handles, opened on a history [5, bars] (they can be neither stored nor moved)."""

    def __init__(self, data: Floats) -> None:
        _, h, l, c, v = data  # noqa: E741
        moved = talib.ROCR(c, 1)
        r = talib.LN(moved)
        self._c0 = float(c[-1])
        self._of_close: tuple[Any, ...] = (
            *(stream.ROCP(c, n) for n in (1, 3, 6, 12, 10)), stream.MOM(c, 10), *(stream.RSI(c, n) for n in (7, 14, 21)),
        )  # fmt: skip
        self._of_range: tuple[Any, ...] = tuple(kind(h, l, c, 14) for kind in (stream.ADX, stream.PLUS_DI, stream.MINUS_DI))
        self._means: tuple[Any, ...] = (
            stream.SMA(c, 10), stream.SMA(c, 50), *(stream.EMA(c, n) for n in (9, 21, 50)), stream.WMA(c, 20),
        )  # fmt: skip
        self._macd, self._bands, self._stoch = (
            stream.MACD(c, 12, 26, 9),
            stream.BBANDS(c, 20, 2.0, 2.0),
            stream.STOCHF(h, l, c, 14, 3),
        )
        self._atr, self._tr = stream.ATR(h, l, c, 14), stream.TRANGE(h, l, c)
        self._tr50 = stream.SMA(talib.TRANGE(h, l, c)[1:], 50)
        self._v20, self._v100, self._sum_v = stream.SMA(v, 20), stream.SMA(v, 100), stream.SUM(v, 20)
        self._obv, self._vpt = stream.SUM((np.sign(moved - 1.0) * v)[1:], 20), stream.SUM((r * v)[1:], 20)
        self._hv20, self._hv50 = stream.STDDEV(r[1:], 20, 1.0), stream.STDDEV(r[1:], 50, 1.0)
        self._low50, self._high50 = stream.MIN(l, 50), stream.MAX(h, 50)

    def update(self, o: float, h: float, l: float, c: float, v: float) -> dict[str, Any]:  # noqa: E741
        """All 49 of the next candle."""
        c0, self._c0 = self._c0, c
        r = math.log(c / c0)
        signed = v if c > c0 else -v if c < c0 else 0.0
        numbers: tuple[Any, ...] = (
            o, h, l, c, v, c0, r, *self._macd.update(c), *self._bands.update(c), *self._stoch.update(h, l, c),
            *[handle.update(c) for handle in self._of_close],
            self._atr.update(h, l, c), self._tr50.update(self._tr.update(h, l, c)),
            *[handle.update(h, l, c) for handle in self._of_range],
            *[handle.update(c) for handle in self._means],
            self._v20.update(v), self._v100.update(v), self._obv.update(signed), self._vpt.update(r * v), self._sum_v.update(v),
            self._hv20.update(r), self._hv50.update(r), self._low50.update(l), self._high50.update(h),
        )  # fmt: skip
        return _assembled(*numbers)


def talipp_indicators(data: Floats) -> tuple[int, Callable[[float, float, float, float, float], None]]:
    """(how many, feed) of one symbol: the indicators that talipp has of ours; it updates in Python, one value at a time."""
    of_price: Mapping[str, Any] = {
        **{f"rsi_{n}": ti.RSI(n) for n in (7, 14, 21)},
        **{f"ema_{n}": ti.EMA(n) for n in (9, 21, 50)},
        **{f"sma_{n}": ti.SMA(n) for n in (10, 50)},
        **{f"roc_{n}": ti.ROC(n) for n in (1, 3, 6, 10, 12)},
        "wma": ti.WMA(20),
        "macd": ti.MACD(12, 26, 9),
        "bands": ti.BB(20, 2.0),
    }
    of_candle = [ti.ATR(14), ti.ADX(14, 14), ti.Stoch(14, 3)]
    of_volume = [ti.SMA(20), ti.SMA(100)]

    def feed(o: float, high: float, low: float, close: float, volume: float) -> None:
        candle = OHLCV(o, high, low, close, volume)
        for indicator in of_price.values():
            indicator.add(close)
        for indicator in of_candle:
            indicator.add(candle)
        for indicator in of_volume:
            indicator.add(volume)

    for candle in zip(*data.tolist(), strict=True):
        feed(*candle)
    return len(of_price) + len(of_candle) + len(of_volume), feed
