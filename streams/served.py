"""A model version by its name: from the registry, or the built-in one; verified as it loads, and asked the same way."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infra import registry
from infra.onnx import Model, ModelUnavailable, Unavailable, load_model, seed_dir
from infra.registry import Ensemble
from infra.settings import Settings
from processors.features.catalogue import NAMES, feature_hash
from processors.features.step import WINDOW
from processors.signals import Answer
from schemas.models import BUILT_IN

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Window = NDArray[np.float32]


class Served(Protocol):
    """A verified version, loaded and warm. `answer` blocks; windows are [1..n, features], oldest first.

    `heavy`: a run takes milliseconds, and belongs off the event loop. `importance`: shares by feature; empty: it does not tell.
    """

    version: str
    heavy: bool
    importance: Mapping[str, float]

    def answer(self, windows: Sequence[Window]) -> list[Answer]: ...

    def peek(self, row: Window) -> Answer:
        """Of one vector [features] of a candle that still forms: by what is quick enough to be asked on the event loop."""


def load(name: str, settings: Settings) -> Served:
    """The version of that name, verified. Raises ModelUnavailable."""
    if name == BUILT_IN:
        where = settings.model_dir or seed_dir()
        return _BuiltIn(where.name, load_model(where, feature_hash()))
    if not _NAME.fullmatch(name):
        raise ModelUnavailable(Unavailable.MISSING, f"{name!r} is no version: want a name as `quantum model list` prints it")
    where = settings.model_registry / name
    if not where.is_dir():
        raise ModelUnavailable(Unavailable.MISSING, f"no version {name} in {settings.model_registry}")
    found = registry.load(where, settings.model_key.get_secret_value(), feature_hash())
    if found.version != name:
        raise ModelUnavailable(Unavailable.WRONG_HASH, f"{where} holds version {found.version}")
    if found.manifest.window_bars > WINDOW:
        raise ModelUnavailable(Unavailable.OTHER_FEATURES, f"it looks at {found.manifest.window_bars} vectors, we keep {WINDOW}")
    return _Whole(found)


class _BuiltIn:
    heavy = False
    importance: Mapping[str, float] = {}

    def __init__(self, name: str, model: Model) -> None:
        self._name, self._model = name, model
        self.version = model.version

    def answer(self, windows: Sequence[Window]) -> list[Answer]:
        began = time.perf_counter()
        found = self._model.predict(np.stack([window[-1] for window in windows]))
        took_us, manifest = _us_since(began), self._model.manifest
        return [
            Answer(self._name, self.version, manifest.feature_hash, manifest.horizon_bars, float(p_up), latency_us=took_us)
            for p_up in found
        ]

    def peek(self, row: Window) -> Answer:
        return self.answer([row[None]])[0]


class _Whole:
    """Full windows together by the ensemble; while a window fills, the version's tree members answer alone."""

    heavy = True

    def __init__(self, model: Ensemble) -> None:
        self._model, self.version = model, model.version
        self.importance: Mapping[str, float] = model.manifest.importance
        self._bars = model.manifest.window_bars

    def answer(self, windows: Sequence[Window]) -> list[Answer]:
        found: dict[int, Answer] = {}
        full = [place for place, window in enumerate(windows) if len(window) >= self._bars]
        short = [place for place, window in enumerate(windows) if len(window) < self._bars]
        for places, trees in ((full, False), (short, True)):
            if places:
                found.update(zip(places, self._batch([windows[place] for place in places], trees), strict=True))
        return [found[place] for place in range(len(windows))]

    def peek(self, row: Window) -> Answer:
        return self._batch([row[None]], trees=True)[0]

    def _batch(self, windows: Sequence[Window], trees: bool) -> list[Answer]:
        began = time.perf_counter()
        if trees:
            said = self._model.predict_fast(np.stack([window[-1] for window in windows]))
        else:
            said = self._model.predict(np.stack([window[-self._bars :] for window in windows]))
        took_us, manifest = _us_since(began), self._model.manifest
        belief = manifest.calibration["fast" if trees else "ensemble"]
        shares = list(zip(belief["members"], belief["weights"], strict=True))
        return [
            Answer(
                "ensemble",
                self.version,
                manifest.feature_hash,
                manifest.horizon_bars,
                float(said["probability"][row]),
                tuple((str(name), float(said["predictions"][row, place]), float(w)) for place, (name, w) in enumerate(shares)),
                float(said["volatility"][row]),
                float(said["edge"][row]),
                trees,
                took_us,
            )
            for row in range(len(windows))
        ]


def warm(served: Served) -> Served:
    """Runs it once at the shape of a live window, so that the first decision does not pay for it."""
    served.answer([np.zeros((WINDOW, len(NAMES)), dtype=np.float32)])
    return served


def _us_since(began: float) -> int:
    return round((time.perf_counter() - began) * 1e6)
