"""N-HiTS: stacked blocks that see the series at several paces and each explain a part of it.

Every block pools its input (coarse blocks see a smoothed past), answers with a few knots, and interpolates between them: what is
slow is said with few numbers. What a block has explained is taken from the past before the next one looks. The series is seen
from its last value, where the forecast begins too: levels that were never met are nothing new. After Challu et al., "N-HiTS:
Neural Hierarchical Interpolation for Time Series Forecasting" (AAAI 2023). Channels beside the series are exogenous: seen by all
blocks, explained by none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from processors.learning.layers import Dropout


@dataclass(frozen=True, slots=True)
class Pace:
    """One block: candles pooled into one on the way in, and steps of the horizon a knot on the way out."""

    pool: int
    stretch: int


class NHiTS(nn.Module):
    """[batch, lookback, channels] -> (forecast of channel `series` [batch, horizon], `extra` numbers beside it [batch, extra]).

    `level`: whether the series is seen from its last value (right for levels, wrong for returns).
    """

    def __init__(
        self,
        lookback: int,
        horizon: int,
        channels: int = 1,
        *,
        paces: Sequence[Pace],
        hidden: int,
        layers: int = 2,
        dropout: float = 0.0,
        extra: int = 0,
        series: int = 0,
        level: bool = True,
    ) -> None:
        super().__init__()
        self.series, self.level = series, level
        self.blocks = nn.ModuleList(_Block(lookback, horizon, channels, pace, hidden, layers, dropout, extra) for pace in paces)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.transpose(1, 2)
        before, series, behind = x.split([self.series, 1, x.shape[1] - self.series - 1], dim=1)
        series, beside = series.squeeze(1), torch.cat([before, behind], dim=1)
        level = series[:, -1:] * float(self.level)
        series = series - level
        forecast, extra = level, 0.0
        paced = self._paced(beside)
        for block in self.blocks:
            explained, ahead, more = block(series, paced[block.pool])
            series = series - explained
            forecast = forecast + ahead
            extra = extra + more
        return forecast, extra

    def _paced(self, beside: Tensor) -> dict[int, Tensor]:
        """What stands beside the series [batch, channels, lookback], pooled for each block: slow paces from faster ones."""
        paced = {1: beside}
        for pool in sorted({block.pool for block in self.blocks}):
            faster = max(known for known in paced if pool % known == 0)
            paced[pool] = _pooled(paced[faster], pool // faster)
        return paced


def _pooled(x: Tensor, pool: int) -> Tensor:
    return functional.max_pool1d(x, pool, ceil_mode=True) if pool > 1 and x.shape[1] else x


class _Block(nn.Module):
    def __init__(
        self, lookback: int, horizon: int, channels: int, pace: Pace, hidden: int, layers: int, dropout: float, extra: int
    ) -> None:
        super().__init__()
        self.pool = pace.pool
        seen = -(-lookback // pace.pool) * channels
        widths = [seen, *[hidden] * layers]
        parts: list[nn.Module] = []
        for i, o in pairwise(widths):
            parts += [nn.Linear(i, o), nn.ReLU(), Dropout(dropout)]
        self.body = nn.Sequential(*parts)
        knots = max(horizon // pace.stretch, 1)
        self.sizes = [lookback, knots, extra]
        self.seen = seen
        self.head = nn.Linear(hidden, sum(self.sizes))
        self.register_buffer("between", torch.from_numpy(_interpolation(knots, horizon)))

    def forward(self, series: Tensor, beside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`beside`: pooled already."""
        seen = _pooled(series.unsqueeze(1), self.pool)
        if beside.shape[1]:
            seen = torch.cat([seen, beside], dim=1)
        explained, knots, extra = self.head(self.body(seen.reshape(-1, self.seen))).split(self.sizes, dim=1)
        return explained, knots @ self.between, extra


def _interpolation(knots: int, horizon: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[knots, horizon]: linear weights, knots in the middle of their stretches, level at both ends."""
    middles = (np.arange(knots) + 0.5) * horizon / knots - 0.5
    rows = [np.interp(np.arange(horizon), middles, one) for one in np.eye(knots)]
    return np.asarray(np.stack(rows), dtype=np.float32)
