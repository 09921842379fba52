"""What the desk's views say of a small made-up street; every event stands in the log twice and counts once."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from decimal import Decimal as D
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from infra.clickhouse.rows import Record
from infra.clickhouse.writer import Writer
from processors import exits, positions
from processors.filters import Filters
from processors.step import Context
from schemas import hot, ids, topics
from schemas.events import Event
from schemas.ids import Purpose, client_id
from schemas.policy import ExitMode, Exits, Policy, Profile
from schemas.regime import Regime
from schemas.risk import Outcome, Reason, Verdict
from schemas.signals import Action, Decision, DecisionReason, Strategy
from schemas.trading import (
    Closed,
    Entry,
    Exit,
    ExitAction,
    ExitDecision,
    ExitPlan,
    ExitReason,
    Fill,
    Leg,
    LegKind,
    LegState,
    Order,
    OrderState,
    OrderType,
    Position,
    PositionStatus,
)
from schemas.units import OrderSide, Side, Source

NOW = int(time.time() * 1000)
BTC, ETH, SOL = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT", "binance.usdm.SOLUSDT"
ENTRY, STOP = client_id(Purpose.ENTRY, "1"), client_id(Purpose.STOP, "1")
PRICE, QUANTITY = Decimal(64000), Decimal("0.5")


def write(writer: Writer) -> None:
    for number, (event, key) in enumerate(street()):
        topic = topics.BY_TYPE[event.type]
        twice = [Record(0, 2 * number + n, NOW + 10 * number, key.encode(), event.encode(), ()) for n in (0, 1)]
        assert writer.insert(topic.name, twice, f"{number}") == []
    writer.insert("trade.positions", [Record(0, 10_000, NOW, b"sim/eth", None, ())], "tombstone")


def golden(name: str, **changes: Any) -> Event:
    told = json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    (kind,) = [event for event in topics.BY_TYPE[name].events if event.type_name() == name]
    return kind.model_validate_json(json.dumps(told | changes))


def street() -> list[tuple[Event, str]]:
    """A decision that was filled, one that was refused, one that nobody has judged yet; an open position and a closed one."""
    common: dict[str, Any] = {"at": NOW, "account": "sim"}
    return [
        (decision("d1", BTC), "k"),
        (decision("d2", ETH), "k"),
        (decision("d3", ETH), "k"),
        (decision("d4", BTC, Action.HOLD), "k"),
        (verdict("v1", "d1", BTC, Outcome.APPROVED, Reason.WITHIN_LIMITS), "k"),
        (verdict("v2", "d2", ETH, Outcome.REFUSED, Reason.COOL_DOWN), "k"),
        (
            Entry(
                **common,
                event_id="e1",
                instrument=BTC,
                decision_id="d1",
                verdict_id="v1",
                strategy=Strategy.MODEL,
                side=Side.LONG,
                order_type=OrderType.MARKET,
                quantity=QUANTITY,
                limit_price=None,
                reference_price=PRICE,
                stop_price=Decimal(63000),
                leverage=2,
                client_id=ENTRY,
                stop_client_id=STOP,
                not_after=NOW,
                policy_version=1,
                source=Source.SYNTHETIC,
            ),
            "k",
        ),
        (order(OrderState.SENDING, NOW + 65), "k"),
        (order(OrderState.FILLED, None), "k"),
        (
            Fill(
                **common,
                event_id="f1",
                instrument=BTC,
                trade_id=7,
                order_id="1",
                client_id=ENTRY,
                purpose=Purpose.ENTRY,
                side=OrderSide.BUY,
                price=PRICE,
                quantity=QUANTITY,
                fee=Decimal("0.01"),
                fee_asset="USDT",
                realized_pnl=Decimal(0),
                maker=False,
                backfilled=False,
                source=Source.SYNTHETIC,
            ),
            "k",
        ),
        (golden("breaker.state", phase="HALF_OPEN", reason="COOLED", at=NOW - 1), f"sim/{BTC}"),
        (golden("breaker.state", event_id="b2"), f"sim/{BTC}"),
        (golden("risk.state"), "sim"),
        (golden("guardian.report", action="PROTECTED", unprotected_s=0.25, notional=800.0), BTC),
        (golden("guardian.report", event_id="g2", action="ORPHAN_CANCELED"), BTC),
        (position("p1", BTC), "sim/btc"),
        (position("p2", ETH), "sim/eth"),
        (plan("p1", LegState.WANTED, 1), "sim/btc"),
        (plan("p1", LegState.RESTING, 2), "sim/btc"),
        (
            Closed(
                **common,
                event_id="c1",
                instrument=ETH,
                position_id="p2",
                side=Side.LONG,
                quantity=QUANTITY,
                entry_price=PRICE,
                exit_price=PRICE,
                opened_at=NOW - 2500,
                closed_at=NOW,
                realized_pnl=Decimal(-3),
                fees=Decimal(1),
                fills=2,
                exit_reason=ExitReason.STOP,
                entry_client_id="e",
                exit_client_id="x",
                source=Source.SYNTHETIC,
            ),
            "k",
        ),
        *run_with_a_shadow(),
    ]


class Run:
    """exits, positions and execution's words around one position with a shadow beside it: what they say is what is written."""

    def __init__(self) -> None:
        self.exits: exits.State | None = None
        self.positions: positions.State | None = None
        self.said: list[tuple[Event, str]] = []
        self.offset = 0
        chosen = Exits(profile=Profile.CHALLENGE_100, modes={SOL: ExitMode.SHADOW})
        self.policy = Policy(exits=chosen)

    def take(self, event: Any) -> None:
        if isinstance(event, Event):
            self.said.append((event, "sim/sol" if isinstance(event, Position) else "k"))
        ctx = Context("any", ids.partition_of(SOL), self.offset, self.policy, 1, "sim", {})
        if isinstance(event, Fill):
            folded = positions.step(self.positions, event, ctx)
            self.positions = folded.state
            for more in folded.events:
                self.take(more)
        elif not isinstance(event, ExitPlan | ExitDecision | Closed):
            result = exits.step(self.exits, event, ctx, {SOL: Filters(D("0.01"), D("0.1"), D("0.1"), D(1000), D(5))})
            self.exits = result.state
            for more in exits.gathered(event, list(result.events), ctx):
                if isinstance(more, Exit) and more.action is not ExitAction.CANCEL:
                    self.said.append((more, "k"))
                    self.take(self.order(more.client_id, OrderState.ACKED, more.event_id, trigger=more.trigger_price))
                elif isinstance(more, Event) and not isinstance(more, Exit):
                    self.said.append((more, "sim/sol" if isinstance(more, ExitPlan) else "k"))

    def order(self, name: str, state: OrderState, intent: str, trigger: D | None = None) -> Order:
        told = order(state, None).model_copy(update={"event_id": f"{name}-{state}", "instrument": SOL, "intent_id": intent})
        net = intent == "sol" and name.startswith("s-")
        return told.model_copy(
            update={"client_id": name, "purpose": ids.purpose_of(name), "trigger_price": trigger, "close_position": net}
        )

    def fill(self, name: str, number: int, side: OrderSide, price: str, quantity: str) -> None:
        self.take(
            Fill(
                event_id=f"sol-{number}",
                at=NOW + 1000 * self.offset,
                instrument=SOL,
                account="sim",
                trade_id=number,
                order_id="1",
                client_id=name,
                purpose=ids.purpose_of(name),
                side=side,
                price=D(price),
                quantity=D(quantity),
                fee=D("0.01"),
                fee_asset="USDT",
                realized_pnl=D(0),
                maker=False,
                backfilled=False,
                source=Source.SYNTHETIC,
            )
        )

    def mark(self, price: float) -> None:
        self.offset += 1
        mark = hot.Mark(SOL, price, price, price, price, price, 0.0, 0)
        self.take(hot.Marks(f"m{self.offset}", "market.marks", NOW + 1000 * self.offset, 0, [mark], "synthetic"))

    def named(self, kind: ExitAction) -> str:
        return [event.client_id for event, _ in self.said if isinstance(event, Exit) and event.action is kind][-1]


