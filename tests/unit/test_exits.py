"""Histories of positions and how they are left."""

from __future__ import annotations

import json
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from processors import exits, order_ids
from processors.exits import ladder
from processors.filters import Filters
from processors.step import Context
from schemas import hot, ids
from schemas.ids import Purpose
from schemas.operations import Command, CommandKind
from schemas.policy import ExitMode, Exits, Policy, Profile, Rung
from schemas.risk import Outcome, Reason, Verdict
from schemas.trading import (
    Exit,
    ExitAction,
    ExitDecision,
    ExitPlan,
    ExitReason,
    LegKind,
    LegState,
    Order,
    OrderState,
    OrderType,
    Position,
    PositionStatus,
)
from schemas.units import Side, Source

BTC = "binance.usdm.BTCUSDT"
RULES = Filters(D("0.1"), D("0.001"), D("0.001"), D(120), D(100))
NOW = 1_722_470_400_000
ENTRY_ID = "entry-1"
ENTRY = ids.client_id(Purpose.ENTRY, ENTRY_ID)
NET = ids.client_id(Purpose.STOP, ENTRY_ID)
POSITION = "position-1"


class Street:
    """exits with its state and everything that it said, in order."""

    def __init__(self, policy: Policy | None = None, side: Side = Side.LONG) -> None:
        self.policy, self.side = policy or Policy(), side
        self.state: exits.State | None = None
        self.said: list[Any] = []
        self.offset = 0
        self.revision = 0
        self.orders = 0

    def take(self, event: Any, offset: int = 0) -> list[Any]:
        ctx = Context("any", ids.partition_of(BTC), offset, self.policy, 2, "sim", {})
        result = exits.step(self.state, event, ctx, {BTC: RULES})
        self.state = None
        if result.state is not None:
            self.state = msgspec.json.decode(msgspec.json.encode(result.state), type=exits.State)
        self.said += result.events
        return list(result.events)

    # what happens

    def mark(self, price: float, *, high: float | None = None, low: float | None = None, after_s: int = 0) -> list[Any]:
        self.offset += 1 + after_s
        mark = hot.Mark(BTC, price, high or price, low or price, price, price, 0.0, 0)
        marks = hot.Marks(
            f"marks-{self.offset}", "market.marks", NOW + self.offset * 1000, ids.partition_of(BTC), [mark], "synthetic"
        )
        return self.take(marks, self.offset)

    def position(self, quantity: str, last: str = ENTRY, price: str = "64000") -> list[Any]:
        self.revision += 1
        return self.take(
            Position(
                event_id=f"p-{self.revision}",
                at=NOW + self.offset * 1000,
                instrument=BTC,
                account="sim",
                position_id=POSITION,
                revision=self.revision,
                status=PositionStatus.OPEN if D(quantity) else PositionStatus.FLAT,
                side=self.side,
                quantity=D(quantity),
                entry_price=D(price),
                opened_at=NOW,
                realized_pnl=D(0),
                fees=D(0),
                last_trade_id=self.revision,
                last_fill_id="f",
                entry_client_id=ENTRY,
                last_client_id=last,
                source=Source.SYNTHETIC,
            )
        )

    def order(
        self, intent_id: str, client_id: str, state: OrderState, *, trigger: str | None = None, code: int | None = None, **more: Any
    ) -> list[Any]:
        purpose = ids.purpose_of(client_id)
        self.orders += 1
        fields: dict[str, Any] = {
            "event_id": f"o-{self.orders}",
            "at": NOW + self.offset * 1000,
            "instrument": BTC,
            "account": "sim",
            "intent_id": intent_id,
            "client_id": client_id,
            "purpose": purpose,
            "side": self.side.opens_with if purpose is Purpose.ENTRY else self.side.closes_with,
            "order_type": OrderType.MARKET,
            "state": state,
            "attempt": 1,
            "quantity": None,
            "price": None,
            "trigger_price": D(trigger) if trigger else None,
            "close_position": purpose is Purpose.STOP and intent_id == ENTRY_ID,
            "reduce_only": True,
            "error_code": code,
        }
        return self.take(Order(**(fields | more)))

    def entered(self, quantity: str = "0.014") -> None:
        """The usual beginning: entry filled, net resting, position told, ladder resting."""
        level = "62400.0" if self.side is Side.LONG else "65600.0"
        self.order(ENTRY_ID, ENTRY, OrderState.FILLED, filled_quantity=D(quantity))
        self.order(ENTRY_ID, NET, OrderState.ACKED, trigger=level)
        self.position(quantity)
        for exit_ in self.intents(ExitAction.PLACE_TAKE_PROFIT):
            self.answer(exit_, OrderState.ACKED)

    def answer(self, exit_: Exit, state: OrderState, **more: Any) -> list[Any]:
        return self.order(exit_.event_id, exit_.client_id, state, **more)

    # what was said

    def intents(self, action: ExitAction) -> list[Exit]:
        return [event for event in self.said if isinstance(event, Exit) and event.action is action]

    @property
    def plan(self) -> ExitPlan:
        return next(event for event in reversed(self.said) if isinstance(event, ExitPlan))

    @property
    def decision(self) -> Any:
        return next(event for event in reversed(self.said) if isinstance(event, ExitDecision | exits.Hold))

    def legs(self, kind: LegKind) -> list[tuple[LegState, D]]:
        return [(leg.state, leg.price) for leg in self.plan.legs if leg.kind is kind]


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_filled_entry_gets_its_ladder_and_adopts_its_net() -> None:
    street = Street()
    street.entered()
    profits = street.intents(ExitAction.PLACE_TAKE_PROFIT)
    assert [(each.price, each.quantity) for each in profits] == [
        (D("64960.0"), D("0.004")),
        (D("65600.0"), D("0.004")),
        (D("66560.0"), D("0.006")),
    ]
    assert street.legs(LegKind.NET) == [(LegState.RESTING, D("62400.0"))]
    assert street.intents(ExitAction.PLACE_STOP) == []
    assert street.plan.stop_price == D("62400.0")
    assert all(leg.state is LegState.RESTING for leg in street.plan.legs)


