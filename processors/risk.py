"""Risk: every LONG or SHORT decision gets exactly one verdict; an approved one gets an Entry with its stop.

The first row that applies decides:

|    | asked                                              | verdict                              |
|----|----------------------------------------------------|--------------------------------------|
|  1 | the decision's candle is older than an entry lives | REFUSED STALE                        |
|  2 | its strategy is switched off                       | REFUSED STRATEGY_OFF                 |
|  3 | a position stands on the same side                 | REFUSED POSITION_EXISTS              |
|  4 | a position stands against it                       | CLOSE, or REFUSED OPPOSITE_IGNORED   |
|  5 | the model supervisor blocks it                     | REFUSED MODEL_, then its Block       |
|  6 | the instrument may not be entered                  | REFUSED INSTRUMENT_OUTSIDE_UNIVERSE  |
|  7 | an order of ours is under way                      | REFUSED ORDER_IN_FLIGHT              |
|  8 | confidence below the governor's                    | REFUSED CONFIDENCE                   |
|  9 | closed less than the cool-down ago (venue time)    | REFUSED COOL_DOWN                    |
| 10 | the account has not been seen                      | REFUSED ACCOUNT_UNKNOWN              |
| 11 | positions and orders under way fill the limit      | REFUSED TOO_MANY_POSITIONS           |
| 12 | the leverage would be liquidated before the stop   | REFUSED LEVERAGE                     |
| 13 | no quantity within the limits                      | REFUSED SIZE_BELOW_MINIMUM           |
| 14 | exposure with what is under way                    | REFUSED EXPOSURE                     |
| 15 | margin with what is under way                      | REFUSED MARGIN_AVAILABLE             |
| 16 | the emergency stop is engaged                      | REFUSED EMERGENCY_STOP               |
| 17 | the symbol's breaker, or that of all, is open      | REFUSED BREAKER_OPEN                 |
| 18 |                                                    | APPROVED WITHIN_LIMITS, with an Entry|

Rows 16 and 17 are asked of the finished Entry: what closes never comes so far. The brakes themselves (processors/breaker.py,
processors/emergency.py) are part of this state: whoever approves reads them in the same step.

State is per instrument, and the account under its own key, with the emergency stop and the breaker of all; limits sum over all of
them (`Context.states`), so one instance decides. An approval reserves its notional and margin until the order has ended without a
fill, or the position that it became is seen. An emergency closes positions by verdicts of its own (CLOSE, EMERGENCY_STOP).
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors import brakes, braking, breaker, sizing
from processors import filters as rounding
from processors.book import ACCOUNT, ZERO, Book, Held, Reservation, State, Universe, book
from processors.exits import liquidation, planner
from processors.filters import FilterBook
from processors.step import Context, Step
from schemas import ids
from schemas.events import Event
from schemas.ids import Purpose
from schemas.market import UniverseSeen
from schemas.operations import Audit, GuardianReport, Heartbeat
from schemas.policy import Opposite, Policy
from schemas.risk import Outcome, Reason, Verdict
from schemas.signals import Action, Decision
from schemas.trading import AccountSnapshot, Closed, Correction, Entry, Order, OrderType, Position, PositionStatus
from schemas.units import Side

REMEMBERED = 16
"""Decisions remembered by id: one that the log holds twice gets one verdict."""


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
            return braking.tripped(_fold_closed(state, event), event, ctx)
        case Order():
            return braking.ordered(_fold_order(state, event), event, ctx)
        case GuardianReport() | Correction():
            return braking.tripped(state, event, ctx)
        case UniverseSeen():
            why = {each.instrument: f"{each.reason}: {each.detail}" for each in event.outside}
            return Step(msgspec.structs.replace(state, universe=Universe(event.at, tuple(event.members), why)))
        case AccountSnapshot():
            return braking.snapshot(state, event, ctx)
        case Heartbeat():
            return braking.heard(state, event, ctx)
        case Audit():
            return braking.commanded(state, event, ctx)
        case _:
            return Step(state)


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
    """Each attempt has a client id of its own; the intent's id stays, so the reservation follows it. A cancel of the entry has
    both, too, and ends nothing: the entry's own end does."""
    reserved = state.reserved
    if reserved is None or order.cancels is not None or order.purpose is not Purpose.ENTRY or order.intent_id != reserved.entry_id:
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
    tried = braking.moved(state, own, decision.instrument, decision.at, ctx)
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
    if decision.blocked is not None:
        return _no(Reason(f"MODEL_{decision.blocked}"), decision.detail)
    rules = filters.get(decision.instrument)
    why = "the exchange does not list it" if rules is None else _outside(decision.instrument, policy, portfolio.universe)
    if why or rules is None:
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


def _outside(instrument: str, policy: Policy, universe: Universe | None) -> str:
    """Why it may not be entered; empty: it may. Until the universe is told the policy's own words count, and they do at once."""
    wanted = policy.universe
    if (wanted.instruments and instrument not in wanted.instruments) or instrument in wanted.blacklist:
        return "by policy"
    if universe is None or instrument in universe.members:
        return ""
    return universe.outside.get(instrument, "it is not in the universe")


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
