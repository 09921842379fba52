"""From candles to what can be learnt: features, windows, labels and how far each label reaches.

A row is one symbol at one closed candle, named by a number: bar * symbols + symbol. Everything is kept flat under that number,
so that a fold, a stride or a shuffle is an array of numbers and no copy of the data. The features are those that live workers
compute, by the same kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from processors.features.catalogue import INDEX, READY_BARS
from processors.features.kernel import replay
from processors.learning.labels import (
    EMBARGO,
    HORIZON,
    QUIET,
    Fold,
    deviation,
    forward_return,
    normalised,
    realised_volatility,
    triple_barrier,
    uniqueness,
)

WINDOW: Final = 64
"""Candles that a network looks at; the last of them is the one that has just closed."""
BARRIER: Final = 1.0
"""Distance of the barriers, in deviations over the horizon."""
HV: Final = INDEX["hv_50"]

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Numbers = NDArray[np.int64]
Kind = TypeVar("Kind", bound=np.generic)


class Market(NamedTuple):
    """Closed 5-minute candles, float64 arrays [bars, symbols]; `name` says where they come from, e.g. `synthetic seed 7`.

    `traded`: False for a candle that is not in the source and was filled flat with the close before it (None: all are there).
    """

    name: str
    symbols: Sequence[str]
    o: Floats
    h: Floats
    l: Floats  # noqa: E741 - the field's standard letter
    c: Floats
    v: Floats
    open_at: Numbers | None = None  # ms
    traded: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """`features` [symbols, bars, features]; the others flat by row number, NaN or 0 where a bar has no answer yet."""

    market: Market
    features: Rows
    used: NDArray[np.bool_]  # a full window of ready features before, a full horizon of real candles behind
    forward: Floats  # log return over the horizon
    scale: Floats  # what it deviates by
    target: Floats  # forward / scale, cut
    volatility: Floats  # ln(realised volatility of the horizon / hv_50)
    barrier: NDArray[np.int8]
    ends: Numbers  # bar into which the label reaches
    weight: Floats  # uniqueness of the label
    barrier_weight: Floats  # uniqueness of the barrier's label, which may end sooner

    @property
    def bars(self) -> int:
        return int(self.features.shape[1])

    @property
    def symbols(self) -> int:
        return int(self.features.shape[0])

    @property
    def span(self) -> tuple[int, int]:
        """Bars [first, last) that have used rows."""
        some = np.nonzero(self.used.reshape(self.bars, self.symbols).any(axis=1))[0]
        return int(some[0]), int(some[-1]) + 1

    def rows(self, begin: int, end: int, stride: int = 1) -> Numbers:
        """Used rows of the bars [begin, end), every `stride`-th bar, in order of time, all symbols of a bar together."""
        numbers = np.arange(begin * self.symbols, end * self.symbols)
        return np.asarray(numbers[self.used[numbers] & (numbers // self.symbols % stride == begin % stride)])

    def learnable(self, fold: Fold, stride: int = 1) -> Numbers:
        """Rows that a fold may learn from: no label, and nothing that features remember, reaches into its test."""
        rows = self.rows(fold.train_from, fold.train_to, stride)
        return np.asarray(rows[self.ends[rows] + EMBARGO <= fold.test_from])

    def latest(self, rows: Numbers) -> Rows:
        """Features of the rows' own candle [n, features]."""
        return np.asarray(self.features[rows % self.symbols, rows // self.symbols])

    def windows(self, rows: Numbers) -> Rows:
        """The last WINDOW candles' features [n, WINDOW, features]. A copy: ask for some thousand rows at a time."""
        bar, symbol = rows // self.symbols, rows % self.symbols
        return np.asarray(self.features[symbol[:, None], bar[:, None] + np.arange(1 - WINDOW, 1)])

    def paths(self, rows: Numbers) -> Rows:
        """The way to the target: return in deviations, cut, after 1..HORIZON candles [n, HORIZON]."""
        bar, symbol = rows // self.symbols, rows % self.symbols
        ahead = self.market.c[bar[:, None] + np.arange(1, HORIZON + 1), symbol[:, None]] / self.market.c[bar, symbol][:, None]
        return normalised(np.log(ahead), self.scale[rows, None]).astype(np.float32)


def dataset(market: Market) -> Dataset:
    """ValueError when there are too few candles for a single row."""
    needed = READY_BARS + WINDOW - 1 + HORIZON
    if len(market.c) < needed:
        raise ValueError(f"{len(market.c)} candles a symbol; {needed} are needed for the first row")
    return labelled(market, replay(market.o, market.h, market.l, market.c, market.v))


def labelled(market: Market, features: Rows) -> Dataset:
    """The same with features [bars, symbols, features] that are there already."""
    bars, symbols = market.c.shape
    first = READY_BARS + WINDOW - 2
    hv = features[:, :, HV].astype(np.float64)
    scale = deviation(hv)
    known = bars - HORIZON
    forward = _padded(forward_return(market.c), bars)
    volatility = _padded(np.log(realised_volatility(market.c) / np.maximum(hv[:known], QUIET)), bars)
    label, took = triple_barrier(market.h, market.l, market.c, BARRIER * scale)
    used = np.zeros((bars, symbols), dtype=np.bool_)
    used[first:known] = True
    if market.traded is not None:
        real = np.lib.stride_tricks.sliding_window_view(market.traded, HORIZON + 1, axis=0).all(axis=-1)
        used[:known] &= real
    whole = np.full(used.shape, HORIZON, dtype=np.int64)
    return Dataset(
        market=market,
        features=np.ascontiguousarray(features.transpose(1, 0, 2)),
        used=used.reshape(-1),
        forward=forward.reshape(-1),
        scale=scale.reshape(-1),
        target=normalised(forward, scale).reshape(-1),
        volatility=volatility.reshape(-1),
        barrier=_padded(label, bars, 0).reshape(-1),
        ends=(np.arange(bars)[:, None] + whole).reshape(-1),
        weight=uniqueness(used, whole).reshape(-1),
        barrier_weight=uniqueness(used, _padded(took, bars, HORIZON)).reshape(-1),
    )


def digest(market: Market) -> str:
    """What was learnt from: sha256 of all candles."""
    columns = np.stack([market.o, market.h, market.l, market.c, market.v]).astype("<f8")
    return hashlib.sha256(columns.tobytes()).hexdigest()


def _padded(values: NDArray[Kind], bars: int, fill: float = np.nan) -> NDArray[Kind]:
    """The same with rows behind the last known one."""
    behind = np.full((bars - len(values), *values.shape[1:]), fill, dtype=values.dtype)
    return np.concatenate([values, behind])