@pytest.mark.parametrize("order_first", [True, False])
def test_it_does_not_matter_which_topic_is_read_first(order_first: bool) -> None:
    street = Street()
    if order_first:
        street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
        street.order(ENTRY_ID, NET, OrderState.ACKED, trigger="62400.0")
        street.position("0.014")
    else:
        street.position("0.014")
        assert street.intents(ExitAction.PLACE_TAKE_PROFIT) == [], "the entry may still be filling"
        street.order(ENTRY_ID, NET, OrderState.ACKED, trigger="62400.0")
        street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    assert len(street.intents(ExitAction.PLACE_TAKE_PROFIT)) == 3
    assert street.legs(LegKind.NET) == [(LegState.RESTING, D("62400.0"))]


def test_each_mark_gives_one_decision_that_names_it() -> None:
    street = Street()
    street.entered()
    for price in (64010.0, 64020.5, 63990.0):
        (decision,) = street.mark(price)
        assert (decision.decision, decision.marks_offset, decision.mark) == ("HOLD", street.offset, price)
        assert (decision.plan_id, decision.plan_revision) == (street.plan.plan_id, street.plan.revision)


def test_holds_of_one_marks_record_go_out_as_one_event_before_what_was_decided() -> None:
    street = Street()
    street.entered()
    ctx = Context("market.marks", 3, 99, Policy(), 2, "sim", {})
    (hold,) = street.mark(64010.0)
    other = hold._replace(instrument="binance.usdm.ETHUSDT", mark=2500.0)
    marks = hot.Marks("m", "market.marks", NOW, 3, [], "synthetic")
    holds, last = exits.gathered(marks, [hold, street.plan, other], ctx)
    assert (holds.instruments, holds.marks) == ([BTC, other.instrument], [64010.0, 2500.0])
    assert (holds.partition, holds.marks_offset) == (3, 99)
    assert last is street.plan
    assert exits.gathered(marks, [street.plan], ctx) == [street.plan]


def test_a_mark_that_comes_twice_decides_once() -> None:
    street = Street()
    street.entered()
    street.mark(64010.0)
    street.offset -= 1
    assert street.mark(64010.0) == []


def test_what_is_not_a_mark_names_the_last_mark_before_it() -> None:
    street = Street()
    street.position("0.014")
    assert (street.decision.decision, street.decision.marks_offset) == ("PLAN", -1)
    street.mark(64000.0)
    assert street.order(ENTRY_ID, NET, OrderState.ACKED) == [], "no entry is known yet, so the net is nobody's"
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    assert (street.decision.decision, street.decision.marks_offset) == ("PLACE_LADDER", 1)


def test_a_position_without_a_stop_gets_one_after_the_grace() -> None:
    street = Street()
    street.position("0.014")
    street.mark(64000.0)
    street.mark(64000.0)
    assert street.intents(ExitAction.PLACE_STOP) == []
    street.mark(64000.0)
    (net,) = street.intents(ExitAction.PLACE_STOP)
    assert (net.close_position, net.quantity, net.trigger_price, net.reason) == (
        True,
        None,
        D("62400.0"),
        ExitReason.PROTECTION_LOST,
    )
    street.mark(64000.0)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 1


@pytest.mark.parametrize("end", [OrderState.EXPIRED, OrderState.CANCELED, OrderState.REFUSED])
def test_a_lost_net_is_placed_again_at_the_next_mark(end: OrderState) -> None:
    street = Street()
    street.entered()
    street.order(ENTRY_ID, NET, end)
    assert street.intents(ExitAction.PLACE_STOP) == [], "FLAT may be on its way: the net of a closed position expires too"
    street.mark(64000.0)
    (net,) = street.intents(ExitAction.PLACE_STOP)
    assert (net.trigger_price, net.close_position) == (D("62400.0"), True)
    street.answer(net, OrderState.ACKED, trigger="62400.0", close_position=True)
    assert street.legs(LegKind.NET)[-1] == (LegState.RESTING, D("62400.0"))


