"""How good a forecast is, judged against knowing nothing (p = 0.5, a forecast return of zero)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLD: Final = 0.70
"""Confidence at which the default policy acts: coverage and hit rate are told there."""


def scores(p_up: Floats, forward: Floats) -> dict[str, float]:
    """Of rows [n]: probability that the price is higher at the horizon, and the log return that came.

    ic, rank_ic: correlation of p - 0.5 with the return; auc; brier and its skill against the zero forecast's 0.25;
    ece: mean distance of confidence from hit rate over ten bins; coverage: share of rows with confidence >= THRESHOLD,
    confident_hit: how often those were right; confident_return: what they earned on the average, before costs.
    """
    up = forward > 0.0
    confidence, right = np.maximum(p_up, 1.0 - p_up), (p_up > 0.5) == up
    sure = confidence >= THRESHOLD
    gain = np.where(p_up > 0.5, forward, -forward)
    brier = float(np.mean((p_up - up) ** 2))
    return {
        "rows": float(len(p_up)),
        "ic": correlation(p_up, forward),
        "rank_ic": correlation(ranks(p_up), ranks(forward)),
        "hit_rate": float(np.mean(right)),
        "auc": auc(p_up, up),
        "brier": brier,
        "brier_skill": 1.0 - brier / 0.25,
        "ece": sum(row["share"] * abs(row["confidence"] - row["hit_rate"]) for row in reliability(p_up, forward)),
        "coverage": float(np.mean(sure)),
        "confident_hit": float(np.mean(right[sure])) if sure.any() else 0.0,
        "confident_return": float(np.mean(gain[sure])) if sure.any() else 0.0,
    }


def reliability(p_up: Floats, forward: Floats) -> list[dict[str, float]]:
    """Per bin of confidence, 0.05 wide from 0.5 on: what was promised and what came. Empty bins are left out."""
    confidence, right = np.maximum(p_up, 1.0 - p_up), (p_up > 0.5) == (forward > 0.0)
    place = np.minimum((confidence * 20.0).astype(np.int64), 19)
    rows = []
    for number in range(10, 20):
        mine = place == number
        if mine.any():
            share, promised, came = float(np.mean(mine)), float(np.mean(confidence[mine])), float(np.mean(right[mine]))
            rows.append({"from": number / 20, "share": share, "confidence": promised, "hit_rate": came})
    return rows


def auc(score: Floats, positive: NDArray[np.bool_]) -> float:
    """Chance that a positive row scores above a negative one, ties half; 0.5 when there is only one class."""
    n, hits = len(score), int(np.sum(positive))
    if hits in (0, n):
        return 0.5
    return float((np.sum(ranks(score)[positive]) - hits * (hits + 1) / 2) / (hits * (n - hits)))


def mean_and_spread(folds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Per metric its mean and standard deviation over the folds: one fold proves nothing."""
    return {
        name: {"mean": float(np.mean([f[name] for f in folds])), "sd": float(np.std([f[name] for f in folds]))} for name in folds[0]
    }


def rounded(value: Any, digits: int = 6) -> Any:
    """The same structure with floats cut to what means something."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    return [rounded(inner, digits) for inner in value] if isinstance(value, list) else value


def ranks(values: Floats) -> Floats:
    """1..n, ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def correlation(a: Floats, b: Floats) -> float:
    """0 where one of them does not vary."""
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
