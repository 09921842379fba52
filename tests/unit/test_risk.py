"""Decisions and the verdicts that they get."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from processors import order_ids, risk, sizing
from processors.book import UNIVERSE
from processors.filters import Filters
from processors.step import Context
from schemas import ids
from schemas.events import Event
from schemas.ids import Purpose
from schemas.market import Outside, OutsideReason, UniverseSeen
from schemas.policy import Execution, Policy, Risk, Universe
from schemas.risk import Outcome, Reason, Verdict
from schemas.signals import Action, Block, Decision, DecisionReason, Strategy
from schemas.trading import AccountSnapshot, Entry, Order, OrderState, OrderType, Position, PositionStatus
from schemas.units import Side, Source

BTC, ETH, SOL = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT", "binance.usdm.SOLUSDT"
RULES = Filters(D("0.1"), D("0.001"), D("0.001"), D(120), D(100))
FILTERS = {BTC: RULES, ETH: RULES, SOL: RULES}
NOW = 1_722_470_400_000


class Desk:
    """Risk with its states, as the worker holds them."""

    def __init__(self, policy: Policy | None = None, equity: str | None = "10000") -> None:
        self.policy = policy or Policy()
        self.states: dict[str, risk.State] = {}
        self.count = 0
        if equity:
            self.snapshot(equity)

    def take(self, key: str, event: Event) -> list[Any]:
        ctx = Context("any", 0, 0, self.policy, 3, "sim", self.states)
        result = risk.step(self.states.get(key), event, ctx, FILTERS)
        assert result.state is not None
        self.states[key] = msgspec.json.decode(msgspec.json.encode(result.state), type=risk.State)
        return list(result.events)

    def snapshot(self, equity: str, available: str | None = None, at: int = NOW) -> None:
        money = D(equity)
        self.take(
            risk.ACCOUNT,
            AccountSnapshot(
                event_id=f"snapshot-{at}",
                at=at,
                account="sim",
                wallet=money,
                equity=money,
                available=D(available or equity),
                unrealized_pnl=D(0),
                positions=[],
            ),
        )

    def decide(self, action: Action = Action.LONG, instrument: str = BTC, **changes: Any) -> list[Any]:
        self.count += 1
        fields: dict[str, Any] = {
            "event_id": f"decision-{self.count}",
            "at": NOW,
            "instrument": instrument,
            "strategy": Strategy.MODEL,
            "action": action,
            "reason": DecisionReason.CONFIDENT,
            "detail": "",
            "confidence": 0.7,
            "reference_price": D("64000.1"),
            "features_id": "f",
            "prediction_id": None,
            "model_version": None,
            "candle_at": NOW,
            "policy_version": 3,
            "source": Source.SYNTHETIC,
        }
        return self.take(instrument, Decision(**(fields | changes)))

    def order(self, entry: Entry, state: OrderState, *, attempt: int = 1, filled: str = "0", cancels: str | None = None) -> None:
        order = Order(
            event_id=f"{entry.client_id}-{state}-{attempt}-{cancels}",
            at=NOW,
            instrument=entry.instrument,
            account="sim",
            intent_id=entry.event_id,
            client_id=order_ids.attempt_id(entry.client_id, attempt),
            purpose=Purpose.ENTRY,
            side=entry.side.opens_with,
            order_type=OrderType.MARKET,
            state=state,
            attempt=attempt,
            quantity=entry.quantity,
            price=None,
            trigger_price=None,
            close_position=False,
            reduce_only=False,
            filled_quantity=D(filled),
            cancels=cancels,
        )
        self.take(entry.instrument, order)

    def position(self, entry: Entry, quantity: str, *, at: int = NOW, attempt: int = 1, revision: int = 1) -> None:
        client_id = order_ids.attempt_id(entry.client_id, attempt)
        position = Position(
            event_id=f"position-{entry.event_id}-{revision}",
            at=at,
            instrument=entry.instrument,
            account="sim",
            position_id=f"position-{entry.event_id}",
            revision=revision,
            status=PositionStatus.OPEN if D(quantity) else PositionStatus.FLAT,
            side=entry.side,
            quantity=D(quantity),
            entry_price=entry.reference_price,
            opened_at=NOW,
            realized_pnl=D(0),
            fees=D(0),
            last_trade_id=1,
            last_fill_id="fill",
            entry_client_id=client_id,
            last_client_id=client_id,
            source=Source.SYNTHETIC,
        )
        self.take(entry.instrument, position)


def refused(events: list[Any]) -> Reason:
    (verdict,) = events
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.detail
    reason: Reason = verdict.reason
    return reason


def test_who_is_outside_the_universe_opens_nothing_closes_all_the_same_and_is_nobody_elses_matter() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.position(entry, "0.01")
    outside = [Outside(instrument=name, reason=OutsideReason.NOT_LISTED, detail="renamed") for name in (BTC, SOL)]
    seen = UniverseSeen(event_id="u", at=NOW, members=[ETH], outside=outside, policy_version=3)
    assert desk.take(UNIVERSE, seen) == []
    assert refused(desk.decide(instrument=SOL)) is Reason.INSTRUMENT_OUTSIDE_UNIVERSE
    assert desk.decide(instrument=ETH)[0].outcome is Outcome.APPROVED
    assert desk.decide(Action.SHORT)[0].outcome is Outcome.CLOSE


@pytest.mark.parametrize("block", Block)
def test_what_the_supervisor_blocks_opens_nothing_and_closes_all_the_same(block: Block) -> None:
    desk = Desk()
    assert refused(desk.decide(blocked=block, detail="15 of 20")) is Reason(f"MODEL_{block}")
    _, entry = desk.decide(Action.LONG)
    desk.position(entry, "0.01")
    (verdict,) = desk.decide(Action.SHORT, blocked=block)
    assert (verdict.outcome, verdict.reason) == (Outcome.CLOSE, Reason.OPPOSITE_DECISION)


def test_a_decision_within_limits_becomes_an_entry_with_its_stop() -> None:
    verdict, entry = Desk().decide()
    assert (verdict.outcome, verdict.reason, verdict.policy_version) == (Outcome.APPROVED, Reason.WITHIN_LIMITS, 3)
    assert isinstance(entry, Entry)
    assert (entry.side, entry.leverage, entry.order_type, entry.limit_price) == (Side.LONG, 3, OrderType.MARKET, None)
    assert entry.quantity == D("0.014"), "300 of margin times 3 at 64000.1, floored to the step"
    assert entry.stop_price == D("62400.1"), "2.5 % below is 62400.0975, rounded toward the market"
    assert entry.client_id == ids.client_id(Purpose.ENTRY, entry.event_id)
    assert entry.stop_client_id == ids.client_id(Purpose.STOP, entry.event_id)
    assert (verdict.entry_id, entry.verdict_id, entry.not_after) == (entry.event_id, verdict.event_id, NOW + 600_000)
    assert verdict.quantity == entry.quantity
    assert verdict.margin <= 300


def test_a_short_has_its_stop_above() -> None:
    _, entry = Desk().decide(Action.SHORT)
    assert entry.stop_price == D("65600.1"), "65600.1025 rounded toward the market"


def test_hold_gets_no_verdict_and_a_repeated_decision_gets_no_second() -> None:
    desk = Desk()
    assert desk.decide(Action.HOLD, confidence=0.0) == []
    assert len(desk.decide(event_id="same")) == 2
    assert desk.decide(event_id="same") == []


def test_an_order_under_way_blocks_the_next_until_it_has_ended() -> None:
    desk = Desk()
    _, entry = desk.decide()
    assert refused(desk.decide()) is Reason.ORDER_IN_FLIGHT
    desk.order(entry, OrderState.UNKNOWN)
    assert refused(desk.decide()) is Reason.ORDER_IN_FLIGHT
    desk.order(entry, OrderState.ABANDONED)
    assert len(desk.decide()) == 2


def test_a_cancel_of_the_entry_ends_no_reservation_and_the_entrys_own_end_does() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.order(entry, OrderState.ACKED)
    for ended in (OrderState.REFUSED, OrderState.CANCELED):
        desk.order(entry, ended, cancels=entry.client_id)
        assert refused(desk.decide()) is Reason.ORDER_IN_FLIGHT
    desk.order(entry, OrderState.EXPIRED)
    assert len(desk.decide()) == 2


@pytest.mark.parametrize("position_first", [True, False])
def test_a_filled_order_hands_its_reservation_over_to_the_position(position_first: bool) -> None:
    desk = Desk()
    _, entry = desk.decide()
    quantity = str(entry.quantity)
    if position_first:
        desk.position(entry, quantity)
        assert desk.states[BTC].reserved is not None
        desk.order(entry, OrderState.FILLED, filled=quantity)
    else:
        desk.order(entry, OrderState.FILLED, filled=quantity)
        assert desk.states[BTC].reserved is not None
        desk.position(entry, quantity)
    assert desk.states[BTC].reserved is None
    assert refused(desk.decide()) is Reason.POSITION_EXISTS


def test_a_position_that_came_and_went_before_the_order_said_so_frees_everything() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.position(entry, "0.014", attempt=2)
    desk.position(entry, "0", attempt=2, revision=2)
    desk.order(entry, OrderState.FILLED, attempt=2, filled="0.014")
    assert desk.states[BTC].reserved is None
    assert desk.states[BTC].held is None


def test_a_second_attempt_is_still_the_same_reservation() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.order(entry, OrderState.PLANNED, attempt=2)
    desk.order(entry, OrderState.REFUSED, attempt=2)
    assert desk.states[BTC].reserved is None


def test_the_opposite_decision_closes_and_never_flips() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.position(entry, "0.014")
    (verdict,) = desk.decide(Action.SHORT)
    assert (verdict.outcome, verdict.reason) == (Outcome.CLOSE, Reason.OPPOSITE_DECISION)
    ignoring = Desk(Policy(execution=Execution(on_opposite="ignore")))  # type: ignore[arg-type]
    _, entry = ignoring.decide()
    ignoring.position(entry, "0.014")
    assert refused(ignoring.decide(Action.SHORT)) is Reason.OPPOSITE_IGNORED


def test_the_cool_down_counts_venue_time_from_the_close() -> None:
    desk = Desk()
    _, entry = desk.decide()
    desk.order(entry, OrderState.FILLED, filled="0.014")
    desk.position(entry, "0.014")
    desk.position(entry, "0", at=NOW + 1_000, revision=2)
    assert refused(desk.decide(at=NOW + 120_999)) is Reason.COOL_DOWN
    assert len(desk.decide(at=NOW + 121_000)) == 2


def test_limits_count_what_is_under_way() -> None:
    desk = Desk(Policy(risk=Risk(max_positions=2)))
    assert len(desk.decide(instrument=BTC)) == 2
    assert len(desk.decide(instrument=ETH)) == 2
    assert refused(desk.decide(instrument=SOL)) is Reason.TOO_MANY_POSITIONS


def test_exposure_counts_what_is_under_way() -> None:
    desk = Desk(Policy(risk=Risk(max_exposure=D("0.1"))))
    assert len(desk.decide(instrument=BTC)) == 2
    assert refused(desk.decide(instrument=ETH)) is Reason.EXPOSURE


def test_margin_that_is_promised_is_not_free() -> None:
    desk = Desk()
    desk.snapshot("10000", available="500")
    assert len(desk.decide(instrument=BTC)) == 2
    assert refused(desk.decide(instrument=ETH)) is Reason.MARGIN_AVAILABLE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"confidence": 0.59}, Reason.CONFIDENCE),
        ({"strategy": Strategy.SCRIPTED}, Reason.STRATEGY_OFF),
        ({"candle_at": NOW - 600_001}, Reason.STALE),
        ({"reference_price": D(1_000_000)}, Reason.SIZE_BELOW_MINIMUM),
    ],
)
def test_every_refusal_names_its_reason(changes: dict[str, Any], reason: Reason) -> None:
    assert refused(Desk().decide(**changes)) is reason


def test_an_unseen_account_and_an_unlisted_instrument_are_refused() -> None:
    assert refused(Desk(equity=None).decide()) is Reason.ACCOUNT_UNKNOWN
    assert refused(Desk().decide(instrument="binance.usdm.NEWUSDT")) is Reason.INSTRUMENT_OUTSIDE_UNIVERSE
    assert refused(Desk(Policy(universe=Universe(blacklist=[BTC]))).decide()) is Reason.INSTRUMENT_OUTSIDE_UNIVERSE
    assert refused(Desk(Policy(universe=Universe(instruments=[ETH]))).decide()) is Reason.INSTRUMENT_OUTSIDE_UNIVERSE


def test_a_limit_entry_bids_no_worse_than_the_allowed_slippage() -> None:
    _, entry = Desk(Policy(execution=Execution(order_type="LIMIT"))).decide()
    assert (entry.order_type, entry.limit_price) == (OrderType.LIMIT, D("64640.1"))


@pytest.mark.parametrize(
    ("equity", "confidence", "margin"),
    [
        ("10000", 0.70, "300"),
        ("10000", 0.90, "420"),
        ("10000", 0.99, "450"),  # the factor stops at 1.5
        ("10000", 0.60, "240"),
        ("100000", 0.99, "2000"),  # the largest position
        ("2000", 0.60, "100"),  # the smallest position
        ("1900", 0.70, "0"),  # 5 % of equity is below the smallest position
    ],
)
def test_margin_follows_equity_and_confidence_within_its_limits(equity: str, confidence: float, margin: str) -> None:
    assert sizing.margin_for(D(equity), confidence, D("0.025"), 3, Risk()) == D(margin)


def test_margin_shrinks_until_the_loss_at_the_stop_is_bearable() -> None:
    assert sizing.margin_for(D(10_000), 0.7, D("0.05"), 10, Risk()) == 200