def test_a_net_that_expires_because_the_position_is_flat_is_not_placed_again() -> None:
    street = Street()
    street.entered()
    street.order(ENTRY_ID, NET, OrderState.EXPIRED)
    street.position("0", last=ids.client_id(Purpose.CLOSE, 1))
    street.mark(64000.0)
    assert street.intents(ExitAction.PLACE_STOP) == []


def test_a_net_that_would_trigger_at_once_is_closed_by_execution_and_then_by_us() -> None:
    street = Street()
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    street.position("0.014")
    street.order(ENTRY_ID, NET, OrderState.REFUSED, trigger="62400.0", code=-2021)
    assert street.intents(ExitAction.CLOSE) == [], "execution closes what it could not protect"
    for _ in range(3):
        street.mark(62300.0)
    (close,) = street.intents(ExitAction.CLOSE)
    assert (close.reason, close.quantity) == (ExitReason.STOP_PASSED, D("0.014"))


def test_a_ladder_that_was_quicker_than_a_refused_net_makes_way_for_the_close_that_execution_sends() -> None:
    """Full, it would have that close refused for ever (-4118)."""
    street = Street()
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    street.position("0.014")
    placed = [each.client_id for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)]
    assert len(placed) == 3
    street.order(ENTRY_ID, NET, OrderState.REFUSED, trigger="62400.0", code=-2021)
    assert len(street.intents(ExitAction.CANCEL)) == 3
    assert street.intents(ExitAction.CLOSE) == [], "execution's own is under way"


def test_a_lost_net_whose_level_is_passed_closes_at_once() -> None:
    street = Street()
    street.entered()
    street.order(ENTRY_ID, NET, OrderState.EXPIRED)
    events = street.mark(62399.0)
    assert street.decision.decision == "CLOSE"
    (close,) = street.intents(ExitAction.CLOSE)
    assert close.reason is ExitReason.STOP_PASSED
    cancels = [each.client_id for each in street.intents(ExitAction.CANCEL)]
    assert cancels == [each.client_id for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)]
    order = [event.action for event in events if isinstance(event, Exit)]
    assert order == [ExitAction.CANCEL] * 3 + [ExitAction.CLOSE], "take-profits go first"
    assert street.intents(ExitAction.PLACE_STOP) == []


def test_a_resting_net_that_does_not_fire_is_given_the_grace() -> None:
    street = Street()
    street.entered()
    for _ in range(2):
        street.mark(62399.0)
        assert street.decision.decision == "HOLD"
    street.mark(62399.0)
    assert (street.decision.decision, street.decision.reason) == ("CLOSE", "STOP_PASSED")


def test_the_first_take_profit_brings_break_even_and_the_net_does_not_move() -> None:
    street = Street()
    street.entered()
    street.mark(65000.0)
    first, _, _ = street.intents(ExitAction.PLACE_TAKE_PROFIT)
    street.position("0.010", last=first.client_id)
    (stop,) = street.intents(ExitAction.PLACE_STOP)
    assert (stop.trigger_price, stop.quantity, stop.close_position) == (D("64076.8"), D("0.010"), False)
    assert stop.reason is ExitReason.BREAK_EVEN
    assert street.plan.break_even
    assert street.legs(LegKind.NET) == [(LegState.RESTING, D("62400.0"))]
    assert street.intents(ExitAction.CANCEL) == []
    street.answer(first, OrderState.FILLED, filled_quantity=D("0.004"))
    assert len(street.intents(ExitAction.PLACE_STOP)) == 1, "the order's own word adds nothing"


def test_a_part_of_the_first_rung_is_not_yet_break_even() -> None:
    street = Street()
    street.entered()
    first = street.intents(ExitAction.PLACE_TAKE_PROFIT)[0]
    street.position("0.012", last=first.client_id)
    assert street.intents(ExitAction.PLACE_STOP) == []
    assert street.intents(ExitAction.CANCEL) == []
    street.position("0.010", last=first.client_id)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 1


def test_a_later_reduction_replaces_the_quantity_stop_new_before_old() -> None:
    street = Street()
    street.entered()
    street.mark(65000.0)
    first, second, _ = street.intents(ExitAction.PLACE_TAKE_PROFIT)
    street.position("0.010", last=first.client_id)
    (old,) = street.intents(ExitAction.PLACE_STOP)
    street.answer(old, OrderState.ACKED, trigger="64076.8")
    (placed,) = (event for event in street.position("0.006", last=second.client_id) if isinstance(event, Exit))
    assert (placed.action, placed.quantity) == (ExitAction.PLACE_STOP, D("0.006"))
    assert street.intents(ExitAction.CANCEL) == [], "it may be refused, and then the old one is all there is before the net"
    street.answer(placed, OrderState.ACKED, trigger="64076.8")
    (canceled,) = street.intents(ExitAction.CANCEL)
    assert (canceled.client_id, canceled.book) == (old.client_id, "ALGO")
    street.answer(old, OrderState.CANCELED)
    assert kinds(street.mark(65700.0)) == ["Hold"]


