"""positions: trade.fills -> trade.positions, trade.closed."""

from __future__ import annotations

from processors import positions
from schemas import topics
from streams.stage import Stage

STAGE = Stage(
    name="positions",
    inputs=(topics.TRADE_FILLS,),
    outputs=(topics.TRADE_POSITIONS, topics.TRADE_CLOSED),
    state=positions.State,
    step=positions.step,
)