def run_with_a_shadow() -> list[tuple[Event, str]]:
    """Bought at 100. The baseline takes 30 % at 101.5 and the rest at break-even; the challenge (R = 1 %) takes 30 % at 101 and the
    rest at 102, which it reaches first."""
    run = Run()
    entry = client_id(Purpose.ENTRY, "sol")
    yes = verdict("v-sol", "d-sol", SOL, Outcome.APPROVED, Reason.WITHIN_LIMITS)
    run.take(yes.model_copy(update={"entry_id": "sol", "atr": 0.005, "regime": Regime.TREND, "leverage": 3}))
    run.fill(entry, 1, OrderSide.BUY, "100", "10")
    run.take(run.order(entry, OrderState.FILLED, "sol"))
    run.take(run.order(client_id(Purpose.STOP, "sol"), OrderState.ACKED, "sol", D("97.5")))
    first = next(e.client_id for e, _ in run.said if isinstance(e, Exit) and e.action is ExitAction.PLACE_TAKE_PROFIT)
    for price in (100.0, 101.2, 101.6):
        run.mark(price)
    run.fill(first, 2, OrderSide.SELL, "101.5", "3")
    run.mark(102.1)
    run.mark(100.2)
    run.fill(run.named(ExitAction.PLACE_STOP), 3, OrderSide.SELL, "100.12", "7")
    run.mark(100.0)
    return run.said


