"""Circuit breakers: of a symbol, and of all. Each holds entries back for a while after something went wrong, then tries one.

    CLOSED  --errors in a row, protection lost, reconciliation difference-->  OPEN
    OPEN  --`may_reset_at` has come and a decision wants in, or RESET-->  HALF_OPEN
    HALF_OPEN  --an entry was taken-->  CLOSED          --anything wrong-->  OPEN, twice as long
    any  --OVERRIDE-->  CLOSED

A symbol's breaker knows that symbol alone; the one of all opens when several symbols' are open at once. Time is the events' `at`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas import ids
from schemas.ids import Purpose
from schemas.policy import Breaker as Rules
from schemas.risk import BreakerState, Phase, Trip
from schemas.trading import Order, OrderState

FAULTS_KEPT = 8
NO_ERRORS = frozenset({-2021, -2022, -4112, -4509, -4118, -4130, -2011, -2013})
"""Refusals that tell how the world stands (level passed, flat already, a stop exists) and not that something is wrong."""


class Fault(msgspec.Struct, frozen=True):
    """An execution error. `seq`: its place among all that risk has heard of orders."""

    seq: int
    order_id: str
    what: str


class Breaker(msgspec.Struct, frozen=True):
    """`faults`: of this symbol since its last success. `succeeded`: the place of that. `heard`: of the newest order event."""

    phase: Phase = Phase.CLOSED
    reason: Trip | None = None
    evidence: str = ""
    since: int = 0
    may_reset_at: int = 0
    trips: int = 0
    revision: int = 0
    actor: str = ""
    faults: tuple[Fault, ...] = ()
    succeeded: int = 0
    heard: int = 0

    def open_at(self, at: int) -> bool:
        """Whether it lets nothing through at this venue time."""
        return self.phase is Phase.OPEN and at < self.may_reset_at


def ordered(breaker: Breaker, order: Order, seq: int, rules: Rules) -> Breaker:
    """An order's step: an error, a success, or neither."""
    breaker = msgspec.structs.replace(breaker, heard=seq)
    what = error_of(order)
    if what is not None:
        if any(fault.order_id == order.event_id for fault in breaker.faults):
            return breaker
        faults = (*breaker.faults, Fault(seq, order.event_id, what))[-FAULTS_KEPT:]
        breaker = msgspec.structs.replace(breaker, faults=faults)
        if breaker.phase is Phase.HALF_OPEN:
            return trip(breaker, Trip.TRIAL_FAILED, what, order.at, rules)
        if len(faults) >= rules.errors:
            evidence = f"{len(faults)} execution errors in a row: {'; '.join(_told(faults))}"
            return trip(breaker, Trip.EXECUTION_ERRORS, evidence, order.at, rules)
        return breaker
    if not _succeeded(order):
        return breaker
    breaker = msgspec.structs.replace(breaker, faults=(), succeeded=seq)
    if breaker.phase is Phase.HALF_OPEN and order.purpose is Purpose.ENTRY and order.cancels is None:
        return _changed(breaker, Phase.CLOSED, Trip.TRIAL_PASSED, f"entry {order.client_id} is {order.state}", order.at, trips=0)
    return breaker


def trip(breaker: Breaker, reason: Trip, evidence: str, at: int, rules: Rules) -> Breaker:
    """Opens; where it is open already, it stays so for longer."""
    was_open = breaker.phase is Phase.OPEN
    trips = max(breaker.trips, 1) if was_open else breaker.trips + 1
    cool_s = min(rules.cool_s * 2 ** (min(trips, 20) - 1), max(rules.cool_s, rules.cool_longest_s))
    until = max(breaker.may_reset_at, at + cool_s * 1000)
    since = breaker.since if was_open else at
    opened = _changed(breaker, Phase.OPEN, reason, evidence, at, trips=trips)
    return msgspec.structs.replace(opened, may_reset_at=until, since=since)


