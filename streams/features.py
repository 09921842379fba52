"""features: market.trades -> market.candles, market.features, market.peeks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from infra.settings import Settings
from processors.features import step as features
from schemas import hot, topics
from streams.app import run_stage
from streams.stage import Stage, by_instrument, home_of


def keys(event: Any, known: Collection[str]) -> Collection[str]:
    """A tick concerns every instrument of its partition, and then the partition: its barrier stands behind their vectors."""
    if isinstance(event, hot.Tick):
        instruments = [key for key in known if not features.is_barrier(key)]
        return [*instruments, features.barrier_key(event.partition)] if instruments else []
    return by_instrument(event, known)


def home(key: str) -> int:
    return int(key.partition("/")[2]) if features.is_barrier(key) else home_of(key)


STAGE = Stage(
    name="features",
    inputs=(topics.MARKET_TRADES,),
    outputs=(topics.MARKET_CANDLES, topics.MARKET_FEATURES, topics.MARKET_PEEKS),
    state=features.State,
    step=features.step,
    keys=keys,
    home=home,
    # ten kilobytes an instrument that change with every frame: written once a second, read again after a crash
    flush_s=1.0,
    linger_ms=1,
)


def main(settings: Settings) -> None:
    together = features.Together()

    async def prepare(event: Any, states: Mapping[str, Any]) -> None:
        if isinstance(event, hot.Tick):
            here: dict[str, features.State] = {}
            others: dict[str, features.State] = {}
            for key, state in states.items():
                if not features.is_barrier(key):
                    (here if home(key) == event.partition else others)[key] = state
            together.take(event, here, others)

    run_stage(replace(STAGE, step=partial(features.step, together=together), prepare=prepare), settings)