def test_break_even_below_its_level_already_closes_at_market() -> None:
    street = Street()
    street.entered()
    street.mark(64050.0)
    first = street.intents(ExitAction.PLACE_TAKE_PROFIT)[0]
    street.position("0.010", last=first.client_id)
    assert street.intents(ExitAction.CLOSE) == [], "the mark is from before the fill"
    street.mark(64050.0)
    (close,) = street.intents(ExitAction.CLOSE)
    assert (close.reason, close.quantity) == (ExitReason.BREAK_EVEN, D("0.010"))
    assert street.intents(ExitAction.PLACE_STOP) == []


def test_a_take_profit_that_fills_before_its_mark_is_told_closes_nothing_else() -> None:
    street = Street()
    street.entered()
    street.mark(64050.0)
    street.position("0.010", last=street.intents(ExitAction.PLACE_TAKE_PROFIT)[0].client_id)
    street.mark(65010.0)
    assert street.intents(ExitAction.CLOSE) == []
    (stop,) = street.intents(ExitAction.PLACE_STOP)
    assert (stop.reason, stop.quantity) == (ExitReason.BREAK_EVEN, D("0.010"))


def test_a_lost_quantity_stop_comes_back() -> None:
    street = Street()
    street.entered()
    street.mark(65000.0)
    street.position("0.010", last=street.intents(ExitAction.PLACE_TAKE_PROFIT)[0].client_id)
    (stop,) = street.intents(ExitAction.PLACE_STOP)
    street.answer(stop, OrderState.EXPIRED)
    street.mark(65000.0)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 2
    street.answer(street.intents(ExitAction.PLACE_STOP)[1], OrderState.REFUSED, code=-2021)
    assert street.intents(ExitAction.CLOSE)[0].reason is ExitReason.BREAK_EVEN


def test_the_opposite_decision_closes_with_take_profits_cancelled_first() -> None:
    street = Street()
    street.entered()
    street.mark(64100.0)
    street.take(verdict(Side.SHORT))
    (close,) = street.intents(ExitAction.CLOSE)
    assert close.client_id == order_ids.close_id(POSITION, ExitReason.OPPOSITE_DECISION, 0)
    assert (close.quantity, close.reason) == (D("0.014"), ExitReason.OPPOSITE_DECISION)
    assert len(street.intents(ExitAction.CANCEL)) == 3
    assert street.plan.closing
    street.take(verdict(Side.SHORT, "2"))
    assert len(street.intents(ExitAction.CLOSE)) == 1


def test_what_an_emergency_closes_says_so() -> None:
    street = Street()
    street.entered()
    street.mark(64100.0)
    street.take(verdict(Side.SHORT, reason=Reason.EMERGENCY_STOP))
    (close,) = street.intents(ExitAction.CLOSE)
    assert close.client_id == order_ids.close_id(POSITION, ExitReason.EMERGENCY_STOP, 0)
    assert close.reason is ExitReason.EMERGENCY_STOP


def verdict(
    side: Side,
    name: str = "1",
    at: int = NOW + 500,
    outcome: Outcome = Outcome.CLOSE,
    reason: Reason = Reason.OPPOSITE_DECISION,
) -> Verdict:
    return Verdict(
        event_id=f"verdict-{name}",
        at=at,
        instrument=BTC,
        account="sim",
        decision_id="d",
        outcome=outcome,
        reason=reason,
        detail="",
        side=side,
        confidence=0.8,
        reference_price=D(64000),
        equity=None,
        margin=None,
        leverage=None,
        notional=None,
        quantity=None,
        stop_price=None,
        entry_id=None,
        open_positions=1,
        exposure=D(0),
        policy_version=1,
        source=Source.SYNTHETIC,
    )


def test_a_verdict_on_another_side_time_or_outcome_closes_nothing() -> None:
    street = Street()
    street.entered()
    for other in (
        verdict(Side.LONG, "1"),
        verdict(Side.SHORT, "2", at=NOW - 1),
        verdict(Side.SHORT, "3", outcome=Outcome.REFUSED),
    ):
        assert street.take(other) == []