def cooled(breaker: Breaker, at: int) -> Breaker:
    """An open one whose time has come lets the next entry try."""
    if breaker.phase is not Phase.OPEN or breaker.open_at(at):
        return breaker
    return _changed(breaker, Phase.HALF_OPEN, Trip.COOLED, breaker.evidence, at, trips=breaker.trips)


def commanded(breaker: Breaker, at: int, actor: str, why: str, *, override: bool) -> Breaker:
    """RESET: the next entry tries. OVERRIDE: as if nothing had been."""
    if breaker.phase is Phase.CLOSED:
        return breaker
    if override:
        changed = _changed(breaker, Phase.CLOSED, Trip.OVERRIDE, why, at, trips=0)
        return msgspec.structs.replace(changed, faults=(), actor=actor)
    if breaker.phase is Phase.HALF_OPEN:
        return breaker
    changed = _changed(breaker, Phase.HALF_OPEN, Trip.RESET, why, at, trips=breaker.trips)
    return msgspec.structs.replace(changed, faults=(), actor=actor)


def of_all(breaker: Breaker, others: Sequence[tuple[str, Breaker]], at: int, rules: Rules) -> Breaker:
    """The breaker of all after a look at those of the symbols (name, breaker), by name."""
    held = [name for name, each in others if each.open_at(at)]
    if len(held) >= rules.symbols:
        if breaker.phase is Phase.OPEN:
            return breaker
        return trip(breaker, Trip.SYMBOLS_OPEN, f"open at once: {', '.join(held)}", at, rules)
    if breaker.phase is Phase.HALF_OPEN and max((each.succeeded for _, each in others), default=0) > breaker.heard:
        return _changed(breaker, Phase.CLOSED, Trip.TRIAL_PASSED, "an order was taken", at, trips=0)
    after = cooled(breaker, at)
    if after is breaker:
        return breaker
    return msgspec.structs.replace(after, heard=newest(others))


def newest(breakers: Sequence[tuple[str, Breaker]]) -> int:
    return max((each.heard for _, each in breakers), default=0)


def said(breaker: Breaker, account: str, scope: str, at: int, policy_version: int) -> BreakerState:
    """The event of its last change."""
    assert breaker.reason is not None
    return BreakerState(
        event_id=ids.event_id("breaker.state", account, scope, breaker.revision, breaker.phase, breaker.reason, at),
        at=at,
        account=account,
        scope=scope,
        phase=breaker.phase,
        reason=breaker.reason,
        evidence=breaker.evidence,
        since=breaker.since,
        may_reset_at=breaker.may_reset_at,
        trips=breaker.trips,
        actor=breaker.actor,
        policy_version=policy_version,
    )


def error_of(order: Order) -> str | None:
    """What went wrong, in words; None when nothing did."""
    told = f"{order.purpose} {order.state} {order.error_code or ''} {order.reason}".replace("  ", " ").strip()
    if order.error_code in NO_ERRORS:
        return None
    if order.state is OrderState.REFUSED or order.state is OrderState.UNKNOWN:
        return told
    again = order.state is OrderState.PLANNED and order.attempt > 1 and order.error_code is not None
    return told if again else None


def _succeeded(order: Order) -> bool:
    if order.cancels is not None:
        return order.state is OrderState.CANCELED
    return order.state in (OrderState.ACKED, OrderState.FILLED)


def _told(faults: Sequence[Fault]) -> list[str]:
    return list(dict.fromkeys(fault.what for fault in faults))


def _changed(breaker: Breaker, phase: Phase, reason: Trip, evidence: str, at: int, *, trips: int) -> Breaker:
    return msgspec.structs.replace(
        breaker,
        phase=phase,
        reason=reason,
        evidence=evidence,
        since=at,
        may_reset_at=0 if phase is Phase.CLOSED else breaker.may_reset_at,
        trips=trips,
        revision=breaker.revision + 1,
        actor="",
    )
