"""The 49 features of one closed candle, in order: every model and every message means this list.

All are scale-free (the price level and the unit of volume do not matter), so that one model serves every symbol. In the
formulas: `o h l c v` the candle, `c0` the close before, `x[-k]` k candles ago, `SMAn` `sdn` `LLn` `HHn` mean, population
standard deviation, lowest low and highest high of the last n candles (this one included), `EMAn` exponential mean
(2/(n+1)), `Wn` Wilder's mean (1/n), both begun as the plain mean of their first n values; `r = ln(c/c0)`.
A formula is part of the feature hash: whoever changes one makes a new feature set, and models of the old one are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Final

FEATURE_SET: Final = "u49.v1"
READY_BARS: Final = 600
"""Candles until every recursion has forgotten where it began (largest error then 1.7e-5 of a feature's deviation)."""


@dataclass(frozen=True, slots=True)
class Feature:
    """`warm_up`: candles until the value is exact, or for recursions until it is within 1e-6 deviations."""

    name: str
    group: str
    formula: str
    warm_up: int


def _features() -> tuple[Feature, ...]:
    def group(name: str, *rows: tuple[str, str, int]) -> list[Feature]:
        return [Feature(feature, name, formula, warm_up) for feature, formula, warm_up in rows]

    return tuple(
        group(
            "candle",
            ("open_rel", "o/c0 - 1", 2),
            ("high_rel", "h/c0 - 1", 2),
            ("low_rel", "l/c0 - 1", 2),
            ("close_rel", "c/c0 - 1", 2),
            ("volume_log_rel", "ln((v + 0.01 SMA100(v)) / (1.01 SMA100(v))), 0 when nothing traded", 100),
        )
        + group(
            "returns",
            ("log_ret_1", "r", 2),
            ("ret_3", "c/c[-3] - 1", 4),
            ("ret_6", "c/c[-6] - 1", 7),
            ("ret_12", "c/c[-12] - 1", 13),
        )
        + group(
            "shape",
            ("range_rel", "(h - l)/c", 1),
            ("body_rel", "(c - o)/(h - l), 0 when h = l", 1),
            ("close_pos", "(c - l)/(h - l), 0.5 when h = l", 1),
        )
        + group(
            "rsi",
            ("rsi_7", "(U - D)/(U + D), U = W7(max(c - c0, 0)), D = W7(max(c0 - c, 0)), 0 when U + D = 0", 100),
            ("rsi_14", "as rsi_7 with W14", 200),
            ("rsi_21", "as rsi_7 with W21", 300),
        )
        + group(
            "macd",
            ("macd", "(EMA12(c) - EMA26(c))/c", 200),
            ("macd_signal", "EMA9(EMA12(c) - EMA26(c))/c", 200),
            ("macd_hist", "macd - macd_signal", 200),
        )
        + group(
            "bollinger",
            ("bb_upper", "(SMA20(c) + 2 sd20(c))/c - 1", 20),
            ("bb_mid", "SMA20(c)/c - 1", 20),
            ("bb_lower", "(SMA20(c) - 2 sd20(c))/c - 1", 20),
            ("bb_pctb", "(c - SMA20 + 2 sd20)/(4 sd20), 0.5 when sd20 = 0", 20),
            ("bb_width", "4 sd20(c)/SMA20(c)", 20),
        )
        + group(
            "stochastic",
            ("stoch_k", "K = (c - LL14)/(HH14 - LL14), 0.5 when HH14 = LL14", 14),
            ("stoch_d", "SMA3(K)", 16),
        )
        + group(
            "range",
            ("natr_14", "W14(TR)/c, TR = max(h - l, |h - c0|, |l - c0|)", 200),
            ("atr_ratio", "W14(TR)/SMA50(TR), 1 when SMA50(TR) = 0", 200),
        )
        + group(
            "direction",
            ("adx_14", "W14(|P - M|/(P + M)), 0 for a summand with P + M = 0", 300),
            ("plus_di_14", "P = W14(+DM)/W14(TR), +DM = max(h - h[-1], 0) where > l[-1] - l", 200),
            ("minus_di_14", "M = W14(-DM)/W14(TR), -DM = max(l[-1] - l, 0) where > h - h[-1]", 200),
        )
        + group(
            "means",
            ("sma10_rel", "c/SMA10(c) - 1", 10),
            ("sma50_rel", "c/SMA50(c) - 1", 50),
            ("ema9_rel", "c/EMA9(c) - 1", 70),
            ("ema21_rel", "c/EMA21(c) - 1", 150),
            ("ema50_rel", "c/EMA50(c) - 1", 350),
            ("wma20_rel", "c/WMA20(c) - 1, weights 1..20", 20),
        )
        + group(
            "volume",
            ("volume_ratio", "v/SMA20(v), 1 when SMA20(v) = 0", 20),
            ("volume_ma_ratio", "SMA20(v)/SMA100(v), 1 when SMA100(v) = 0", 100),
            ("obv_20", "sum20(sign(c - c0) v)/sum20(v), 0 when nothing traded", 21),
            ("vpt_20", "sum20(v r)/sum20(v), 0 when nothing traded", 21),
        )
        + group(
            "volatility",
            ("hv_20", "sd20(r)", 21),
            ("hv_50", "sd50(r)", 51),
        )
        + group(
            "trend",
            ("trend_strength", "|EMA9(c) - EMA50(c)|/W14(TR), 0 when W14(TR) = 0", 350),
            ("trend_direction", "sign(EMA9(c) - EMA50(c))", 350),
            ("support_dist", "(c - LL50)/c", 50),
            ("resistance_dist", "(HH50 - c)/c", 50),
        )
        + group(
            "momentum",
            ("roc_10", "c/c[-10] - 1", 11),
            ("mom_10_atr", "(c - c[-10])/W14(TR), 0 when W14(TR) = 0", 200),
            ("rel_momentum", "(c/c[-12] - 1)/(sd50(r) sqrt(12)), 0 when sd50(r) = 0", 51),
        )
    )


FEATURES: Final = _features()
NAMES: Final = tuple(feature.name for feature in FEATURES)
INDEX: Final = {name: position for position, name in enumerate(NAMES)}


@cache
def feature_hash() -> str:
    """What a model was trained on: set, names, formulas, order, warm-up. 16 hex digits, stored in every model and message."""
    rows = [FEATURE_SET, str(READY_BARS), *(f"{f.name}|{f.group}|{f.formula}|{f.warm_up}" for f in FEATURES)]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
