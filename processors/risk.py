"""Risk: every LONG or SHORT decision gets exactly one verdict; an approved one gets an Entry with its stop.

The first row that applies decides:

|    | asked                                              | verdict                              |
|----|----------------------------------------------------|--------------------------------------|
|  1 | the decision's candle is older than an entry lives | REFUSED STALE                        |
|  2 | its strategy is switched off                       | REFUSED STRATEGY_OFF                 |
|  3 | a position stands on the same side                 | REFUSED POSITION_EXISTS              |
|  4 | a position stands against it                       | CLOSE, or REFUSED OPPOSITE_IGNORED   |
|  5 | the instrument may not be entered                  | REFUSED INSTRUMENT_OUTSIDE_UNIVERSE  |
|  6 | an order of ours is under way                      | REFUSED ORDER_IN_FLIGHT              |
|  7 | confidence below the governor's                    | REFUSED CONFIDENCE                   |
|  8 | closed less than the cool-down ago (venue time)    | REFUSED COOL_DOWN                    |
|  9 | the account has not been seen                      | REFUSED ACCOUNT_UNKNOWN              |
| 10 | positions and orders under way fill the limit      | REFUSED TOO_MANY_POSITIONS           |
| 11 | the leverage would be liquidated before the stop   | REFUSED LEVERAGE                     |
| 12 | no quantity within the limits                      | REFUSED SIZE_BELOW_MINIMUM           |
| 13 | exposure with what is under way                    | REFUSED EXPOSURE                     |
| 14 | margin with what is under way                      | REFUSED MARGIN_AVAILABLE             |
| 15 | the emergency stop is engaged                      | REFUSED EMERGENCY_STOP               |
| 16 | the symbol's breaker, or that of all, is open      | REFUSED BREAKER_OPEN                 |
| 17 |                                                    | APPROVED WITHIN_LIMITS, with an Entry|

Rows 15 and 16 are asked of the finished Entry: what closes never comes so far. The brakes themselves (processors/breaker.py,
processors/emergency.py) are part of this state: whoever approves reads them in the same step.

State is per instrument, and the account under its own key, with the emergency stop and the breaker of all; limits sum over all of
them (`Context.states`), so one instance decides. An approval reserves its notional and margin until the order has ended without a
fill, or the position that it became is seen. An emergency closes positions by verdicts of its own (CLOSE, EMERGENCY_STOP).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from processors import brakes, breaker, emergency, order_ids, sizing
from processors import filters as rounding
from processors.breaker import Breaker
from processors.emergency import Emergency
from processors.exits import liquidation, planner
from processors.filters import FilterBook
from processors.step import Context, Step
from schemas import ids
from schemas.events import Event, InstrumentEvent
from schemas.ids import Purpose
from schemas.operations import Audit, CommandKind, GuardianReport, Heartbeat
from schemas.policy import Opposite, Policy
from schemas.risk import ALL, Alarm, Outcome, Reason, Trip, Verdict
from schemas.signals import Action, Decision
from schemas.trading import (
    AccountSnapshot,
    Closed,
    Correction,
    CorrectionKind,
    Entry,
    ExitReason,
    Order,
    OrderType,
    Position,
    PositionStatus,
)
from schemas.units import Side, Source

ACCOUNT = "account"
"""The key of the account's own state: snapshots come on a topic of one partition."""

REMEMBERED = 16
"""Decisions remembered by id: one that the log holds twice gets one verdict."""

ZERO = Decimal(0)
LOST_BY_GUARDIAN = ("STOP_PLACED", "SWAPPED", "CLOSED", "FAILED")
LOST_BY_EXIT = (ExitReason.PROTECTION_LOST, ExitReason.GUARDIAN, ExitReason.LIQUIDATION)


class Held(msgspec.Struct, frozen=True):
    position_id: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    entry_client_id: str
    at: int = 0
    source: Source = Source.LIVE

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.entry_price


