"""features: market.trades -> market.candles, market.features, market.peeks."""

from __future__ import annotations

from infra.settings import Settings
from processors.features import step as features
from schemas import topics
from streams.app import run_stage
from streams.stage import Stage

STAGE = Stage(
    name="features",
    inputs=(topics.MARKET_TRADES,),
    outputs=(topics.MARKET_CANDLES, topics.MARKET_FEATURES, topics.MARKET_PEEKS),
    state=features.State,
    step=features.step,
    # ten kilobytes an instrument that change with every frame: written once a second, read again after a crash
    flush_s=1.0,
)


def main(settings: Settings) -> None:
    run_stage(STAGE, settings)
