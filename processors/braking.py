"""What happens to the brakes: every event that risk hears, folded into the breaker of its symbol, or into the account's.

The breaker of all and the emergency stop stand in the account's state: only topics of one partition may change it. They see the
symbols' breakers through `Context.states`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from processors import breaker, emergency
from processors.book import ACCOUNT, UNIVERSE, ZERO, Account, Held, State
from processors.breaker import Breaker
from processors.emergency import Emergency
from processors.step import Context, Step
from schemas import ids
from schemas.events import Event
from schemas.operations import Audit, CommandKind, GuardianReport, Heartbeat
from schemas.risk import ALL, Alarm, Outcome, Reason, Trip, Verdict
from schemas.trading import AccountSnapshot, Closed, Correction, CorrectionKind, ExitReason, Order
from schemas.units import Side, Source

LOST_BY_GUARDIAN = ("STOP_PLACED", "SWAPPED", "CLOSED", "FAILED")
LOST_BY_EXIT = (ExitReason.PROTECTION_LOST, ExitReason.STOP_PASSED, ExitReason.GUARDIAN, ExitReason.LIQUIDATION)
Suspect = Closed | GuardianReport | Correction


def snapshot(state: State, seen: AccountSnapshot, ctx: Context) -> Step[State]:
    """The account as it stands, and what it means for the stop and for the breaker of all. Venue time passes for both."""
    stop = _counted(emergency.snapshot(state.emergency, seen, ctx.policy.emergency), seen.at, ctx)
    of_all = breaker.of_all(state.breaker, _breakers(ctx), seen.at, ctx.policy.breaker)
    state = msgspec.structs.replace(state, account=Account(seen.equity, seen.available, seen.at))
    after = _braked(state, of_all, stop, seen.at, ctx)
    closes = _closes(stop, seen, ctx) if seen.at > (state.emergency.at) else []
    return Step(after.state, [*after.events, *closes])


def heard(state: State, beat: Heartbeat, ctx: Context) -> Step[State]:
    """A worker's heartbeat: of itself, of the feed, and that time has passed."""
    at = state.account.at if state.account else 0
    stop = emergency.heard(state.emergency, beat, at, ctx.policy.emergency)
    return _braked(state, state.breaker, _counted(stop, at, ctx), at, ctx)


def _counted(stop: Emergency, at: int, ctx: Context) -> Emergency:
    known = (each for _, each in _breakers(ctx))
    return emergency.counted(stop, known, at, ctx.policy.emergency, ctx.policy.breaker.errors)


def _braked(state: State, of_all: Breaker, stop: Emergency, at: int, ctx: Context) -> Step[State]:
    """The account's state with its brakes, and the events of those that changed."""
    events: list[Event] = []
    if of_all.revision != state.breaker.revision:
        events.append(breaker.said(of_all, ctx.account, ALL, at, ctx.policy_version))
    if stop.revision != state.emergency.revision:
        events.append(emergency.said(stop, ctx.account, at, ctx.policy_version))
    return Step(msgspec.structs.replace(state, breaker=of_all, emergency=stop), events)


def _closes(stop: Emergency, seen: AccountSnapshot, ctx: Context) -> list[Event]:
    """A verdict for each position that goes: exits closes it as it closes what an opposite decision stands against."""
    marks = emergency.worth(seen.positions)
    closes: list[Event] = []
    for position in seen.positions:
        name, price = position.instrument, marks.get(position.instrument)
        if name not in emergency.due(stop) or price is None:
            continue
        known = ctx.states.get(name)
        held: Held | None = known.held if known else None
        cause = ids.event_id("risk.emergency", ctx.account, stop.revision, name, stop.asked)
        closes.append(
            Verdict(
                event_id=ids.event_id("risk.verdict", ctx.account, cause),
                at=max(seen.at, held.at if held else 0),
                instrument=name,
                account=ctx.account,
                decision_id=cause,
                outcome=Outcome.CLOSE,
                reason=Reason.EMERGENCY_STOP,
                detail="; ".join(stop.evidence),
                side=Side.SHORT if position.quantity > 0 else Side.LONG,
                confidence=1.0,
                reference_price=price,
                equity=seen.equity,
                margin=None,
                leverage=None,
                notional=None,
                quantity=None,
                stop_price=None,
                entry_id=None,
                open_positions=len(seen.positions),
                exposure=ZERO,
                policy_version=ctx.policy_version,
                source=held.source if held else Source.LIVE,
            )
        )
    return closes