class Reservation(msgspec.Struct, frozen=True):
    """An approved entry that is not yet a position. It goes when its order has ended and what it filled has been seen.

    `client_id`: that of the first attempt.
    """

    entry_id: str
    client_id: str
    notional: Decimal
    margin: Decimal
    ended: bool = False
    filled: bool = False
    seen: bool = False

    @property
    def done(self) -> bool:
        return self.ended and (self.seen or not self.filled)

    def named(self, *client_ids: str) -> bool:
        """Whether one of them is this entry's order, at whatever attempt."""
        return any(order_ids.attempt_id(self.client_id, n) in client_ids for n in range(1, order_ids.MAX_ATTEMPTS + 1))


class Account(msgspec.Struct, frozen=True):
    equity: Decimal
    available: Decimal
    at: int


class State(msgspec.Struct, frozen=True):
    version: int = 1
    held: Held | None = None
    reserved: Reservation | None = None
    last_closed_at: int = -1
    decided: tuple[str, ...] = ()
    account: Account | None = None
    breaker: Breaker = Breaker()
    emergency: Emergency = Emergency()

    @property
    def notional(self) -> Decimal:
        """What this instrument may come to: a position that is still being filled is part of its reservation."""
        return max(self.held.notional if self.held else ZERO, self.reserved.notional if self.reserved else ZERO)


class Book(NamedTuple):
    """The whole portfolio, orders under way included."""

    positions: int
    notional: Decimal
    reserved_margin: Decimal
    account: Account | None


class Answer(NamedTuple):
    outcome: Outcome
    reason: Reason
    detail: str
    size: sizing.Size | None = None
    stop_price: Decimal | None = None
    stop_distance: Decimal | None = None


def step(state: State | None, event: Event, ctx: Context, filters: FilterBook) -> Step[State]:
    """Decisions are answered; everything else is folded."""
    state = state or State()
    match event:
        case Decision():
            return _decide(state, event, ctx, filters)
        case Position():
            return Step(_fold_position(state, event))
        case Closed():
            lost = f"closed by {event.exit_reason}" if event.exit_reason in LOST_BY_EXIT else ""
            return _tripped(_fold_closed(state, event), event, Trip.PROTECTION_LOST, lost, ctx)
        case Order():
            return _ordered(_fold_order(state, event), event, ctx)
        case GuardianReport():
            lost = f"guardian, {event.action}: {event.detail}" if event.action in LOST_BY_GUARDIAN else ""
            return _tripped(state, event, Trip.PROTECTION_LOST, lost, ctx)
        case Correction():
            unexplained = event.kind is CorrectionKind.POSITION_UNEXPLAINED
            differs = f"ours {event.ours}, the exchange's {event.theirs}: {event.reason}" if unexplained else ""
            return _tripped(state, event, Trip.RECONCILIATION, differs, ctx)
        case AccountSnapshot():
            return _on_snapshot(state, event, ctx)
        case Heartbeat():
            at = state.account.at if state.account else 0
            stop = emergency.heard(state.emergency, event, at, ctx.policy.emergency)
            return _braked(state, state.breaker, _counted(stop, at, ctx), at, ctx)
        case Audit():
            return _on_command(state, event, ctx)
        case _:
            return Step(state)


def book(states: Mapping[str, State]) -> Book:
    """Sums over everything that this instance holds."""
    used = [each for each in states.values() if each.held or each.reserved]
    account = states.get(ACCOUNT)
    return Book(
        positions=len(used),
        notional=sum((each.notional for each in used), ZERO),
        reserved_margin=sum((each.reserved.margin for each in used if each.reserved), ZERO),
        account=account.account if account else None,
    )


