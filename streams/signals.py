"""signals: market.features -> signal.predictions, signal.decisions, with an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from infra import logs
from infra.onnx import ModelUnavailable, load_model, seed_dir
from infra.settings import Settings
from processors import signals
from processors.features.catalogue import feature_hash
from schemas import topics
from streams.app import run_stage
from streams.stage import Stage

log = logs.get(__name__)

STAGE = Stage(
    name="signals",
    inputs=(topics.MARKET_FEATURES,),
    outputs=(topics.SIGNAL_PREDICTIONS, topics.SIGNAL_DECISIONS),
    state=signals.State,
    step=signals.step,
    needs_policy=True,
)


def main(settings: Settings) -> None:
    run_stage(replace(STAGE, step=partial(signals.step, model=model(settings))), settings)


def model(settings: Settings) -> signals.Model | None:
    """None: no model, and the stage says MODEL_UNAVAILABLE on every candle."""
    where = settings.model_dir or seed_dir()
    try:
        found = load_model(where, feature_hash())
    except ModelUnavailable as e:
        log.error("no model: the strategy `model` holds", model_dir=str(where), reason=e.reason, error=e.detail)
        return None

    def predict(values: Sequence[float]) -> float:
        return float(found.predict(np.asarray([values], dtype=np.float32))[0])

    manifest = found.manifest
    return signals.Model(where.name, found.version, manifest.feature_hash, manifest.horizon_bars, predict)
