"""positions: trade.fills -> trade.positions, trade.closed."""

from __future__ import annotations

from typing import Any

from infra.settings import Settings
from processors import positions
from schemas import topics
from schemas.trading import Position, PositionStatus
from streams.app import run_stage
from streams.stage import Stage


def is_flat(event: Any) -> bool:
    """A position that is gone leaves the compacted topic."""
    return isinstance(event, Position) and event.status is PositionStatus.FLAT


STAGE = Stage(
    name="positions",
    inputs=(topics.TRADE_FILLS,),
    outputs=(topics.TRADE_POSITIONS, topics.TRADE_CLOSED),
    state=positions.State,
    step=positions.step,
    tombstone_after=is_flat,
)


def main(settings: Settings) -> None:
    run_stage(STAGE, settings)
