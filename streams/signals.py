"""signals: market.features, model.versions -> market.regimes, signal.predictions, signal.decisions, model.switches.

One active instance, because a candle is decided by one model version in all partitions: whoever begins a version knows the newest
candle decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from infra.settings import Settings
from processors import signals
from schemas import topics
from schemas.models import BUILT_IN, ModelVersion
from streams.app import run_stage
from streams.serving import Server
from streams.stage import Stage, by_instrument


def keys(event: Any, known: Sequence[str]) -> Sequence[str]:
    """A barrier concerns the instruments of its partition; pointers have a key of their own."""
    if isinstance(event, ModelVersion):
        return (signals.MODEL,)
    return [key for key in by_instrument(event, known) if key != signals.MODEL]


def is_pointer(event: Any) -> bool:
    return isinstance(event, ModelVersion)


STAGE = Stage(
    name="signals",
    inputs=(topics.MARKET_FEATURES, topics.MODEL_VERSIONS),
    outputs=(topics.MARKET_REGIMES, topics.SIGNAL_PREDICTIONS, topics.SIGNAL_DECISIONS, topics.MODEL_SWITCHES),
    state=signals.State,
    step=signals.step,
    keys=keys,
    needs_policy=True,
    written_first=is_pointer,
)
"""As declared; a worker runs it with the models."""


def main(settings: Settings) -> None:
    server = Server(settings)
    server.preload(BUILT_IN)
    REGISTRY.register(server)
    run_stage(replace(STAGE, step=partial(signals.step, heard=server.heard), prepare=server.prepare), settings)