@pytest.mark.parametrize("end", [OrderState.REFUSED, OrderState.EXPIRED, OrderState.FILLED])
def test_a_close_that_did_not_close_is_sent_again(end: OrderState) -> None:
    street = Street()
    street.entered()
    street.take(verdict(Side.SHORT))
    (close,) = street.intents(ExitAction.CLOSE)
    street.answer(close, end)
    street.mark(64000.0)
    assert len(street.intents(ExitAction.CLOSE)) == 1, "FLAT may be on its way"
    street.mark(64000.0)
    first, second = street.intents(ExitAction.CLOSE)
    assert second.client_id == order_ids.close_id(POSITION, ExitReason.OPPOSITE_DECISION, 1)
    assert first.event_id != second.event_id


def command(instrument: str, kind: CommandKind = CommandKind.CLOSE) -> Command:
    body = json.dumps({"instrument": instrument})
    return Command(event_id=f"c-{instrument}", at=NOW * 2, kind=kind, actor="anna", reason="holiday", body=body)


def test_a_person_closes_one_or_all() -> None:
    assert exits.keys(command(BTC), [BTC, "binance.usdm.ETHUSDT"]) == [BTC]
    assert exits.keys(command("*"), ["b", "a"]) == ["a", "b"]
    assert exits.keys(command("binance.usdm.NONEUSDT"), [BTC]) == []
    assert exits.keys(command(BTC).model_copy(update={"body": "not json"}), [BTC]) == []
    street = Street()
    street.entered()
    street.take(command("*"))
    (close,) = street.intents(ExitAction.CLOSE)
    assert (close.reason, close.detail, close.at) == (ExitReason.MANUAL, "anna: holiday", NOW)


def test_a_cancel_that_failed_for_good_is_asked_for_again_and_the_close_comes_through() -> None:
    """The exchange refused every attempt for a while; a full ladder would refuse each close for ever."""
    street = Street()
    street.entered()
    body = json.dumps({"instrument": BTC})
    street.take(Command(event_id="c", at=NOW, kind=CommandKind.CLOSE, actor="a", reason="", body=body))
    first = street.intents(ExitAction.CANCEL)
    assert len(first) == 3
    for cancel in first:
        own = order_ids.cancel_id(cancel.event_id)
        street.order(cancel.event_id, own, OrderState.REFUSED, cancels=cancel.client_id, purpose=Purpose.CLOSE)
    for close in street.intents(ExitAction.CLOSE):
        street.answer(close, OrderState.REFUSED, code=-4118)
    for _ in range(3):
        street.mark(64000.0)
    assert len(street.intents(ExitAction.CANCEL)) == 3, "it is left alone for a while"
    for _ in range(10):
        street.mark(64000.0)
    again = street.intents(ExitAction.CANCEL)[3:]
    assert [each.client_id for each in again] == [each.client_id for each in first]
    assert len({each.event_id for each in (*first, *again)}) == 6, "an intent of its own: execution has done with the first"
    for cancel in again:
        rung = next(each for each in street.intents(ExitAction.PLACE_TAKE_PROFIT) if each.client_id == cancel.client_id)
        street.answer(rung, OrderState.CANCELED)
    assert [state for state, _ in street.legs(LegKind.TAKE_PROFIT)] == [LegState.CANCELED] * 3


def test_an_orphan_whose_cancel_failed_is_asked_for_again() -> None:
    street = Street()
    street.entered()
    street.position("0")
    first = street.intents(ExitAction.CANCEL)
    for cancel in first:
        own = order_ids.cancel_id(cancel.event_id)
        street.order(cancel.event_id, own, OrderState.REFUSED, cancels=cancel.client_id, purpose=Purpose.CLOSE)
    assert len(street.intents(ExitAction.CANCEL)) == len(first), "not before the next mark"
    street.mark(64000.0)
    assert len(street.intents(ExitAction.CANCEL)) == 2 * len(first)


def test_flat_cancels_what_still_rests_and_then_forgets() -> None:
    street = Street()
    street.entered()
    street.mark(65000.0)
    street.position("0", last=ids.client_id(Purpose.FOREIGN.CLOSE, 1))
    assert street.plan.quantity == 0
    cancels = street.intents(ExitAction.CANCEL)
    assert [each.client_id for each in cancels] == [each.client_id for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)]
    assert {each.reason for each in cancels} == {ExitReason.ORPHAN}
    for each in street.intents(ExitAction.PLACE_TAKE_PROFIT):
        street.answer(each, OrderState.CANCELED)
    street.order(ENTRY_ID, NET, OrderState.EXPIRED)
    for _ in range(130):
        street.mark(65000.0)
    assert len(street.intents(ExitAction.CANCEL)) == 3
    assert street.state is None


def test_a_net_that_outlives_its_position_is_cancelled() -> None:
    street = Street()
    street.entered()
    street.position("0", last=ids.client_id(Purpose.CLOSE, 1))
    street.mark(65000.0)
    street.mark(65000.0)
    assert street.intents(ExitAction.CANCEL)[-1].client_id == NET
    assert street.intents(ExitAction.CANCEL)[-1].book == "ALGO"