def commanded(state: State, audit: Audit, ctx: Context) -> Step[State]:
    """What control has let pass. A person's time is the wall's, so venue time is the account's."""
    at = _venue_at(ctx)
    why = f"{audit.actor}: {audit.detail}"
    stop, own = state.emergency, state.breaker
    match audit.kind:
        case CommandKind.STOP if audit.accepted:
            stop = emergency.sounded(stop, Alarm.MANUAL, why, at, audit.actor)
        case CommandKind.RESUME if audit.accepted:
            stop = emergency.resumed(stop, at, audit.actor, why, breaker.newest(_breakers(ctx)))
        case CommandKind.BREAKER_RESET | CommandKind.BREAKER_OVERRIDE if audit.accepted:
            override = audit.kind is CommandKind.BREAKER_OVERRIDE
            own = breaker.commanded(own, at, audit.actor, why, override=override)
            if ctx.key != ACCOUNT:
                return moved(state, own, ctx.key, at, ctx)
        case _:
            return Step(state)
    return _braked(state, own, stop, at, ctx)


def tripped(state: State, event: Suspect, ctx: Context) -> Step[State]:
    """Opens the breaker of this symbol when the event is evidence."""
    found = evidence(event)
    if found is None:
        return Step(state)
    after = breaker.trip(state.breaker, *found, event.at, ctx.policy.breaker)
    return moved(state, after, event.instrument, event.at, ctx)


def evidence(event: Suspect) -> tuple[Trip, str] | None:
    """What an event says against its symbol."""
    match event:
        case Closed() if event.exit_reason in LOST_BY_EXIT:
            return Trip.PROTECTION_LOST, f"closed by {event.exit_reason}"
        case GuardianReport() if event.action in LOST_BY_GUARDIAN:
            return Trip.PROTECTION_LOST, f"guardian, {event.action}: {event.detail}"
        case Correction() if event.kind is CorrectionKind.POSITION_UNEXPLAINED:
            return Trip.RECONCILIATION, f"ours {event.ours}, the exchange's {event.theirs}: {event.reason}"
        case _:
            return None


def ordered(state: State, order: Order, ctx: Context) -> Step[State]:
    seq = 1 + breaker.newest(_breakers(ctx))
    return moved(state, breaker.ordered(state.breaker, order, seq, ctx.policy.breaker), order.instrument, order.at, ctx)


def moved(state: State, after: Breaker, scope: str, at: int, ctx: Context) -> Step[State]:
    """A symbol's breaker after something; an event when it changed."""
    changed = after.revision != state.breaker.revision
    events = [breaker.said(after, ctx.account, scope, at, ctx.policy_version)] if changed else []
    return Step(msgspec.structs.replace(state, breaker=after), events)


def _breakers(ctx: Context) -> list[tuple[str, Breaker]]:
    """Of all symbols, by name."""
    return [(name, each.breaker) for name, each in sorted(ctx.states.items()) if name not in (ACCOUNT, UNIVERSE)]


def _venue_at(ctx: Context) -> int:
    account = ctx.states.get(ACCOUNT)
    return account.account.at if account and account.account else 0


def scope_of(audit: Audit) -> str:
    """Which breaker an accepted command speaks of."""
    return str(_body(audit).get("scope", ""))


def _body(audit: Audit) -> dict[str, Any]:
    """Control has let only a JSON object pass."""
    found: dict[str, Any] = json.loads(audit.body or "{}")
    return found
