"""risk: signal.decisions (and what is open, ordered and owned) -> risk.verdicts, trade.entries. One active instance.

The brakes stand here too: whatever trips them -> breaker.states, risk.states (docs/adr/0010).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

from infra.settings import Settings
from processors import book, braking, risk
from schemas import topics
from schemas.market import UniverseSeen
from schemas.operations import Audit, CommandKind, Heartbeat
from schemas.risk import ALL
from schemas.trading import AccountSnapshot
from streams.app import run_stage
from streams.brakes import Lights
from streams.filters import read_filters
from streams.stage import Stage, by_instrument


def keys(event: Any, known: Collection[str]) -> Collection[str]:
    """The account and the universe have keys of their own, and whatever speaks of the whole system concerns that one."""
    if isinstance(event, AccountSnapshot | Heartbeat):
        return (book.ACCOUNT,)
    if isinstance(event, UniverseSeen):
        return (book.UNIVERSE,)
    if isinstance(event, Audit):
        return concerned(event, known)
    return by_instrument(event, known)


def concerned(audit: Audit, known: Collection[str]) -> Collection[str]:
    """A command's keys: of a breaker its symbol, of `*` all that there are; of a stop the account."""
    if not audit.accepted:
        return ()
    match audit.kind:
        case CommandKind.STOP | CommandKind.RESUME:
            return (book.ACCOUNT,)
        case CommandKind.BREAKER_RESET | CommandKind.BREAKER_OVERRIDE:
            scope = braking.scope_of(audit)
            return (
                (book.ACCOUNT, *(name for name in known if name not in (book.ACCOUNT, book.UNIVERSE))) if scope == ALL else (scope,)
            )
        case _:
            return ()


STAGE = Stage(
    name="risk",
    inputs=(
        topics.SIGNAL_DECISIONS,
        topics.TRADE_ORDERS,
        topics.TRADE_POSITIONS,
        topics.TRADE_CLOSED,
        topics.ACCOUNT_SNAPSHOTS,
        topics.ACCOUNT_CORRECTIONS,
        topics.GUARDIAN_REPORTS,
        topics.CONTROL_AUDIT,
        topics.HEALTH_HEARTBEATS,
        topics.MARKET_UNIVERSE,
    ),
    outputs=(topics.RISK_VERDICTS, topics.TRADE_ENTRIES, topics.BREAKER_STATES, topics.RISK_STATES),
    state=book.State,
    step=partial(risk.step, filters={}),
    keys=keys,
    needs_policy=True,
)
"""As declared; a worker runs it with the exchange's filters."""


def main(settings: Settings) -> None:
    filters = read_filters(settings, open_only=True)
    run_stage(replace(STAGE, step=partial(risk.step, filters=filters), observer=Lights()), settings)
