"""The emergency stop: once one of its alarms has sounded nothing is opened until an administrator resumes.

| alarm            | sounds when                                                              | by the word of       |
|------------------|--------------------------------------------------------------------------|----------------------|
| DAILY_DRAWDOWN   | equity below the highest of the venue's day, in two snapshots in a row   | account.snapshots    |
| WEEKLY_DRAWDOWN  | of the week, the same                                                    | account.snapshots    |
| EMERGENCY_BRAKE  | loss since the start, or since the last resume, the same                 | account.snapshots    |
| SYSTEM_HEALTH    | a vital worker that was ready has not been so for long                   | health.heartbeats    |
| EXECUTION_ERRORS | too many orders failed in a row, of at least two symbols                 | trade.orders         |
| FEED_SILENT      | the market's feed has brought nothing for long, as its ticks say         | health.heartbeats    |
| MANUAL           | a person stopped                                                         | control.audit        |

A drawdown also closes losers, then the worst of what is left until half of the exposure is gone. The others close nothing: stops
rest on the exchange, and who cannot see the market, or cannot order, should not sell into it.

Silence is measured in heard time, the sum of the steps between heartbeats: a night in which everything was off counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors.breaker import Breaker
from schemas import ids
from schemas.operations import Heartbeat
from schemas.policy import Emergency as Rules
from schemas.policy import Remedy
from schemas.risk import Alarm, RiskState
from schemas.trading import AccountSnapshot, HeldPosition

ZERO, ONE = Decimal(0), Decimal(1)
DAY_MS = 86_400_000
MONDAY = 3
"""Days from a Monday to the epoch, a Thursday."""
STEP_MS = 5_000
"""The longest step of heard time between two heartbeats."""
DRAWDOWNS = (Alarm.DAILY_DRAWDOWN, Alarm.WEEKLY_DRAWDOWN, Alarm.EMERGENCY_BRAKE)
FEED = "market"


class Emergency(msgspec.Struct, frozen=True):
    """`beyond`: drawdowns past their limits in the snapshot before. `heard_ms`: heard time; `ready`: worker -> when it last said
    that it is ready, in heard time. `forgiven`: place among orders up to which errors no longer count. `closing`: what is still to
    be closed; `asked`: snapshots since that was decided."""

    alarms: tuple[Alarm, ...] = ()
    evidence: tuple[str, ...] = ()
    since: int = 0
    revision: int = 0
    actor: str = ""
    day: int = -1
    week: int = -1
    day_high: Decimal = ZERO
    week_high: Decimal = ZERO
    capital: Decimal = ZERO
    equity: Decimal | None = None
    at: int = -1
    beyond: tuple[Alarm, ...] = ()
    heard_at: int = 0
    heard_ms: int = 0
    ready: dict[str, int] = {}
    forgiven: int = 0
    closing: tuple[str, ...] = ()
    asked: int = 0

    @property
    def stopped(self) -> bool:
        return bool(self.alarms)


class Losses(NamedTuple):
    """Shares; a loss is positive in the first two and negative in `profit`."""

    daily: Decimal
    weekly: Decimal
    profit: Decimal


def losses(state: Emergency) -> Losses:
    equity = state.equity if state.equity is not None else ZERO
    return Losses(_fall(equity, state.day_high), _fall(equity, state.week_high), -_fall(equity, state.capital))


def snapshot(state: Emergency, seen: AccountSnapshot, rules: Rules) -> Emergency:
    """Equity against its highs; sounds and says what is to be closed. One that is not newer says nothing."""
    if seen.at <= state.at:
        return state
    day = seen.at // DAY_MS
    week = (day + MONDAY) // 7
    state = msgspec.structs.replace(
        state,
        at=seen.at,
        equity=seen.equity,
        day=day,
        week=week,
        day_high=seen.equity if day != state.day else max(state.day_high, seen.equity),
        week_high=seen.equity if week != state.week else max(state.week_high, seen.equity),
        capital=state.capital or seen.equity,
    )
    found = losses(state)
    limits = (
        (Alarm.DAILY_DRAWDOWN, found.daily, rules.daily_drawdown, "below the highest of the day"),
        (Alarm.WEEKLY_DRAWDOWN, found.weekly, rules.weekly_drawdown, "below the highest of the week"),
        (Alarm.EMERGENCY_BRAKE, -found.profit, rules.brake, "lost since the start or the last resume"),
    )
    beyond = tuple(alarm for alarm, loss, limit, _ in limits if loss >= limit)
    before, state = state, msgspec.structs.replace(state, beyond=beyond)
    for alarm, loss, limit, words in limits:
        if alarm in beyond and alarm in before.beyond and alarm not in state.alarms:
            evidence = f"equity {seen.equity:f} is {loss:.2%} {words}, the limit is {limit:.2%}"
            state = sounded(state, alarm, evidence, seen.at)
            state = msgspec.structs.replace(state, closing=to_close(seen.positions, rules.remedies), asked=0)
    held = {position.instrument for position in seen.positions}
    left = tuple(name for name in state.closing if name in held)
    return msgspec.structs.replace(state, closing=left, asked=state.asked + 1 if left else 0)


def heard(state: Emergency, beat: Heartbeat, at: int, rules: Rules) -> Emergency:
    """A worker's word: of itself, of the feed, and that time has passed for the others. `at`: venue time, for the record."""
    step = min(max(0, beat.at - state.heard_at), STEP_MS) if state.heard_at else 0
    now = state.heard_ms + step
    ready = {**state.ready, beat.worker: now} if beat.ready else state.ready
    state = msgspec.structs.replace(state, heard_at=max(state.heard_at, beat.at), heard_ms=now, ready=ready)
    silent = {name: now - state.ready[name] for name in sorted(rules.vital) if name in state.ready}
    lost = [f"{name} for {ms / 1000:.0f} s" for name, ms in silent.items() if ms > rules.health_silent_s * 1000]
    if lost and Alarm.SYSTEM_HEALTH not in state.alarms:
        state = sounded(state, Alarm.SYSTEM_HEALTH, f"not ready: {', '.join(lost)}", at)
    age_ms = beat.feed_age_ms if beat.worker == FEED else None
    if age_ms is not None and age_ms > rules.feed_silent_s * 1000 and Alarm.FEED_SILENT not in state.alarms:
        state = sounded(state, Alarm.FEED_SILENT, f"the feed has been silent for {age_ms / 1000:.0f} s", at)
    return state


