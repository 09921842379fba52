"""signals: market.features, market.peeks, model.versions -> market.regimes, signal.predictions, signal.proposals, model.switches;
signal.proposals -> signal.decisions, model.supervision.

One active instance, because a candle is decided by one model version in all partitions: whoever begins a version knows the newest
candle decided. It reads its own proposals back: in their one sequence a round is ranked and supervised, now and on a replay.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from infra.settings import Settings
from processors import signals
from schemas import hot, topics
from schemas.models import BUILT_IN, ModelVersion
from schemas.signals import Proposal, ProposalBarrier
from streams.app import run_stage
from streams.serving import Server
from streams.stage import Stage, by_instrument, home_of
from streams.supervision import Supervised


def keys(event: Any, known: Collection[str]) -> Collection[str]:
    """A barrier concerns the instruments of its partition, then the partition; pointers and rounds have their own key."""
    if isinstance(event, ModelVersion):
        return (signals.MODEL,)
    if isinstance(event, Proposal | ProposalBarrier):
        return (signals.SUPERVISOR,)
    if isinstance(event, hot.Barrier):
        instruments = [key for key in known if signals.is_instrument(key)]
        return [*instruments, signals.barrier_key(event.partition)] if instruments else []
    return by_instrument(event, known)


def home(key: str) -> int:
    return int(key.partition("/")[2]) if key.startswith("barrier/") else home_of(key)


def is_pointer(event: Any) -> bool:
    return isinstance(event, ModelVersion)


FLUSH_S = 1.0
"""Each close changes every window, 17 kB a symbol. What it has caused leaves at once; after a crash it is decided again, to the
same."""

STAGE = Stage(
    name="signals",
    inputs=(topics.MARKET_FEATURES, topics.MARKET_PEEKS, topics.MODEL_VERSIONS, topics.SIGNAL_PROPOSALS),
    outputs=(
        topics.MARKET_REGIMES,
        topics.SIGNAL_PREDICTIONS,
        topics.SIGNAL_PROPOSALS,
        topics.SIGNAL_DECISIONS,
        topics.MODEL_SWITCHES,
        topics.MODEL_SUPERVISION,
    ),
    state=signals.State,
    step=signals.step,
    keys=keys,
    home=home,
    needs_policy=True,
    written_first=is_pointer,
    flush_s=FLUSH_S,
    linger_ms=1,
)
"""As declared; a worker runs it with the models."""


def main(settings: Settings) -> None:
    server = Server(settings)
    server.preload(BUILT_IN)
    supervised = Supervised(server.attach)
    REGISTRY.register(server)
    REGISTRY.register(supervised)
    step = partial(signals.step, heard=server.heard)
    run_stage(replace(STAGE, step=step, prepare=server.prepare, observer=supervised, notes=server.notes), settings)
