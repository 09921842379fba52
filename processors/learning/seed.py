"""The seed model: a small LightGBM classifier of direction, so that the first run has an honest model before any retraining.

Honest: it learns and is judged on the features that live workers compute, in time order, with a gap; its manifest tells what
it is worth against knowing nothing. Reproducible: the same candles give the same bytes (one thread, fixed seeds, no dates).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from processors.features import kernel
from processors.features.catalogue import FEATURE_SET, NAMES, READY_BARS, feature_hash
from processors.features.kernel import replay
from processors.learning import evaluation, export
from processors.learning.dataset import Market, digest
from processors.learning.labels import EMBARGO, HORIZON, forward_return, walk_forward

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

TREES: Final = 100
FOLDS: Final = 5
GOLDEN_ROWS: Final = 32
PARAMETERS: Final[Mapping[str, Any]] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "feature_fraction": 0.8,
    "max_bin": 127,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
_LIBRARIES = ("lightgbm", "numpy", "onnx", "onnxmltools")


@dataclass(frozen=True, slots=True)
class Sample:
    """What can be learnt from a market: features and forward return per bar and symbol, from the first ready bar on."""

    features: Rows  # [bars, symbols, 49]
    forward: Floats  # [bars, symbols]

    def rows(self, begin: int = 0, end: int | None = None) -> tuple[Rows, Floats]:
        """Bars [begin, end) of all symbols as rows."""
        return self.features[begin:end].reshape(-1, len(NAMES)), self.forward[begin:end].reshape(-1)


@dataclass(frozen=True, slots=True)
class Trained:
    """`onnx`: the artefact; `rows`, `expected`: what the booster itself says, for the parity of whoever runs the artefact."""

    onnx: bytes
    manifest: dict[str, Any]
    rows: Rows
    expected: Floats


def train(market: Market, unseen: Market, *, trained_on: str) -> Trained:
    """Train on `market`; judge by walk-forward inside it, and on `unseen`, which the model has never met.

    ValueError when there are too few bars. The manifest lacks what only a run of the artefact can tell (`parity_max`).
    """
    sample, other = sample_of(market), sample_of(unseen)
    folds = []
    for fold in walk_forward(0, len(sample.forward), FOLDS):
        booster = fit(*sample.rows(fold.train_from, fold.train_to))
        rows, forward = sample.rows(fold.test_from, fold.test_to)
        folds.append(evaluation.scores(predict(booster, rows), forward))
    booster = fit(*sample.rows())
    rows, forward = other.rows()
    expected = predict(booster, rows)
    version = f"seed-{_recipe(market)}"
    artefact = export.to_onnx(
        booster,
        len(NAMES),
        {
            "schema": "1",
            "model_version": version,
            "feature_set": FEATURE_SET,
            "feature_hash": feature_hash(),
            "horizon_bars": str(HORIZON),
        },
    )
    golden = np.argsort(expected, kind="stable")[np.linspace(0, len(expected) - 1, GOLDEN_ROWS).astype(np.int64)]
    manifest = {
        "schema": 1,
        "version": version,
        "sha256": hashlib.sha256(artefact).hexdigest(),
        "trained_on": trained_on,
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        "horizon_bars": HORIZON,
        "embargo_bars": EMBARGO,
        "training": {
            "market": market.name,
            "symbols": list(market.symbols),
            "bars": len(market.c),
            "rows": len(sample.rows()[1]),
            "data_sha256": digest(market),
            "trees": TREES,
            "parameters": dict(PARAMETERS),
        },
        "libraries": {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _LIBRARIES}},
        "walk_forward": evaluation.rounded(
            {"folds": FOLDS, "threshold": evaluation.THRESHOLD, **evaluation.mean_and_spread(folds)}
        ),
        "unseen": evaluation.rounded(
            {
                "market": unseen.name,
                **evaluation.scores(expected, forward),
                "reliability": evaluation.reliability(expected, forward),
            }
        ),
        "golden": {
            "rows": [[float(str(value)) for value in row] for row in rows[golden]],
            "p_up": [float(value) for value in expected[golden]],
        },
    }
    return Trained(artefact, manifest, rows, expected)


def sample_of(market: Market) -> Sample:
    """Features of every ready bar whose horizon has come."""
    features = replay(market.o, market.h, market.l, market.c, market.v)
    return Sample(features[READY_BARS - 1 : -HORIZON], forward_return(market.c)[READY_BARS - 1 :])


def fit(rows: Rows, forward: Floats) -> lightgbm.Booster:
    return lightgbm.train(dict(PARAMETERS), lightgbm.Dataset(rows, (forward > 0.0).astype(np.int8)), TREES)


def predict(booster: lightgbm.Booster, rows: Rows) -> Floats:
    """Probability that the close is higher at the horizon."""
    return np.asarray(booster.predict(rows, num_threads=1), dtype=np.float64)


def _recipe(market: Market) -> str:
    """Names the version: the same features, to the same bits, candles and parameters make the same model."""
    text = json.dumps([feature_hash(), kernel.VERSION, digest(market), TREES, HORIZON, dict(PARAMETERS)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