def counted(state: Emergency, breakers: Iterable[Breaker], at: int, rules: Rules, each_at_most: int) -> Emergency:
    """Execution errors since the last success of any symbol. A symbol counts up to what opens its own breaker, and never enough to
    stop all by itself."""
    if Alarm.EXECUTION_ERRORS in state.alarms:
        return state
    known = list(breakers)
    since = max((each.succeeded for each in known), default=0)
    since = max(since, state.forgiven)
    cap = min(each_at_most, rules.errors_in_a_row)
    row = sum(min(cap, sum(fault.seq > since for fault in each.faults)) for each in known)
    if row <= rules.errors_in_a_row:
        return state
    return sounded(state, Alarm.EXECUTION_ERRORS, f"{row} orders failed in a row, the limit is {rules.errors_in_a_row}", at)


def sounded(state: Emergency, alarm: Alarm, evidence: str, at: int, actor: str = "") -> Emergency:
    """One more alarm; the stop begins with the first."""
    if alarm in state.alarms:
        return state
    return msgspec.structs.replace(
        state,
        alarms=(*state.alarms, alarm),
        evidence=(*(state.evidence if state.stopped else ()), f"{alarm}: {evidence}"),
        since=state.since if state.stopped else at,
        revision=state.revision + 1,
        actor=actor or (state.actor if state.stopped else ""),
    )


def resumed(state: Emergency, at: int, actor: str, why: str, heard_orders: int) -> Emergency:
    """Entries open again, and everything is measured from now on. A cause that still stands sounds again."""
    if not state.stopped:
        return state
    return Emergency(
        evidence=(f"resumed: {why}",),
        since=at,
        revision=state.revision + 1,
        actor=actor,
        equity=state.equity,
        at=state.at,
        heard_at=state.heard_at,
        heard_ms=state.heard_ms,
        forgiven=heard_orders,
    )


def to_close(positions: Sequence[HeldPosition], remedies: Sequence[Remedy]) -> tuple[str, ...]:
    """Which positions go, worst first (profit as a share of the notional at entry)."""
    worst = sorted(positions, key=lambda p: (p.unrealized_pnl / (_notional(p) or ONE), p.instrument))
    gone = [p for p in worst if p.unrealized_pnl < 0] if Remedy.CLOSE_LOSERS in remedies else []
    if Remedy.HALVE_EXPOSURE in remedies:
        half = sum(map(_notional, worst), ZERO) / 2
        rest = [p for p in worst if p not in gone]
        while rest and sum(map(_notional, rest), ZERO) > half:
            gone.append(rest.pop(0))
    return tuple(p.instrument for p in gone)


def due(state: Emergency) -> tuple[str, ...]:
    """What is to be asked for now: at once, and again after 2, 4, 8 .. snapshots while it stands."""
    return state.closing if state.asked and state.asked & (state.asked - 1) == 0 else ()


def said(state: Emergency, account: str, at: int, policy_version: int) -> RiskState:
    """The event of its last change."""
    found = losses(state)
    return RiskState(
        event_id=ids.event_id("risk.state", account, state.revision, state.stopped, *state.alarms, at),
        at=at,
        account=account,
        stopped=state.stopped,
        alarms=list(state.alarms),
        evidence=list(state.evidence),
        since=state.since,
        closing=list(state.closing),
        equity=state.equity,
        daily_drawdown=_short(found.daily),
        weekly_drawdown=_short(found.weekly),
        profit=_short(found.profit),
        actor=state.actor,
        policy_version=policy_version,
    )


def worth(positions: Sequence[HeldPosition]) -> Mapping[str, Decimal]:
    """instrument -> the mark that its profit implies, or its entry price where that is none."""
    found = {p.instrument: (p.entry_price + p.unrealized_pnl / p.quantity, p.entry_price) for p in positions if p.quantity}
    return {name: mark if mark > 0 else entry for name, (mark, entry) in found.items() if max(mark, entry) > 0}


def _notional(position: HeldPosition) -> Decimal:
    return abs(position.quantity) * position.entry_price


def _fall(equity: Decimal, high: Decimal) -> Decimal:
    return ZERO if high <= 0 else ONE - equity / high


def _short(share: Decimal) -> Decimal:
    return share.quantize(Decimal("0.000001"))
