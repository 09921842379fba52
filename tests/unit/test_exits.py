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
from schemas.policy import Exits, Policy, Rung
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

    def mark(self, price: float) -> list[Any]:
        self.offset += 1
        mark = hot.Mark(BTC, price, price, price, price, price, 0.0, 0)
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
    def decision(self) -> ExitDecision:
        return next(event for event in reversed(self.said) if isinstance(event, ExitDecision))

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
        assert isinstance(decision, ExitDecision)
        assert (decision.decision, decision.marks_offset, decision.mark) == ("HOLD", street.offset, D(str(price)))
        assert decision.plan_revision == street.plan.revision
    assert decision.pnl_pct == pytest.approx(-10 / 640)


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
    events = street.position("0.006", last=second.client_id)
    placed, canceled = (event for event in events if isinstance(event, Exit))
    assert (placed.action, placed.quantity) == (ExitAction.PLACE_STOP, D("0.006"))
    assert (canceled.action, canceled.client_id, canceled.book) == (ExitAction.CANCEL, old.client_id, "ALGO")
    street.answer(placed, OrderState.ACKED, trigger="64076.8")
    street.answer(old, OrderState.CANCELED)
    assert kinds(street.mark(65700.0)) == ["ExitDecision"]


def test_break_even_below_its_level_already_closes_at_market() -> None:
    street = Street()
    street.entered()
    street.mark(64050.0)
    first = street.intents(ExitAction.PLACE_TAKE_PROFIT)[0]
    street.position("0.010", last=first.client_id)
    (close,) = street.intents(ExitAction.CLOSE)
    assert (close.reason, close.quantity) == (ExitReason.BREAK_EVEN, D("0.010"))
    assert street.intents(ExitAction.PLACE_STOP) == []


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


def verdict(side: Side, name: str = "1", at: int = NOW + 500, outcome: Outcome = Outcome.CLOSE) -> Verdict:
    return Verdict(
        event_id=f"verdict-{name}",
        at=at,
        instrument=BTC,
        account="sim",
        decision_id="d",
        outcome=outcome,
        reason=Reason.OPPOSITE_DECISION,
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


def test_shadow_decides_and_orders_nothing() -> None:
    street = Street(Policy(exits=Exits(mode="SHADOW")))  # type: ignore[arg-type]
    street.entered()
    for price in (64000.0, 63000.0, 62000.0, 61000.0, 61000.0):
        street.mark(price)
    assert not [event for event in street.said if isinstance(event, Exit)]
    assert {event.mode for event in street.said if isinstance(event, ExitDecision)} == {"SHADOW"}
    assert any(event.decision == "CLOSE" for event in street.said if isinstance(event, ExitDecision))


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