def test_a_net_that_is_heard_of_only_after_flat_is_cancelled_too() -> None:
    street = Street()
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    street.position("0.014")
    street.position("0", last=ids.client_id(Purpose.CLOSE, 1))
    street.order(ENTRY_ID, NET, OrderState.ACKED, trigger="62400.0")
    street.mark(64000.0)
    street.mark(64000.0)
    assert street.intents(ExitAction.CANCEL)[-1].client_id == NET


def test_the_net_of_a_late_fill_is_known_though_the_first_has_gone() -> None:
    """Execution gives a fill after the net's end a net of its own; it must not outlive the position."""
    street = Street()
    street.entered()
    street.position("0", last="web_1")
    street.order(ENTRY_ID, NET, OrderState.EXPIRED)
    late = ids.client_id(Purpose.STOP, "late")
    street.order(ENTRY_ID, late, OrderState.ACKED, trigger="62400.0")
    street.mark(64000.0)
    street.mark(64000.0)
    assert street.intents(ExitAction.CANCEL)[-1].client_id == late


def test_a_foreign_reduction_trims_the_ladder() -> None:
    street = Street()
    street.entered()
    street.position("0.009", last="web_1")
    cancels = street.intents(ExitAction.CANCEL)
    profits = street.intents(ExitAction.PLACE_TAKE_PROFIT)
    assert [each.client_id for each in cancels] == [profits[2].client_id]
    assert (profits[3].quantity, profits[3].price) == (D("0.001"), profits[2].price)


def test_an_entry_that_fills_in_parts_gets_one_ladder_over_all() -> None:
    street = Street()
    street.position("0.004")
    street.position("0.014", price="64010")
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    assert sum((each.quantity or D(0)) for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)) == D("0.014")
    assert len(street.intents(ExitAction.PLACE_TAKE_PROFIT)) == 3


def test_a_fill_after_the_ladder_gets_rungs_of_its_own() -> None:
    street = Street()
    street.entered()
    street.position("0.024", price="64010")
    more = street.intents(ExitAction.PLACE_TAKE_PROFIT)[3:]
    assert sum((each.quantity or D(0)) for each in more) == D("0.010")


def test_a_lost_rung_is_tried_three_times() -> None:
    street = Street()
    street.entered()
    for n in range(5):
        profits = street.intents(ExitAction.PLACE_TAKE_PROFIT)
        assert len(profits) == 3 + min(n, 2)
        street.answer(profits[-1] if n else profits[0], OrderState.EXPIRED)
        street.mark(64000.0)


def test_two_stops_that_find_no_room_beside_each_other_make_way() -> None:
    """At the exchange's limit of conditional orders the next one is refused until its predecessor has gone; the net rests."""
    street = Street()
    street.entered()
    street.mark(65000.0)
    first, second, _ = street.intents(ExitAction.PLACE_TAKE_PROFIT)
    street.position("0.010", last=first.client_id)
    street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.ACKED, trigger="64076.8")
    street.position("0.006", last=second.client_id)
    for refused in (1, 2):
        assert len(street.intents(ExitAction.CANCEL)) == 0
        street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.REFUSED, code=-4045)
        street.mark(65000.0)
        assert len(street.intents(ExitAction.PLACE_STOP)) == 2 + refused
    assert len(street.intents(ExitAction.CANCEL)) == 1


def with_profit(street: Street) -> None:
    """Entered, and the first rung has filled: break-even rests at 64076.8."""
    street.entered()
    street.mark(65000.0)
    street.position("0.010", last=street.intents(ExitAction.PLACE_TAKE_PROFIT)[0].client_id)
    street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.ACKED, trigger="64076.8")


def test_the_rest_is_trailed_behind_the_best_mark_by_real_gains_only() -> None:
    street = Street()
    with_profit(street)
    street.mark(65190.0, after_s=10)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 1, "1.5 % behind it is no tenth of R above break-even"
    street.mark(65200.0, high=66000.0)
    stop = street.intents(ExitAction.PLACE_STOP)[-1]
    assert (stop.trigger_price, stop.quantity, stop.reason) == (D("65010.0"), D("0.010"), ExitReason.TRAILING)
    street.answer(stop, OrderState.ACKED, trigger="65010.0")
    street.mark(65500.0, high=67000.0)
    street.mark(65300.0, after_s=2)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 2, "the last move is not five seconds old"
    street.mark(66300.0, after_s=1)
    assert street.intents(ExitAction.PLACE_STOP)[-1].trigger_price == D("65995.0"), "the best mark has not been forgotten"
    street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.ACKED, trigger="65995.0")
    street.mark(66100.0, after_s=60)
    assert len(street.intents(ExitAction.PLACE_STOP)) == 3


def test_a_front_stop_whose_child_was_refused_at_its_trigger_gives_way_to_a_close_behind_cancelled_take_profits() -> None:
    street = Street()
    with_profit(street)
    street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.EXPIRED, reason="ReduceOnly reject")
    actions = [event.action for event in street.mark(64000.0) if isinstance(event, Exit)]
    assert actions == [ExitAction.CANCEL, ExitAction.CANCEL, ExitAction.CLOSE]
    assert street.legs(LegKind.NET)[-1][0] is LegState.RESTING