def _on_snapshot(state: State, seen: AccountSnapshot, ctx: Context) -> Step[State]:
    """The account as it stands, and what it means for the stop and for the breaker of all. Venue time passes for both."""
    stop = _counted(emergency.snapshot(state.emergency, seen, ctx.policy.emergency), seen.at, ctx)
    of_all = breaker.of_all(state.breaker, _breakers(ctx), seen.at, ctx.policy.breaker)
    state = msgspec.structs.replace(state, account=Account(seen.equity, seen.available, seen.at))
    after = _braked(state, of_all, stop, seen.at, ctx)
    closes = _closes(stop, seen, ctx) if seen.at > (state.emergency.at) else []
    return Step(after.state, [*after.events, *closes])


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


def _on_command(state: State, audit: Audit, ctx: Context) -> Step[State]:
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
                return _moved(state, own, ctx.key, at, ctx)
        case _:
            return Step(state)
    return _braked(state, own, stop, at, ctx)


def _tripped(state: State, event: InstrumentEvent, reason: Trip, evidence: str, ctx: Context) -> Step[State]:
    """Opens the breaker of this symbol when there is evidence."""
    if not evidence:
        return Step(state)
    after = breaker.trip(state.breaker, reason, evidence, event.at, ctx.policy.breaker)
    return _moved(state, after, event.instrument, event.at, ctx)


def _ordered(state: State, order: Order, ctx: Context) -> Step[State]:
    seq = 1 + breaker.newest(_breakers(ctx))
    return _moved(state, breaker.ordered(state.breaker, order, seq, ctx.policy.breaker), order.instrument, order.at, ctx)


def _moved(state: State, after: Breaker, scope: str, at: int, ctx: Context) -> Step[State]:
    """A symbol's breaker after something; an event when it changed."""
    changed = after.revision != state.breaker.revision
    events = [breaker.said(after, ctx.account, scope, at, ctx.policy_version)] if changed else []
    return Step(msgspec.structs.replace(state, breaker=after), events)


def _breakers(ctx: Context) -> list[tuple[str, Breaker]]:
    """Of all symbols, by name."""
    return [(name, each.breaker) for name, each in sorted(ctx.states.items()) if name != ACCOUNT]


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


def _fold_position(state: State, position: Position) -> State:
    reserved = state.reserved
    if reserved and reserved.named(position.entry_client_id, position.last_client_id):
        reserved = _unless_done(msgspec.structs.replace(reserved, filled=True, seen=True))
    if position.status is PositionStatus.OPEN:
        held = Held(
            position.position_id,
            position.side,
            position.quantity,
            position.entry_price,
            position.entry_client_id,
            position.at,
            position.source,
        )
        return msgspec.structs.replace(state, held=held, reserved=reserved)
    gone = state.held is not None and state.held.position_id == position.position_id
    closed_at = max(state.last_closed_at, position.at)
    return msgspec.structs.replace(state, held=None if gone else state.held, reserved=reserved, last_closed_at=closed_at)


def _fold_closed(state: State, closed: Closed) -> State:
    """Says nothing of what is held: positions does, and a round trip may come before or after its FLAT."""
    reserved = state.reserved
    if reserved and reserved.named(closed.entry_client_id):
        reserved = _unless_done(msgspec.structs.replace(reserved, filled=True, seen=True))
    return msgspec.structs.replace(state, reserved=reserved, last_closed_at=max(state.last_closed_at, closed.closed_at))


def _fold_order(state: State, order: Order) -> State:
    """Each attempt has a client id of its own; the intent's id stays, so the reservation follows it."""
    reserved = state.reserved
    if reserved is None or order.purpose is not Purpose.ENTRY or order.intent_id != reserved.entry_id:
        return state
    reserved = msgspec.structs.replace(
        reserved,
        filled=reserved.filled or order.filled_quantity > 0,
        ended=reserved.ended or order.state.terminal,
    )
    return msgspec.structs.replace(state, reserved=_unless_done(reserved))


def _unless_done(reserved: Reservation) -> Reservation | None:
    return None if reserved.done else reserved


