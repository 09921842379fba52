"""exits: positions, marks, orders and wishes to close -> plans, decisions, trade.exits. One active instance."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from infra.settings import Settings
from processors import exits
from schemas import topics
from schemas.trading import ExitPlan
from streams.app import run_stage
from streams.filters import read_filters
from streams.stage import Stage


def is_done(event: Any) -> bool:
    """The plan of a position that is gone leaves the compacted topic."""
    return isinstance(event, ExitPlan) and not event.quantity


FLUSH_S = 1.0
"""Every mark changes every state. What it has caused leaves at once; after a crash a second of marks is decided again, the same."""

STAGE = Stage(
    name="exits",
    inputs=(
        topics.MARKET_MARKS,
        topics.TRADE_POSITIONS,
        topics.TRADE_ORDERS,
        topics.RISK_VERDICTS,
        topics.CONTROL_COMMANDS,
    ),
    outputs=(topics.TRADE_EXIT_PLANS, topics.TRADE_EXIT_DECISIONS, topics.TRADE_EXITS),
    state=exits.State,
    step=partial(exits.step, filters={}),
    keys=exits.keys,
    needs_policy=True,
    tombstone_after=is_done,
    gather=exits.gathered,
    flush_s=FLUSH_S,
)
"""As declared; a worker runs it with the exchange's filters, and with a memory of how far each plan is from its next decision."""


def main(settings: Settings) -> None:
    filters = read_filters(settings)
    run_stage(replace(STAGE, step=partial(exits.step, filters=filters, rests={})), settings)
