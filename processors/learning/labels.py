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
CLIP: Final = 5.0
"""Deviations beyond which a normalised return is cut: one crash must not teach everything."""
QUIET: Final = 1e-5
"""Least deviation of one candle's log return that anything is divided by: a market that stands still is not infinitely sure."""

Floats = NDArray[np.float64]


def forward_return(close: Floats) -> Floats:
    """ln(c[t+HORIZON]/c[t]) for [bars, ...]; the last HORIZON bars have no answer yet and no row."""
    return np.asarray(np.log(close[HORIZON:] / close[:-HORIZON]))


def deviation(hv: Floats) -> Floats:
    """What a return over HORIZON candles deviates by, if the volatility `hv` of one candle goes on."""
    return np.asarray(np.maximum(hv, QUIET) * np.sqrt(float(HORIZON)))


def normalised(forward: Floats, scale: Floats) -> Floats:
    """The forward return in deviations, cut at CLIP: comparable between coins and between quiet and wild days."""
    return np.asarray(np.clip(forward / scale, -CLIP, CLIP))


def realised_volatility(close: Floats) -> Floats:
    """sqrt(mean of r^2) over the next HORIZON candles, for [bars, ...]; not less than QUIET. HORIZON rows fewer than bars."""
    squares = np.log(close[1:] / close[:-1]) ** 2
    sums = np.lib.stride_tricks.sliding_window_view(squares, HORIZON, axis=0).mean(axis=-1)
    return np.asarray(np.maximum(np.sqrt(sums), QUIET))


def triple_barrier(high: Floats, low: Floats, close: Floats, width: Floats) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Which barrier a trade from this close meets first: close * exp(+width) gives +1, close * exp(-width) gives -1.

    0 when HORIZON candles pass first, or when one candle meets both and nobody knows in which order. Arrays [bars, symbols];
    returns labels [bars - HORIZON, symbols] and how many candles each took (1..HORIZON). (Lopez de Prado, 2018, chapter 3.)
    """
    bars = len(close) - HORIZON
    upper, lower = close[:bars] * np.exp(width[:bars]), close[:bars] * np.exp(-width[:bars])
    label = np.zeros(upper.shape, dtype=np.int8)
    took = np.full(upper.shape, HORIZON, dtype=np.int64)
    waiting = np.ones(upper.shape, dtype=np.bool_)
    for ahead in range(1, HORIZON + 1):
        over, under = high[ahead : bars + ahead] >= upper, low[ahead : bars + ahead] <= lower
        met = waiting & (over | under)
        label[met] = over[met].astype(np.int8) - under[met].astype(np.int8)
        took[met] = ahead
        waiting &= ~met
    return label, took


def uniqueness(used: NDArray[np.bool_], took: NDArray[np.int64]) -> Floats:
    """Weight of each sample [bars, symbols]: the mean, over the candles that its label reaches into, of 1 / labels there.

    `used`: rows that exist; the others weigh nothing. Labels of one symbol overlap, those of two symbols are counted apart.
    (Lopez de Prado, 2018, chapter 4.)
    """
    bars, symbols = used.shape
    at, who = np.nonzero(used)
    reach = at + took[at, who]
    edges = np.zeros((bars + int(took.max(initial=0)) + 2, symbols))
    np.add.at(edges, (at + 1, who), 1.0)
    np.add.at(edges, (reach + 1, who), -1.0)
    labels = np.cumsum(edges, axis=0)
    shares = np.cumsum(np.where(labels > 0.5, 1.0 / np.maximum(labels, 1.0), 0.0), axis=0)
    weights = np.zeros(used.shape)
    weights[at, who] = (shares[reach, who] - shares[at, who]) / took[at, who]
    return weights


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
