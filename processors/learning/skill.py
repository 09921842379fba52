"""What forecasts of a return and of its volatility are worth: against zero, against a plain estimate, and against the cost.

Neighbouring rows share most of their label and all symbols share a market, so a thousand rows are far fewer observations:
intervals here come from drawing whole days again (block bootstrap), not from the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.learning.evaluation import correlation, ranks
from processors.learning.labels import HORIZON

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

DAY: Final = 288
DRAWS: Final = 400
TOP: Final = 0.1
COST_BP: Final = 10.0
"""What a round trip costs: twice the taker's fee of 4.5 bp and a little slippage."""

TOO_GOOD: Final[Mapping[str, float]] = {"r2_zero": 0.3, "ic": 0.4, "hit_rate": 0.75}
"""No forecast of the next hour's return is that good. What is, has seen the answer."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Rows in order of time: bar, predicted and true return in deviations, and the true log return."""

    bar: Numbers
    predicted: Floats
    target: Floats
    forward: Floats

    def __getitem__(self, rows: NDArray[np.bool_] | slice) -> Forecast:
        return Forecast(self.bar[rows], self.predicted[rows], self.target[rows], self.forward[rows])


def of_returns(f: Forecast, cost_bp: float = COST_BP) -> dict[str, float]:
    """rmse, mae in deviations; r2_zero against the forecast 0; ic, rank_ic with 90 % interval of ic; hit_rate with its own;

    top_bp: mean log return, in basis points, of following the tenth of rows with the largest forecasts; top_net_bp: less cost.
    """
    error = f.predicted - f.target
    top = top_rows(f)
    gain = np.sign(f.predicted[top]) * f.forward[top]
    moved = f.forward != 0.0
    hit = (np.sign(f.predicted) == np.sign(f.forward))[moved]
    ic_low, ic_high = _interval_of_ic(f)
    hit_low, hit_high = _interval_of_mean(f.bar[moved], hit.astype(np.float64))
    top_bp = 1e4 * float(np.mean(gain)) if len(gain) else 0.0
    return {
        "rows": float(len(f.bar)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2_zero": r2(f.predicted, f.target, 0.0),
        "ic": correlation(f.predicted, f.target),
        "ic_low": ic_low,
        "ic_high": ic_high,
        "rank_ic": correlation(ranks(f.predicted), ranks(f.target)),
        "hit_rate": float(np.mean(hit)) if len(hit) else 0.5,
        "hit_low": hit_low,
        "hit_high": hit_high,
        "top_bp": top_bp,
        "top_net_bp": top_bp - cost_bp,
        "spread": float(np.std(f.predicted)),
    }


def of_volatility(predicted: Floats, target: Floats) -> dict[str, float]:
    """Of the logarithm of the horizon's realised volatility, both arguments; r2 against its own mean."""
    return {
        "r2": r2(predicted, target, float(np.mean(target))),
        "rmse": float(np.sqrt(np.mean((predicted - target) ** 2))),
        "rank_ic": correlation(ranks(predicted), ranks(target)),
    }


def r2(predicted: Floats, target: Floats, instead: float) -> float:
    """1 - squared error over the squared error of forecasting `instead`; 0 when nothing happened."""
    plain = float(np.sum((target - instead) ** 2))
    return 1.0 - float(np.sum((predicted - target) ** 2)) / plain if plain else 0.0


def top_rows(f: Forecast) -> NDArray[np.bool_]:
    """The tenth of rows with the largest forecasts either way; none when all are the same."""
    size = np.abs(f.predicted)
    return np.asarray((size >= np.quantile(size, 1 - TOP)) & (size > size.min()))


def equity(f: Forecast, cost_bp: float = COST_BP) -> tuple[Numbers, Floats, Floats]:
    """(bar, gross, net of cost), basis points a trade, added up; only every HORIZON-th bar counts: trades do not overlap."""
    mine = f[top_rows(f)]
    mine = mine[mine.bar % HORIZON == 0]
    bars, place, count = np.unique(mine.bar, return_inverse=True, return_counts=True)
    gain = 1e4 * np.bincount(place, np.sign(mine.predicted) * mine.forward, len(bars)) / count
    return bars, np.cumsum(gain), np.cumsum(gain - cost_bp)


def suspicions(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Results (by name) that are too good to be true, in words; whoever finds one must not use the model."""
    found = []
    for name, mine in scores.items():
        for metric, limit in TOO_GOOD.items():
            if mine[metric] > limit:
                found.append(f"{name}: {metric} {mine[metric]:.3f} is above {limit:g}: the features have probably seen the answer")
    return found


def _interval_of_mean(bar: Numbers, value: Floats) -> tuple[float, float]:
    sums = _by_day(bar, value, np.ones_like(value))[_draws(bar)].sum(axis=1)
    return _interval(sums[:, 0] / np.maximum(sums[:, 1], 1.0))


def _interval_of_ic(f: Forecast) -> tuple[float, float]:
    p, t = f.predicted, f.target
    n, sp, st, spp, stt, spt = _by_day(f.bar, np.ones_like(p), p, t, p * p, t * t, p * t)[_draws(f.bar)].sum(axis=1).T
    n = np.maximum(n, 1.0)
    spread = np.sqrt(np.maximum(spp / n - (sp / n) ** 2, 0.0) * np.maximum(stt / n - (st / n) ** 2, 0.0))
    return _interval(np.where(spread > 1e-12, (spt / n - sp * st / n**2) / np.where(spread > 1e-12, spread, 1.0), 0.0))


def _by_day(bar: Numbers, *values: Floats) -> Floats:
    """Sums of each value over each day that has rows [days, values]."""
    _, day = np.unique(bar // DAY, return_inverse=True)
    return np.stack([np.bincount(day, value) for value in values], axis=1)


def _draws(bar: Numbers) -> Numbers:
    """Days drawn with replacement [DRAWS, days]; the same ones each time."""
    days = len(np.unique(bar // DAY))
    return np.asarray(np.random.default_rng(20_181).integers(0, days, (DRAWS, days)))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(low), float(high)
