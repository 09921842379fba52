"""Members become one answer: the weighted vote, its calibration, and what is done about it. Here in numpy, in graph.py as a graph.

    window [n, WINDOW, features]  (or features [n, features], when only trees are in it)
      -> predictions [n, members]  return over the horizon in deviations, as each member sees it
         volatility  [n]           realised volatility of one candle over the horizon
         score       [n]           the vote
         probability [n]           that the price is higher at the horizon
         edge        [n]           log return that a trade between the barriers can expect, before costs, with its sign
         action      [n]           1 LONG, -1 SHORT, 0 HOLD: the edge against the cost of a round trip

What is decided live is the policy's to say; `action` is the model's own view and stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.learning.calibration import Curve, rising, vote
from processors.learning.dataset import BARRIER, Dataset, Numbers
from processors.learning.labels import QUIET, deviation

Floats = NDArray[np.float64]

OUTPUTS: Final = ("predictions", "volatility", "score", "probability", "edge", "action")


@dataclass(frozen=True, slots=True)
class Belief:
    """How much each member counts and what their vote has been worth; `cost` as a log return."""

    weights: Floats
    volatility_weights: Floats
    up: Curve
    barrier: Curve
    cost: float

    def say(self, predictions: Floats, hv: Floats) -> dict[str, Floats]:
        """All outputs for predictions [n, members, 2] and the feature hv_50 [n]."""
        quiet = np.maximum(hv, QUIET)
        score = predictions[:, :, 0] @ self.weights
        edge = self.barrier(score) * BARRIER * deviation(hv)
        return {
            "predictions": predictions[:, :, 0],
            "volatility": np.exp(predictions[:, :, 1] @ self.volatility_weights) * quiet,
            "score": score,
            "probability": self.up(score),
            "edge": edge,
            "action": np.where(edge > self.cost, 1.0, np.where(edge < -self.cost, -1.0, 0.0)),
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "weights": [float(w) for w in self.weights],
            "volatility_weights": [float(w) for w in self.volatility_weights],
            "probability": self.up.as_dict(),
            "barrier": self.barrier.as_dict(),
            "cost": self.cost,
        }


def believe(data: Dataset, rows: Numbers, predictions: Floats, cost: float) -> Belief:
    """Fitted on out-of-fold predictions [rows, members, 2] of those rows and on nothing else."""
    weights = vote(predictions[:, :, 0], data.target[rows])
    score = predictions[:, :, 0] @ weights
    return Belief(
        weights=weights,
        volatility_weights=vote(predictions[:, :, 1], data.volatility[rows]),
        up=rising(score, (data.forward[rows] > 0.0).astype(np.float64), data.weight[rows]),
        barrier=rising(score, data.barrier[rows].astype(np.float64), data.barrier_weight[rows]),
        cost=cost,
    )


def know_nothing(members: int, cost: float) -> Belief:
    """Before there is anything to fit on: equal votes, no opinion."""
    level = Curve(np.array([-1.0, 1.0]), np.full(2, 0.5), "flat")
    equal = np.full(members, 1.0 / members)
    return Belief(equal, equal, level, level._replace(y=np.zeros(2)), cost)