def test_a_trailing_level_that_the_mark_has_fallen_through_already_closes() -> None:
    street = Street()
    with_profit(street)
    street.mark(65000.0, high=67000.0, after_s=10)
    (close,) = street.intents(ExitAction.CLOSE)
    assert (close.reason, close.quantity) == (ExitReason.TRAILING, D("0.010"))


def approval(entry: str = ENTRY_ID, **more: Any) -> Verdict:
    """Risk's yes to the entry, with what was known then."""
    return verdict(Side.LONG, "yes", outcome=Outcome.APPROVED).model_copy(update={"entry_id": entry, "leverage": 3} | more)


def test_what_was_known_at_the_decision_makes_the_plan_in_whatever_order_it_is_read() -> None:
    policy = Policy(exits=Exits(profile=Profile.DEFAULT))
    known = approval(atr=0.006, stop_distance=D("0.012"))
    early, late = Street(policy), Street(policy)
    early.take(known)
    for street in (early, late):
        street.position("0.014")
    late.take(known)
    for street in (early, late):
        assert (street.plan.stop_distance, street.plan.stop_price, street.plan.static) == (D("0.012"), D("63232.0"), False)
        street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
        assert [each.price for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)] == [D("65152.0")]
    assert early.plan.levels == late.plan.levels


def test_a_plan_that_was_begun_is_not_made_anew() -> None:
    street = Street(Policy(exits=Exits(profile=Profile.DEFAULT)))
    street.entered()
    assert (street.plan.static, street.plan.stop_distance) == (True, D("0.016"))
    street.take(approval(atr=0.006, stop_distance=D("0.012")))
    assert (street.plan.static, street.plan.stop_distance) == (True, D("0.016"))


def test_default_trails_from_the_start() -> None:
    street = Street(Policy(exits=Exits(profile=Profile.DEFAULT)))
    street.take(approval(atr=0.006, stop_distance=D("0.012")))
    street.entered()
    street.mark(64000.0)
    street.answer(street.intents(ExitAction.PLACE_STOP)[-1], OrderState.ACKED, trigger="63232.0")
    street.mark(64900.0, after_s=5)
    assert street.intents(ExitAction.PLACE_STOP)[-1].trigger_price == D("64121.2")


def test_a_challenge_is_over_after_two_hours_of_the_market() -> None:
    street = Street(Policy(exits=Exits(profile=Profile.CHALLENGE_100)))
    street.take(approval(atr=0.0125, stop_distance=D("0.025")))
    street.entered()
    street.mark(64100.0, after_s=7197)
    assert street.decision.decision == "HOLD"
    street.mark(64100.0, after_s=1)
    assert [(close.reason, close.quantity) for close in street.intents(ExitAction.CLOSE)] == [(ExitReason.TIME_STOP, D("0.014"))]


def test_a_net_beyond_liquidation_gets_a_nearer_stop_before_it() -> None:
    street = Street()
    street.take(approval(leverage=25))
    street.order(ENTRY_ID, ENTRY, OrderState.FILLED)
    street.order(ENTRY_ID, NET, OrderState.ACKED, trigger="62400.0")
    street.position("0.014")
    (stop,) = street.intents(ExitAction.PLACE_STOP)
    assert (stop.trigger_price, stop.quantity, stop.reason) == (D("62720.0"), D("0.014"), ExitReason.LIQUIDATION_GUARD)


def test_a_challenge_never_risks_more_than_one_and_a_half_r() -> None:
    street = Street(Policy(exits=Exits(profile=Profile.CHALLENGE_100)))
    street.take(approval(atr=0.005, stop_distance=D("0.01")))
    street.entered()  # its net rests 2.5 % away
    assert street.intents(ExitAction.PLACE_STOP)[0].trigger_price == D("63040.0")


# -- in the shadow


def shadow_policy(**more: Any) -> Policy:
    return Policy(exits=Exits(profile=Profile.CHALLENGE_100, modes={BTC: ExitMode.SHADOW}, **more))


def told(street: Street, mode: str) -> list[Any]:
    return [event for event in street.said if isinstance(event, ExitDecision | exits.Hold) and event.mode == mode]


def test_in_the_shadow_the_chosen_plan_is_recorded_beside_the_baseline_that_orders() -> None:
    street, plain = Street(shadow_policy()), Street()
    for each in (street, plain):
        each.entered()
        for price in (64000.0, 64900.0, 64950.0):
            each.mark(price)
    exits_of = [[event for event in each.said if isinstance(event, Exit)] for each in (street, plain)]
    assert exits_of[0] == exits_of[1], "what is ordered is the baseline's alone"
    for mode, profile in (("LIVE", "STANDARD_LADDER"), ("SHADOW", "CHALLENGE_100")):
        assert {event.profile for event in told(street, mode) if isinstance(event, ExitDecision)} == {profile}
    marks = [[event.marks_offset for event in told(street, mode) if event.marks_offset > 0] for mode in ("LIVE", "SHADOW")]
    assert marks[0] == marks[1] == [1, 2, 3]
    assert not any(event.intents for event in told(street, "SHADOW") if isinstance(event, ExitDecision))