def _decide(state: State, decision: Decision, ctx: Context, filters: FilterBook) -> Step[State]:
    if decision.action is Action.HOLD or decision.event_id in state.decided:
        return Step(state)
    portfolio = book(ctx.states)
    answer = _answer(state, decision, ctx.policy, portfolio, filters)
    state = msgspec.structs.replace(state, decided=(*state.decided, decision.event_id)[-REMEMBERED:])
    verdict = _verdict(decision, ctx, portfolio, answer)
    if answer.size is None or answer.stop_price is None:
        return Step(state, [verdict])
    entry = _entry(decision, ctx, verdict, answer.size, answer.stop_price, filters)
    account = ctx.states[ACCOUNT]
    own = breaker.cooled(state.breaker, decision.at)
    under_way = sum(each.reserved is not None for each in ctx.states.values())
    held = brakes.judge(entry, own, account.breaker, account.emergency, under_way)
    if held is not None:
        return Step(state, [_verdict(decision, ctx, portfolio, _no(held.reason, held.detail))])
    tried = _moved(state, own, decision.instrument, decision.at, ctx)
    reserved = Reservation(entry.event_id, entry.client_id, answer.size.notional, answer.size.margin)
    return Step(msgspec.structs.replace(tried.state or state, reserved=reserved), [*tried.events, verdict, entry])


def _answer(state: State, decision: Decision, policy: Policy, portfolio: Book, filters: FilterBook) -> Answer:
    """The table at the head of this file, row by row."""
    side, risk = decision.action.side, policy.risk
    account = portfolio.account
    if account and account.at > decision.candle_at + policy.execution.entry_ttl_s * 1000:
        age_s = (account.at - decision.candle_at) / 1000
        return _no(
            Reason.STALE, f"its candle closed {age_s:.0f} s of venue time ago, an entry lives {policy.execution.entry_ttl_s} s"
        )
    if decision.strategy not in policy.models.strategies:
        return _no(Reason.STRATEGY_OFF, f"strategy {decision.strategy} is not in models.strategies")
    if state.held:
        return _against(state.held, side, policy)
    listed = not policy.universe.instruments or decision.instrument in policy.universe.instruments
    rules = filters.get(decision.instrument)
    if not listed or decision.instrument in policy.universe.blacklist or rules is None:
        why = "the exchange does not list it" if rules is None else "by policy"
        return _no(Reason.INSTRUMENT_OUTSIDE_UNIVERSE, f"{decision.instrument} may not be entered: {why}")
    if state.reserved:
        return _no(Reason.ORDER_IN_FLIGHT, f"entry {state.reserved.client_id} is under way")
    if decision.confidence < risk.confidence_min:
        return _no(Reason.CONFIDENCE, f"{decision.confidence:.4f} is below {risk.confidence_min:g}")
    since_ms = decision.at - state.last_closed_at
    if state.last_closed_at >= 0 and since_ms < risk.cool_down_s * 1000:
        return _no(Reason.COOL_DOWN, f"closed {since_ms / 1000:.0f} s ago, the cool-down is {risk.cool_down_s} s")
    if account is None:
        return _no(Reason.ACCOUNT_UNKNOWN, "no snapshot of the account yet")
    if portfolio.positions >= risk.max_positions:
        return _no(Reason.TOO_MANY_POSITIONS, f"{portfolio.positions} positions and orders of {risk.max_positions}")

    price = decision.reference_price
    known = planner.Known(decision.atr, decision.regime, decision.confidence)
    plan = planner.levels(planner.governing(policy.exits, decision.instrument), known, policy.exits)
    stop = rounding.stop_price(price * (1 - side.sign * plan.stop), side, rules)
    distance = (price - stop) * side.sign / price
    bound = liquidation.leverage_bound(plan.stop, risk)
    if risk.leverage > bound or distance <= 0 or stop <= 0:
        return _no(Reason.LEVERAGE, f"leverage {risk.leverage}, at most {bound} with a stop {distance:.2%} away")
    size = sizing.size(account.equity, decision.confidence, price, plan.stop, risk.leverage, risk, rules)
    if not size.quantity:
        return _no(Reason.SIZE_BELOW_MINIMUM, size.why)
    after = (portfolio.notional + size.notional) / account.equity
    if after > risk.max_exposure:
        return _no(Reason.EXPOSURE, f"{after:.2%} of equity with what is under way, at most {risk.max_exposure:.0%}")
    free = account.available - portfolio.reserved_margin
    if size.margin > free:
        return _no(Reason.MARGIN_AVAILABLE, f"needs {size.margin:.2f}, free are {free:.2f}")
    return Answer(Outcome.APPROVED, Reason.WITHIN_LIMITS, f"{size.why}; exposure then {after:.2%}", size, stop, plan.stop)