def decision(name: str, instrument: str, action: Action = Action.LONG) -> Decision:
    return Decision(
        event_id=name,
        at=NOW,
        instrument=instrument,
        strategy=Strategy.MODEL,
        action=action,
        reason=DecisionReason.CONFIDENT,
        detail="",
        confidence=0.7,
        reference_price=PRICE,
        features_id="x",
        prediction_id=None,
        model_version=None,
        candle_at=NOW,
        policy_version=1,
        source=Source.SYNTHETIC,
    )


def verdict(name: str, decision_id: str, instrument: str, outcome: Outcome, reason: Reason) -> Verdict:
    return Verdict(
        event_id=name,
        at=NOW,
        instrument=instrument,
        account="sim",
        decision_id=decision_id,
        outcome=outcome,
        reason=reason,
        detail="",
        side=Side.LONG,
        confidence=0.7,
        reference_price=PRICE,
        equity=None,
        margin=None,
        leverage=None,
        notional=None,
        quantity=None,
        stop_price=None,
        entry_id=None,
        open_positions=0,
        exposure=Decimal(0),
        policy_version=1,
        source=Source.SYNTHETIC,
    )


def order(state: OrderState, sent_at: int | None) -> Order:
    return Order(
        event_id=f"o-{state}",
        at=NOW,
        instrument=BTC,
        account="sim",
        intent_id="e1",
        client_id=ENTRY,
        purpose=Purpose.ENTRY,
        side=OrderSide.BUY,
        order_type=OrderType.MARKET,
        state=state,
        attempt=1,
        quantity=QUANTITY,
        price=None,
        trigger_price=None,
        close_position=False,
        reduce_only=False,
        sent_at=sent_at,
    )


def position(name: str, instrument: str) -> Position:
    return Position(
        event_id=f"pos-{name}",
        at=NOW,
        instrument=instrument,
        account="sim",
        position_id=name,
        revision=1,
        status=PositionStatus.OPEN,
        side=Side.LONG,
        quantity=QUANTITY,
        entry_price=PRICE,
        opened_at=NOW,
        realized_pnl=Decimal(0),
        fees=Decimal(0),
        last_trade_id=7,
        last_fill_id="f1",
        entry_client_id=ENTRY,
        last_client_id=ENTRY,
        source=Source.SYNTHETIC,
    )


