"""What a member of the ensemble is: something that can be fitted to rows, asked, and written into a graph.

Every member answers both questions: the return of the next HORIZON candles in deviations, and the logarithm of their realised
volatility over the volatility of the last fifty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from processors.learning.dataset import Dataset, Numbers

Floats = NDArray[np.float64]

HEADS: Final = ("target", "volatility")
"""Names of the labels in a Dataset, in the order of the answers."""
Progress = Callable[[float, str], None]
"""Told the share that is done, and a word about it."""
CHUNK: Final = 2_048


class Fitted(Protocol):
    """A member that has learnt."""

    @property
    def sees_windows(self) -> bool:
        """Whether it takes [n, WINDOW, features] or the last candle's [n, features]."""

    def predict(self, inputs: NDArray[np.float32]) -> Floats:
        """[n, 2], the answers in the order of HEADS."""

    def nodes(self, source: str, answers: tuple[str, ...]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same as nodes and constants of a graph: `source` is what `predict` takes, each answer is [n, 1]."""

    @property
    def parameters(self) -> int: ...

    @property
    def importance(self) -> Floats | None:
        """Share of each feature, where the member can tell."""


class Member(Protocol):
    """What can be fitted; `recipe` is everything that decides the outcome beside data and seed."""

    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> dict[str, Any]: ...

    def fit(self, data: Dataset, rows: Numbers, seed: int, progress: Progress) -> Fitted: ...


def predict(fitted: Fitted, data: Dataset, rows: Numbers) -> Floats:
    """Answers for rows of a dataset, some thousand windows at a time."""
    if not fitted.sees_windows:
        return fitted.predict(data.latest(rows))
    parts = [fitted.predict(data.windows(rows[at : at + CHUNK])) for at in range(0, len(rows), CHUNK)]
    return np.concatenate(parts) if parts else np.empty((0, len(HEADS)))