def _against(held: Held, side: Side, policy: Policy) -> Answer:
    if held.side is side:
        return _no(Reason.POSITION_EXISTS, f"{side} {held.quantity:f} stands already")
    if policy.execution.on_opposite is Opposite.IGNORE:
        return _no(Reason.OPPOSITE_IGNORED, f"{held.side} {held.quantity:f} stands, and the policy ignores the opposite")
    return Answer(Outcome.CLOSE, Reason.OPPOSITE_DECISION, f"{held.side} {held.quantity:f} stands against it")


def _no(reason: Reason, detail: str) -> Answer:
    return Answer(Outcome.REFUSED, reason, detail)


def _verdict(decision: Decision, ctx: Context, portfolio: Book, answer: Answer) -> Verdict:
    verdict_id = ids.event_id("risk.verdict", ctx.account, decision.event_id)
    account, size = portfolio.account, answer.size
    return Verdict(
        event_id=verdict_id,
        at=decision.at,
        instrument=decision.instrument,
        account=ctx.account,
        decision_id=decision.event_id,
        outcome=answer.outcome,
        reason=answer.reason,
        detail=answer.detail,
        side=decision.action.side,
        confidence=decision.confidence,
        reference_price=decision.reference_price,
        equity=account.equity if account else None,
        margin=size.margin if size else None,
        leverage=ctx.policy.risk.leverage if size else None,
        notional=size.notional if size else None,
        quantity=size.quantity if size else None,
        stop_price=answer.stop_price,
        entry_id=_entry_id(verdict_id) if size else None,
        open_positions=portfolio.positions,
        exposure=(portfolio.notional / account.equity).quantize(Decimal("0.000001")) if account and account.equity > 0 else ZERO,
        policy_version=ctx.policy_version,
        source=decision.source,
        stop_distance=answer.stop_distance,
        atr=decision.atr,
        regime=decision.regime,
    )


def _entry_id(verdict_id: str) -> str:
    return ids.event_id("trade.entry", verdict_id)


def _entry(
    decision: Decision, ctx: Context, verdict: Verdict, size: sizing.Size, stop_price: Decimal, filters: FilterBook
) -> Entry:
    entry_id, policy, side = _entry_id(verdict.event_id), ctx.policy, decision.action.side
    order_type = OrderType(policy.execution.order_type)
    limit = None
    if order_type is OrderType.LIMIT:  # as far as slippage may go, so that it trades at once or rests
        worst = decision.reference_price * (1 + side.sign * policy.execution.max_slippage)
        limit = rounding.profit_price(worst, side, filters[decision.instrument])
    return Entry(
        event_id=entry_id,
        at=decision.at,
        instrument=decision.instrument,
        account=ctx.account,
        decision_id=decision.event_id,
        verdict_id=verdict.event_id,
        strategy=decision.strategy,
        side=side,
        order_type=order_type,
        quantity=size.quantity,
        limit_price=limit,
        reference_price=decision.reference_price,
        stop_price=stop_price,
        leverage=policy.risk.leverage,
        client_id=ids.client_id(Purpose.ENTRY, entry_id),
        stop_client_id=ids.client_id(Purpose.STOP, entry_id),
        not_after=decision.at + policy.execution.entry_ttl_s * 1000,
        policy_version=ctx.policy_version,
        source=decision.source,
    )