def plan(name: str, net: LegState, revision: int) -> ExitPlan:
    return ExitPlan(
        event_id=f"plan-{revision}",
        at=NOW,
        instrument=BTC,
        account="sim",
        plan_id="plan",
        revision=revision,
        position_id=name,
        side=Side.LONG,
        profile="STANDARD_LADDER",
        mode="LIVE",
        entry_price=PRICE,
        quantity=QUANTITY,
        stop_distance=Decimal(1000),
        stop_price=Decimal(63000),
        break_even=False,
        legs=[
            Leg(kind=LegKind.NET, client_id=STOP, price=Decimal(63000), quantity=None, state=net),
            Leg(kind=LegKind.TAKE_PROFIT, client_id="t-1", price=Decimal(66000), quantity=QUANTITY, state=LegState.RESTING),
        ],
        why="",
        closing=False,
        marks_partition=0,
        marks_offset=0,
        policy_version=1,
    )


def test_the_funnel_says_where_each_decision_stopped(sql: Client) -> None:
    found = sql.query(
        "SELECT decision_id, reached, reason, order_state, toString(filled_quantity), verdict_ms, sent_ms, filled_ms "
        "FROM funnel ORDER BY decision_id"
    ).result_rows
    assert found == [
        ("d1", "FILLED", "WITHIN_LIMITS", "FILLED", "0.5", 40, 65, 90),
        ("d2", "JUDGED", "COOL_DOWN", "", "0", 40, None, None),
        ("d3", "DECIDED", "", "", "0", None, None, None),
    ]


def test_an_open_position_stands_once_with_the_plan_that_protects_it(sql: Client) -> None:
    assert sql.query("SELECT instrument, position_id FROM positions_open").result_rows == [(BTC, "p1")], "a tombstone ends one"
    found = sql.query("SELECT position_id, plan_revision, has_stop, take_profits, toString(stop_price) FROM protection").result_rows
    assert found == [("p1", 2, True, 1, "63000")]


def test_the_brakes_stand_as_they_were_last_and_what_was_bare_is_told_with_its_worth(sql: Client) -> None:
    found = sql.query("SELECT scope, state, reason, trips FROM brakes ORDER BY scope").result_rows
    assert found == [(BTC, "OPEN", "EXECUTION_ERRORS", 1), ("emergency stop", "STOPPED", "DAILY_DRAWDOWN", 0)]
    assert sql.query("SELECT action, unprotected_s, seconds_notional FROM unprotected").result_rows == [("PROTECTED", 0.25, 200.0)]


def test_a_round_trip_counts_once(sql: Client) -> None:
    query = f"SELECT instrument, exit_reason, held_s, toString(realized_pnl - fees) FROM round_trips WHERE instrument != '{SOL}'"
    found = sql.query(query).result_rows
    assert found == [(ETH, "STOP", 2.5, "-4")]


def test_exits_are_told_by_reason_profile_and_regime_the_shadow_beside_the_plan_that_ordered(sql: Client) -> None:
    found = sql.query(
        "SELECT mode, profile, style, tp_sl_mode, regime, reason, trips, win_rate, hit_rate, round(mean_pct, 3), round(mean_r, 3), "
        f"toString(sum(pnl)) FROM exit_performance WHERE profile IN (SELECT profile FROM exit_trips WHERE instrument = '{SOL}') "
        "GROUP BY ALL ORDER BY mode"
    ).result_rows
    assert found == [
        ("LIVE", "STANDARD_LADDER", "BALANCED", "HYBRID", "TREND", "BREAK_EVEN", 1, 1.0, 1.0, 0.534, 0.214, "5.34"),
        ("SHADOW", "CHALLENGE_100", "BALANCED", "HYBRID", "TREND", "TAKE_PROFIT", 1, 1.0, 1.0, 1.7, 1.7, None),
    ]
    paired = sql.query("SELECT instrument, live_reason, shadow_reason, round(better_by_pct, 3) FROM exit_shadows").result_rows
    assert paired == [(SOL, "BREAK_EVEN", "TAKE_PROFIT", 1.166)]
