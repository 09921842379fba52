"""From what members say to what is believed: their vote, and how often it was right when they spoke so loudly.

Weights and curves are fitted on out-of-fold forecasts only. A curve that comes out flat says that the vote knows nothing, and
then nothing is done: that is the intended answer.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from processors.learning.evaluation import correlation

Floats = NDArray[np.float64]

KNOTS: Final = 16
ENOUGH: Final = 2_000
"""Independent observations (sum of the uniqueness weights) from which on steps are trusted more than a line."""


class Curve(NamedTuple):
    """Straight lines between the knots (x rising), level outside of them."""

    x: Floats
    y: Floats
    kind: str

    def __call__(self, score: Floats) -> Floats:
        return np.asarray(np.interp(score, self.x, self.y))

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "x": [float(v) for v in self.x], "y": [float(v) for v in self.y]}


def vote(predictions: Floats, target: Floats) -> Floats:
    """Weights [members] for forecasts [rows, members]: half shared equally, half by what each one's correlation was worth.

    Equal when none was worth anything: with as little signal as markets have, weights fitted more boldly fit noise.
    """
    members = predictions.shape[1]
    worth = np.array([max(correlation(predictions[:, m], target), 0.0) for m in range(members)])
    shares = worth / worth.sum() if worth.sum() > 0.0 else np.full(members, 1.0 / members)
    return np.asarray(0.5 / members + 0.5 * shares)


def rising(score: Floats, outcome: Floats, weight: Floats) -> Curve:
    """The mean outcome as a rising curve of the score.

    Isotonic on bins of equal weight when the weights add up to ENOUGH independent observations; else, for outcomes 0 and 1,
    Platt's sigmoid, and for others a straight line that never falls.
    """
    if not len(score) or np.ptp(score) == 0.0:
        mean = float(np.average(outcome, weights=weight)) if len(score) else 0.0
        return Curve(np.array([-1.0, 1.0]), np.full(2, mean), "flat")
    order = np.argsort(score, kind="stable")
    score, outcome, weight = score[order], outcome[order], weight[order]
    share = np.cumsum(weight) / weight.sum()
    place = np.minimum((share * KNOTS).astype(np.int64), KNOTS - 1)
    _, place = np.unique(place, return_inverse=True)
    total = np.bincount(place, weight)
    x, y = np.bincount(place, weight * score) / total, np.bincount(place, weight * outcome) / total
    apart = np.concatenate([[True], np.diff(x) > 1e-6 * np.ptp(x)])
    if weight.sum() >= ENOUGH:
        x, y, kind = x[apart], isotonic_regression(y, sample_weight=total)[apart], "isotonic"
    elif np.isin(outcome, (0.0, 1.0)).all():
        slope, level = _platt(score, outcome, weight)
        x, kind = x[apart], "platt"
        y = 1.0 / (1.0 + np.exp(-(slope * x + level)))
    else:
        slope, level = _line(score, outcome, weight)
        x, kind = x[apart], "line"
        y = slope * x + level
    return Curve(x, np.asarray(y), kind) if len(x) > 1 else Curve(np.array([x[0] - 1.0, x[0] + 1.0]), np.full(2, y[0]), "flat")


def _platt(score: Floats, outcome: Floats, weight: Floats) -> tuple[float, float]:
    """(slope >= 0, level) of the logistic regression, by Newton's steps with a little shrinkage of the slope."""
    scale = float(np.std(score))
    z = score / scale
    a = b = 0.0
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-(a * z + b)))
        left, curve = weight * (outcome - p), weight * p * (1.0 - p) + 1e-9
        gradient = np.array([np.sum(left * z) - a, np.sum(left)])
        hessian = np.array([[np.sum(curve * z * z) + 1.0, np.sum(curve * z)], [np.sum(curve * z), np.sum(curve)]])
        step = np.linalg.solve(hessian, gradient)
        a, b = a + float(step[0]), b + float(step[1])
    if a < 0.0:
        mean = float(np.average(outcome, weights=weight))
        return 0.0, float(np.log(mean / (1.0 - mean))) if 0.0 < mean < 1.0 else 0.0
    return a / scale, b


def _line(score: Floats, outcome: Floats, weight: Floats) -> tuple[float, float]:
    middle, level = float(np.average(score, weights=weight)), float(np.average(outcome, weights=weight))
    spread = float(np.average((score - middle) ** 2, weights=weight))
    slope = float(np.average((score - middle) * (outcome - level), weights=weight)) / spread
    # as many observations as weigh in: a slope within its own error is none
    error = float(np.std(outcome)) / np.sqrt(max(float(weight.sum()), 1.0) * spread)
    slope = max(slope - error, 0.0)
    return slope, level - slope * middle
