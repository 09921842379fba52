"""What a model shall say, and which candles it may learn it from: labels, and splits in time that do not leak.

A label looks HORIZON candles ahead, so neighbouring labels overlap: a random split hands the answers of the test to the
training (it shows an information coefficient of 0.59 where there is none). Splits here are in time, all symbols together,
with a gap of the label's reach and an embargo for what the recursions of the features still remember.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

HORIZON: Final = 12
EMBARGO: Final = 100

Floats = NDArray[np.float64]


def forward_return(close: Floats) -> Floats:
    """ln(c[t+HORIZON]/c[t]) for [bars, ...]; the last HORIZON bars have no answer yet and no row."""
    return np.asarray(np.log(close[HORIZON:] / close[:-HORIZON]))


@dataclass(frozen=True, slots=True)
class Fold:
    """Bars [train_from, train_to) to learn from, [test_from, test_to) to be judged on."""

    train_from: int
    train_to: int
    test_from: int
    test_to: int


def walk_forward(first: int, last: int, folds: int) -> list[Fold]:
    """Expanding windows over the bars [first, last): each fold is judged on the bars behind everything that it learnt from."""
    edges = [first + (last - first) * k // (folds + 1) for k in range(folds + 2)]
    gap = HORIZON + EMBARGO
    found = [Fold(first, edges[k] - gap, edges[k], edges[k + 1]) for k in range(1, folds + 1)]
    if found[0].train_to <= first:
        raise ValueError(f"{last - first} bars are too few for {folds} folds with a gap of {gap}")
    return found
