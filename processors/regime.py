"""Regimes: what kind of movement a symbol is in, by its features alone, and the market as a whole by all of them.

The first row that applies decides; numbers are features of the closed candle (docs/features.md):

| regime   | when                                                                                        |
|----------|---------------------------------------------------------------------------------------------|
| CRASH    | rel_momentum <= -3 and ret_12 <= -2 %: an hour that fell three deviations, and far enough   |
| VOLATILE | hv_20 >= 1.5 hv_50                                                                          |
| QUIET    | hv_20 <= 0.6 hv_50                                                                          |
| TREND    | adx_14 >= 0.25 and trend_strength >= 1                                                      |
| RANGE    | else                                                                                        |

The market is in CRASH when a third of the symbols is; else in the regime of most symbols, the calmer name first among equals. Its
correlation is the mean over all pairs of symbols of their last 48 candles' log returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.features.catalogue import INDEX
from schemas.regime import Regime

BARS: Final = 48
LEAST_BARS: Final = 24
"""Of a symbol that is correlated with the others."""
CRASH_DEVIATIONS: Final = -3.0
CRASH_RETURN: Final = -0.02
CRASH_SHARE: Final = 1 / 3
VOLATILE_RATIO: Final = 1.5
QUIET_RATIO: Final = 0.6
TREND_ADX: Final = 0.25
TREND_STRENGTH: Final = 1.0
RETURN = INDEX["log_ret_1"]
_CALMER = (Regime.RANGE, Regime.QUIET, Regime.TREND, Regime.VOLATILE, Regime.CRASH)

Row = NDArray[np.float32]


class Seen(NamedTuple):
    """What decided a symbol's regime."""

    regime: Regime
    drop: float
    volatility_ratio: float
    adx: float
    trend_strength: float


class Wide(NamedTuple):
    """`couplings`: correlation of each symbol with the mean of the others, in the order of the symbols."""

    regime: Regime
    correlation: float
    couplings: tuple[float, ...]


def of(row: Row) -> Seen:
    """The regime of one feature vector."""
    drop, ret, short, long, adx, strength = (
        float(row[INDEX[name]]) for name in ("rel_momentum", "ret_12", "hv_20", "hv_50", "adx_14", "trend_strength")
    )
    ratio = short / long if long > 0.0 else 1.0
    if drop <= CRASH_DEVIATIONS and ret <= CRASH_RETURN:
        regime = Regime.CRASH
    elif ratio >= VOLATILE_RATIO:
        regime = Regime.VOLATILE
    elif ratio <= QUIET_RATIO:
        regime = Regime.QUIET
    elif adx >= TREND_ADX and strength >= TREND_STRENGTH:
        regime = Regime.TREND
    else:
        regime = Regime.RANGE
    return Seen(regime, drop, ratio, adx, strength)


def wide(windows: Mapping[str, Row], regimes: Sequence[Regime]) -> Wide:
    """Of all symbols: their last vectors [bars, features], which end at the same candle, and their regimes in the same order.

    A symbol with fewer than LEAST_BARS vectors, or that does not move, is correlated with nobody: 0.
    """
    counted = Counter(regimes)
    if counted[Regime.CRASH] >= CRASH_SHARE * len(regimes):
        regime = Regime.CRASH
    else:
        regime = max(_CALMER, key=lambda one: (counted[one], -_CALMER.index(one)))
    bars = min((len(rows) for rows in windows.values() if len(rows) >= LEAST_BARS), default=0)
    bars = min(bars, BARS)
    couplings = [0.0] * len(windows)
    known = [place for place, rows in enumerate(windows.values()) if len(rows) >= LEAST_BARS]
    if not known:
        return Wide(regime, 0.0, tuple(couplings))
    returns = np.stack([rows[-bars:, RETURN] for rows in windows.values() if len(rows) >= LEAST_BARS]).astype(np.float64)
    moves = returns.std(axis=1) > 0.0
    moving = [place for place, so in zip(known, moves, strict=True) if so]
    n = len(moving)
    if n < 2:
        return Wide(regime, 0.0, tuple(couplings))
    table = returns[moves]
    alike = _unit(table)
    others = _unit((table.sum(axis=0) - table) / (n - 1))
    for place, one in zip(moving, (alike * others).sum(axis=1), strict=True):
        couplings[place] = round(float(one), 6)
    pairs = ((alike.sum(axis=0) ** 2).sum() - n) / (n * (n - 1))  # the sum over all pairs, without making them
    return Wide(regime, round(float(pairs), 6), tuple(couplings))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [n, bars] about their mean and of length 1: their products are correlations. A row that does not move is 0."""
    about = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((about**2).sum(axis=1, keepdims=True))
    found: NDArray[np.float64] = np.divide(about, length, out=np.zeros_like(about), where=length > 0.0)
    return found