def test_a_shadow_lives_on_until_its_own_exit() -> None:
    """1R = 1.6 % (static, conservative): 30 % out at +1.28 %, the rest at break-even."""
    street = Street(shadow_policy())
    street.entered()
    street.mark(64000.0)
    street.mark(64100.0, high=65000.0)
    street.position("0", last="web_1")
    street.mark(64500.0)
    assert [event.decision for event in told(street, "SHADOW")][-1] == "HOLD"
    street.mark(64080.0, low=63000.0)
    done = told(street, "SHADOW")[-1]
    assert (done.decision, done.reason) == ("DONE", "BREAK_EVEN")
    assert done.result_pct == pytest.approx((0.004 * 819.2 + 0.010 * 76.8) / (0.014 * 64000) * 100, rel=1e-6)
    assert done.result_r == pytest.approx((done.result_pct or 0) / 1.6, rel=1e-5)
    assert len([event for event in told(street, "SHADOW") if event.decision == "DONE"]) == 1
    for _ in range(200):
        street.mark(64000.0)
    assert street.state is None


def test_of_one_mark_that_reaches_both_the_stop_counts() -> None:
    street = Street(shadow_policy())
    street.entered()
    street.mark(64000.0)
    street.mark(64000.0, high=70000.0, low=60000.0)
    assert (told(street, "SHADOW")[-1].reason, told(street, "SHADOW")[-1].result_r) == ("STOP", pytest.approx(-1, abs=0.001))


def test_the_opposite_decision_closes_the_shadow_too() -> None:
    street = Street(shadow_policy())
    street.entered()
    street.mark(64640.0)
    street.take(verdict(Side.SHORT))
    done = told(street, "SHADOW")[-1]
    assert (done.decision, done.reason, done.result_pct) == ("DONE", "OPPOSITE_DECISION", pytest.approx(1.0))


def test_a_short_is_the_mirror() -> None:
    street = Street(side=Side.SHORT)
    street.entered()
    prices = [each.price for each in street.intents(ExitAction.PLACE_TAKE_PROFIT)]
    assert prices == [D("63040.0"), D("62400.0"), D("61440.0")]
    street.mark(63000.0)
    street.position("0.010", last=street.intents(ExitAction.PLACE_TAKE_PROFIT)[0].client_id)
    assert street.intents(ExitAction.PLACE_STOP)[0].trigger_price == D("63923.2")


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("1", ["0.300", "0.300", "0.400"]),
        ("0.010", ["0.003", "0.003", "0.004"]),
        ("0.005", ["0.001", "0.001", "0.003"]),
        ("0.003", ["0.003"]),
        ("0.002", ["0.002"]),
        ("0.001", ["0.001"]),
    ],
)
def test_rungs_sum_to_the_position_and_dust_goes_to_the_last(quantity: str, expected: list[str]) -> None:
    steps = ladder.rungs(D(quantity), D(64000), Side.LONG, Exits().ladder, RULES)
    assert [step.quantity for step in steps] == [D(each) for each in expected]


def test_a_rung_below_the_smallest_joins_the_next() -> None:
    rules = RULES._replace(min_quantity=D("0.003"))
    steps = ladder.rungs(D("0.009"), D(64000), Side.LONG, Exits().ladder, rules)
    assert [(step.rung, step.quantity) for step in steps] == [(2, D("0.004")), (3, D("0.005"))]
    half = [Rung(distance=D("0.01"), share=D("0.5"))]
    assert ladder.rungs(D("0.009"), D(64000), Side.LONG, half, rules)[0].quantity == D("0.004")


def test_an_instrument_nobody_lists_is_left_alone() -> None:
    event = Street().position("0.014")[0]
    assert isinstance(event, ExitPlan)
    ctx = Context("any", 0, 0, Policy(), 1, "sim", {})
    assert exits.step(None, verdict(Side.LONG), ctx, {}).events == ()


def test_what_changes_only_our_knowledge_is_told_too() -> None:
    """The close's own life decides when it is sent again, so a replay must know between which marks it was read."""
    street = Street()
    street.entered()
    street.mark(64100.0)
    street.take(verdict(Side.SHORT))
    (close,) = street.intents(ExitAction.CLOSE)
    revision = street.plan.revision
    (told,) = street.answer(close, OrderState.SENDING)
    assert isinstance(told, ExitDecision)
    assert (told.decision, told.reason, told.plan_revision, told.marks_offset) == ("HOLD", "ORDER", revision, 1)
