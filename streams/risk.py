"""risk: signal.decisions (and what is open, ordered and owned) -> risk.verdicts, trade.entries. One active instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from infra.settings import Settings
from processors import risk
from schemas import topics
from schemas.market import UniverseSeen
from schemas.trading import AccountSnapshot
from streams.app import run_stage
from streams.filters import read_filters
from streams.stage import Stage, by_instrument


def keys(event: Any, known: Sequence[str]) -> Sequence[str]:
    """The account and the universe have a key of their own."""
    if isinstance(event, UniverseSeen):
        return (risk.UNIVERSE,)
    return (risk.ACCOUNT,) if isinstance(event, AccountSnapshot) else by_instrument(event, known)


STAGE = Stage(
    name="risk",
    inputs=(
        topics.SIGNAL_DECISIONS,
        topics.TRADE_ORDERS,
        topics.TRADE_POSITIONS,
        topics.TRADE_CLOSED,
        topics.ACCOUNT_SNAPSHOTS,
        topics.MARKET_UNIVERSE,
    ),
    outputs=(topics.RISK_VERDICTS, topics.TRADE_ENTRIES),
    state=risk.State,
    step=partial(risk.step, filters={}),
    keys=keys,
    needs_policy=True,
)
"""As declared; a worker runs it with the exchange's filters."""


def main(settings: Settings) -> None:
    filters = read_filters(settings, open_only=True)
    run_stage(replace(STAGE, step=partial(risk.step, filters=filters)), settings)
