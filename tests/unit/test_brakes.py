"""Histories of the brakes through risk: what trips them, what they hold back, what they let through, what opens them again.

Every state goes through its bytes after every step, as after a kill -9.
"""

from __future__ import annotations

import json
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from processors import risk
from processors.brakes import Known, hold
from processors.filters import Filters
from processors.intents import entry_intents, exit_intent, opening
from processors.step import Context
from schemas.events import Event
from schemas.ids import Purpose, client_id
from schemas.operations import Audit, CommandKind, GuardianReport, Heartbeat
from schemas.policy import Policy, Remedy
from schemas.risk import ALL, Alarm, BreakerState, Outcome, Phase, Reason, RiskState, Trip, Verdict
from schemas.signals import Action, Decision, DecisionReason, Strategy
from schemas.trading import (
    AccountSnapshot,
    Closed,
    Correction,
    CorrectionKind,
    Entry,
    Exit,
    ExitAction,
    ExitReason,
    HeldPosition,
    Order,
    OrderState,
    OrderType,
    Position,
    PositionStatus,
)
from schemas.units import OrderSide, Side, Source
from streams.risk import keys

NAMES = [f"binance.usdm.{s}USDT" for s in ("BTC", "ETH", "SOL", "XRP")]
BTC, ETH, SOL, XRP = NAMES
FILTERS = dict.fromkeys(NAMES, Filters(D("0.1"), D("0.001"), D("0.001"), D(120), D(5)))
POLICY = Policy()
NOW = 1_722_470_400_000
DAY = 86_400_000


class Desk:
    """Risk as its worker holds it: keys by the stage's own rule, states through bytes."""

    def __init__(self, policy: Policy = POLICY, equity: str = "10000") -> None:
        self.policy, self.now, self.n = policy, NOW, 0
        self.states: dict[str, risk.State] = {}
        self.said: list[Any] = []
        self.snapshot(equity)

    def take(self, event: Event) -> list[Any]:
        found: list[Any] = []
        for key in keys(event, sorted(self.states)):
            ctx = Context("any", 0, 0, self.policy, 3, "sim", dict(self.states), "", key)
            result = risk.step(self.states.get(key), event, ctx, FILTERS)
            assert result.state is not None
            self.states[key] = msgspec.json.decode(msgspec.json.encode(result.state), type=risk.State)
            found += result.events
        self.said += found
        return found

    def _id(self) -> str:
        self.n += 1
        return f"event-{self.n}"

    def snapshot(self, equity: str, after_ms: int = 2000, held: tuple[HeldPosition, ...] = ()) -> list[Any]:
        self.now += after_ms
        money, free = D(equity), {"wallet": D(equity), "available": D(equity), "unrealized_pnl": D(0)}
        return self.take(
            AccountSnapshot(event_id=self._id(), at=self.now, account="sim", equity=money, positions=list(held), **free)
        )

    def decide(self, name: str = BTC, action: Action = Action.LONG, after_ms: int = 1000) -> Verdict:
        self.now += after_ms
        at = {"at": self.now, "candle_at": self.now}
        about: dict[str, Any] = {"features_id": "f", "prediction_id": None, "model_version": None, "policy_version": 3}
        decision = Decision(
            event_id=self._id(),
            instrument=name,
            strategy=Strategy.MODEL,
            action=action,
            reason=DecisionReason.CONFIDENT,
            detail="",
            confidence=0.8,
            reference_price=D(60_000),
            source=Source.SYNTHETIC,
            **at,
            **about,
        )
        (verdict,) = [event for event in self.take(decision) if isinstance(event, Verdict)]
        return verdict

    def order(
        self, name: str, state: OrderState, code: int | None = None, purpose: Purpose = Purpose.STOP, **more: Any
    ) -> list[Any]:
        named = client_id(purpose, name, self.n)
        fields: dict[str, Any] = {
            "event_id": self._id(),
            "at": self.now,
            "instrument": name,
            "account": "sim",
            "intent_id": "i",
            "client_id": named,
            "purpose": purpose,
            "side": OrderSide.SELL,
            "order_type": OrderType.MARKET,
            "state": state,
            "attempt": 1,
            "quantity": D(1),
            "price": None,
            "trigger_price": None,
            "close_position": False,
            "reduce_only": True,
            "error_code": code,
        }
        return self.take(Order(**(fields | more)))

    def entry_done(self, name: str, state: OrderState, code: int | None = None, filled: str = "0") -> list[Any]:
        """What becomes of the entry that the last approval of this symbol made."""
        entry = self.last_entry(name)
        ids = {"intent_id": entry.event_id, "client_id": entry.client_id}
        return self.order(name, state, code, Purpose.ENTRY, filled_quantity=D(filled), **ids)

    def last_entry(self, name: str) -> Entry:
        return next(event for event in reversed(self.said) if isinstance(event, Entry) and event.instrument == name)

    def fail(self, name: str, times: int, code: int = -4014) -> None:
        for _ in range(times):
            self.order(name, OrderState.REFUSED, code)

    def command(self, kind: CommandKind, accepted: bool = True, **body: Any) -> list[Any]:
        who: dict[str, Any] = {"actor": "anna", "accepted": accepted, "detail": "because", "policy_version": 3, "command_id": "c"}
        return self.take(Audit(event_id=self._id(), at=self.now, kind=kind, body=json.dumps(body), **who))

    def beat(self, worker: str, at_s: float, *, ready: bool = True, feed_age_s: float | None = None) -> list[Any]:
        how: dict[str, Any] = {"processed": 0, "recovered_gaps": 0, "dead_letters": 0, "rss_mb": 1.0, "pid": 1, "started_at": 1}
        age = None if feed_age_s is None else int(feed_age_s * 1000)
        at = int(at_s * 1000)
        beat = Heartbeat(event_id=self._id(), at=at, worker=worker, member=worker, ready=ready, status="", feed_age_ms=age, **how)
        return self.take(beat)

    @property
    def stop(self) -> RiskState | None:
        return next((event for event in reversed(self.said) if isinstance(event, RiskState)), None)

    def phase(self, scope: str) -> Phase:
        key = risk.ACCOUNT if scope == ALL else scope
        return self.states[key].breaker.phase

    def trips(self, scope: str) -> list[Trip]:
        return [event.reason for event in self.said if isinstance(event, BreakerState) and event.scope == scope]


def held(name: str, pnl: str, quantity: str = "1", entry: str = "100") -> HeldPosition:
    return HeldPosition(instrument=name, quantity=D(quantity), entry_price=D(entry), unrealized_pnl=D(pnl))


# -- breakers


def test_errors_of_one_symbol_open_that_symbol_alone_and_its_entries_are_refused() -> None:
    desk = Desk()
    desk.fail(BTC, 3)
    verdict = desk.decide(BTC)
    assert (verdict.outcome, verdict.reason) == (Outcome.REFUSED, Reason.BREAKER_OPEN)
    assert "-4014" in verdict.detail
    assert desk.states[BTC].reserved is None
    assert desk.decide(ETH).outcome is Outcome.APPROVED
    assert desk.trips(BTC) == [Trip.EXECUTION_ERRORS]
    assert desk.stop is None


def test_however_often_one_symbol_fails_the_others_trade_on() -> None:
    desk = Desk()
    for _ in range(30):
        desk.order(BTC, OrderState.UNKNOWN)
        desk.snapshot("10000")
    assert desk.decide(ETH).outcome is Outcome.APPROVED
    assert desk.phase(ALL) is Phase.CLOSED


def test_a_success_between_and_refusals_that_tell_the_state_of_the_world_are_no_row_of_errors() -> None:
    desk = Desk()
    for _ in range(5):
        desk.fail(BTC, 2)
        desk.order(BTC, OrderState.ACKED)
        desk.fail(BTC, 4, code=-2021)
        desk.order(BTC, OrderState.ABANDONED)
    assert desk.phase(BTC) is Phase.CLOSED


def test_the_same_error_read_twice_counts_once() -> None:
    desk = Desk()
    for _ in range(5):
        desk.order(BTC, OrderState.REFUSED, -4014, event_id="the same")
    assert desk.phase(BTC) is Phase.CLOSED


def report(action: str) -> GuardianReport:
    said: dict[str, Any] = {"detail": "d", "client_id": "g", "unprotected_s": 4.0, "notional": 100.0}
    return GuardianReport(event_id=f"r-{action}", at=NOW, instrument=BTC, account="sim", action=action, **said)


def correction(kind: CorrectionKind) -> Correction:
    return Correction(event_id="c", at=NOW, instrument=BTC, account="sim", kind=kind, reason="r", ours="0", theirs="1")


def closed(reason: ExitReason) -> Closed:
    prices: dict[str, Any] = {"quantity": D(1), "entry_price": D(1), "exit_price": D(1), "realized_pnl": D(0), "fees": D(0)}
    when: dict[str, Any] = {"at": NOW, "opened_at": NOW, "closed_at": NOW, "fills": 2, "source": Source.SYNTHETIC}
    names: dict[str, Any] = {"entry_client_id": "e", "exit_client_id": "x", "position_id": "p", "side": Side.LONG}
    return Closed(event_id="z", instrument=BTC, account="sim", exit_reason=reason, **prices, **when, **names)


@pytest.mark.parametrize(
    ("event", "trip"),
    [
        (report("STOP_PLACED"), Trip.PROTECTION_LOST),
        (report("FAILED"), Trip.PROTECTION_LOST),
        (closed(ExitReason.PROTECTION_LOST), Trip.PROTECTION_LOST),
        (closed(ExitReason.LIQUIDATION), Trip.PROTECTION_LOST),
        (correction(CorrectionKind.POSITION_UNEXPLAINED), Trip.RECONCILIATION),
        (report("PROTECTED"), None),
        (report("ORPHAN_CANCELED"), None),
        (closed(ExitReason.TAKE_PROFIT), None),
        (correction(CorrectionKind.FILLS_MISSED), None),
    ],
    ids=lambda value: getattr(value, "action", None) or getattr(value, "exit_reason", None) or getattr(value, "kind", None) or "",
)
def test_lost_protection_and_differences_open_the_symbol(event: Event, trip: Trip | None) -> None:
    desk = Desk()
    desk.take(event)
    assert desk.trips(BTC) == ([trip] if trip else [])
    desk.now += 200_000  # beyond the cool-down after a close, short of the breaker's
    assert desk.decide(BTC).reason is (Reason.BREAKER_OPEN if trip else Reason.WITHIN_LIMITS)
    assert desk.decide(ETH).outcome is Outcome.APPROVED


def test_after_its_time_one_entry_is_tried_and_closes_the_breaker() -> None:
    desk = Desk()
    desk.fail(BTC, 3)
    until = desk.states[BTC].breaker.may_reset_at
    assert until == desk.now + 300_000
    assert desk.decide(BTC, after_ms=299_999).reason is Reason.BREAKER_OPEN
    assert desk.decide(BTC, after_ms=1).outcome is Outcome.APPROVED
    assert desk.decide(BTC).reason is Reason.ORDER_IN_FLIGHT
    desk.entry_done(BTC, OrderState.ACKED)
    assert desk.phase(BTC) is Phase.CLOSED
    assert desk.trips(BTC) == [Trip.EXECUTION_ERRORS, Trip.COOLED, Trip.TRIAL_PASSED]


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    desk = Desk()
    desk.fail(BTC, 3)
    waits = []
    for _ in range(6):
        wait = desk.states[BTC].breaker.may_reset_at - desk.now
        waits.append(wait // 1000)
        assert desk.decide(BTC, after_ms=wait).outcome is Outcome.APPROVED
        desk.entry_done(BTC, OrderState.REFUSED, -2019)
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    assert desk.trips(BTC)[-1] is Trip.TRIAL_FAILED


def test_several_open_symbols_open_the_breaker_of_all_which_then_tries_one_entry() -> None:
    desk = Desk()
    desk.order(XRP, OrderState.ACKED)
    for name in (BTC, ETH, SOL):
        desk.take(report("CLOSED").model_copy(update={"instrument": name, "at": desk.now}))
        desk.snapshot("10000")
    assert desk.decide(XRP).reason is Reason.BREAKER_OPEN
    assert desk.decide(XRP, after_ms=301_000).reason is Reason.BREAKER_OPEN, "only the account's word passes its time"
    desk.snapshot("10000")
    assert desk.phase(ALL) is Phase.HALF_OPEN
    assert desk.decide(XRP).outcome is Outcome.APPROVED
    assert desk.decide(BTC).reason is Reason.BREAKER_OPEN, "one trial at a time"
    desk.entry_done(XRP, OrderState.FILLED, filled="0.01")
    desk.snapshot("10000")
    assert desk.phase(ALL) is Phase.CLOSED


def test_reset_tries_one_entry_and_override_forgets_all() -> None:
    desk = Desk()
    desk.fail(BTC, 3)
    desk.command(CommandKind.BREAKER_RESET, accepted=False, scope=BTC)
    assert desk.phase(BTC) is Phase.OPEN, "control has refused it"
    desk.command(CommandKind.BREAKER_RESET, scope=ETH)
    assert desk.phase(BTC) is Phase.OPEN
    desk.command(CommandKind.BREAKER_RESET, scope=BTC)
    assert desk.phase(BTC) is Phase.HALF_OPEN
    assert desk.decide(BTC).outcome is Outcome.APPROVED
    desk.entry_done(BTC, OrderState.REFUSED, -4014)
    assert desk.phase(BTC) is Phase.OPEN
    desk.command(CommandKind.BREAKER_OVERRIDE, scope=ALL)
    assert desk.phase(BTC) is Phase.CLOSED
    newest = next(event for event in reversed(desk.said) if isinstance(event, BreakerState))
    assert (newest.reason, newest.actor, newest.evidence) == (Trip.OVERRIDE, "anna", "anna: because")
    desk.fail(BTC, 2)
    assert desk.phase(BTC) is Phase.CLOSED, "its errors began anew"


# -- the emergency stop


def engage(alarm: Alarm) -> Desk:
    """A desk on which exactly this alarm has just sounded."""
    desk = Desk()
    match alarm:
        case Alarm.DAILY_DRAWDOWN:
            for equity in ("11000", "9351", "9349", "9349"):
                assert desk.stop is None
                desk.snapshot(equity)
        case Alarm.WEEKLY_DRAWDOWN:
            for equity in ("13000", "12000", "11000", "9751", "9749", "9749"):
                assert desk.stop is None
                desk.snapshot(equity, after_ms=DAY // 4 if equity != "9749" else 2000)
        case Alarm.EMERGENCY_BRAKE:
            for week, equity in enumerate(("10000", "9000", "8300", "8001", "7999", "7999")):
                assert desk.stop is None, week
                desk.snapshot(equity, after_ms=8 * DAY if equity != "7999" else 2000)
        case Alarm.SYSTEM_HEALTH:
            desk.beat("market", 1000)
            for second in range(1000, 1124, 2):
                assert desk.stop is None
                desk.beat("risk", second)
        case Alarm.EXECUTION_ERRORS:
            desk.fail(BTC, 3)
            desk.fail(ETH, 2)
            desk.beat("risk", 1000)
            assert desk.stop is None, "5 in a row are the limit"
            desk.fail(ETH, 1)
            desk.beat("risk", 1001)
        case Alarm.FEED_SILENT:
            desk.beat("market", 1000, feed_age_s=300)
            assert desk.stop is None
            desk.beat("market", 1002, feed_age_s=301)
        case Alarm.MANUAL:
            desk.command(CommandKind.STOP)
    assert desk.stop is not None
    assert desk.stop.alarms == [alarm]
    return desk


@pytest.mark.parametrize("alarm", Alarm)
def test_each_alarm_stops_entries_outlives_a_crash_and_yields_to_the_administrator_alone(alarm: Alarm) -> None:
    desk = engage(alarm)
    assert desk.stop is not None
    assert desk.stop.stopped
    assert alarm in desk.stop.evidence[0]
    verdict = desk.decide(XRP)
    assert (verdict.outcome, verdict.reason, verdict.entry_id) == (Outcome.REFUSED, Reason.EMERGENCY_STOP, None)
    desk.command(CommandKind.RESUME, accepted=False)
    desk.command(CommandKind.BREAKER_OVERRIDE, scope=ALL)
    assert desk.decide(XRP).reason is Reason.EMERGENCY_STOP
    desk.command(CommandKind.RESUME)
    assert not desk.stop.stopped
    assert desk.stop.actor == "anna"
    assert desk.decide(XRP).outcome is Outcome.APPROVED
    desk.snapshot(str(desk.stop.equity))
    desk.snapshot(str(desk.stop.equity))
    desk.beat("risk", 2000)
    assert not desk.stop.stopped, "what is past does not sound again"


@pytest.mark.parametrize("alarm", Alarm)
def test_a_decision_against_a_position_closes_it_whatever_is_engaged(alarm: Alarm) -> None:
    desk = engage(alarm)
    desk.fail(BTC, 3)
    desk.take(position(BTC, desk.now))
    assert desk.decide(BTC, Action.SHORT).outcome is Outcome.CLOSE


def position(name: str, at: int) -> Position:
    numbers: dict[str, Any] = {"realized_pnl": D(0), "fees": D(0), "last_trade_id": 1, "revision": 1}
    names: dict[str, Any] = {"last_fill_id": "f", "entry_client_id": "e", "last_client_id": "e", "position_id": f"p-{name}"}
    fields: dict[str, Any] = {"side": Side.LONG, "quantity": D("0.01"), "entry_price": D(60_000), "opened_at": at}
    return Position(
        event_id=f"p-{name}", at=at, instrument=name, account="sim", status=PositionStatus.OPEN, source=Source.SYNTHETIC, **fields,
        **numbers, **names,
    )  # fmt: skip


def test_one_glitch_of_equity_stops_nothing_and_a_snapshot_read_twice_is_one() -> None:
    desk = Desk()
    desk.snapshot("10")
    desk.snapshot("10", after_ms=0)
    desk.snapshot("10000")
    desk.snapshot("10")
    assert desk.stop is None


def test_highs_begin_anew_with_the_venues_day_and_week() -> None:
    desk = Desk(equity="10000")
    for _ in range(20):  # 1.4 % a day: 7 % a week, 15 % only in eleven days
        desk.snapshot(str(desk.states[risk.ACCOUNT].account.equity * D("0.986")), after_ms=DAY)  # type: ignore[union-attr]
        desk.snapshot(str(desk.states[risk.ACCOUNT].account.equity))  # type: ignore[union-attr]
        if desk.stop:
            break
    assert desk.stop is not None
    assert desk.stop.alarms == [Alarm.EMERGENCY_BRAKE]


def test_a_night_with_everything_off_is_no_silence() -> None:
    desk = Desk()
    for worker in ("market", "risk", "execution"):
        desk.beat(worker, 1000)
    for second in range(90_000, 90_110, 2):
        desk.beat("risk", second)
    desk.beat("execution", 90_110)
    desk.beat("market", 90_110)
    assert desk.stop is None


def test_a_worker_that_lives_and_is_never_ready_is_not_healthy() -> None:
    desk = Desk()
    for second in range(1000, 1124, 2):
        desk.beat("execution", second, ready=second == 1000)
        desk.beat("exits", second, ready=False)
    assert desk.stop is not None
    assert desk.stop.evidence == ["SYSTEM_HEALTH: not ready: execution for 122 s"], "exits is still on its way"


def test_a_cause_that_stands_stops_again_after_resume() -> None:
    desk = engage(Alarm.FEED_SILENT)
    desk.command(CommandKind.RESUME)
    desk.beat("market", 1004, feed_age_s=303)
    assert desk.stop is not None
    assert desk.stop.alarms == [Alarm.FEED_SILENT]


def crash(*positions: HeldPosition, policy: Policy = POLICY) -> list[Verdict]:
    desk = Desk(policy)
    for one in positions:
        desk.take(position(one.instrument, desk.now + 10_000))
    desk.snapshot("8000", held=positions)
    return [e for e in desk.snapshot("8000", held=positions) if isinstance(e, Verdict)]


def test_a_drawdown_closes_losers_and_then_the_worst_until_half_is_gone() -> None:
    closes = crash(held(BTC, "-5"), held(ETH, "9"), held(SOL, "1"), held(XRP, "2"))
    assert {v.instrument for v in closes} == {BTC, SOL}
    assert {(v.outcome, v.reason, v.side) for v in closes} == {(Outcome.CLOSE, Reason.EMERGENCY_STOP, Side.SHORT)}
    assert all(v.at == NOW + 12_000 for v in closes), "never before the position that it speaks of"
    only_losers = Policy.model_validate({"emergency": {"remedies": [Remedy.CLOSE_LOSERS]}})
    assert [v.instrument for v in crash(held(BTC, "-5"), held(ETH, "9"), policy=only_losers)] == [BTC]


def test_closing_is_asked_again_ever_more_rarely_until_it_is_done_and_a_manual_stop_closes_nothing() -> None:
    desk = Desk()
    loser = held(BTC, "-2000")
    asked = [any(isinstance(e, Verdict) for e in desk.snapshot("8000", held=(loser,))) for _ in range(10)]
    assert [n for n, verdict in enumerate(asked) if verdict] == [1, 2, 4, 8]
    desk.snapshot("8000")
    assert desk.states[risk.ACCOUNT].emergency.closing == ()
    manual = engage(Alarm.MANUAL)
    assert not [e for e in manual.snapshot("10000", held=(loser,)) if isinstance(e, Verdict)]


# -- execution's last question


def entry() -> Entry:
    desk = Desk()
    assert desk.decide(BTC).outcome is Outcome.APPROVED
    return desk.last_entry(BTC)


def exit_(action: ExitAction) -> Exit:
    about: dict[str, Any] = {"reason": ExitReason.STOP, "detail": "", "position_id": "p", "plan_id": "p", "plan_revision": 1}
    legs: dict[str, Any] = {"quantity": D(1), "price": D(1), "trigger_price": D(1), "policy_version": 1}
    named = client_id(Purpose.STOP, "x")
    return Exit(
        event_id="x", at=NOW, instrument=BTC, account="sim", action=action, side=Side.LONG, client_id=named, **about, **legs
    )  # fmt: skip


def test_execution_holds_back_what_opens_by_log_and_by_file_and_no_exit_can_be_asked_about() -> None:
    opens, net = entry_intents(entry(), "trace")
    wish = opening(opens)
    assert wish is not None
    assert opening(net) is None
    for action in ExitAction:
        assert opening(exit_intent(exit_(action), "trace")) is None
    assert hold(wish, Known()) is None
    stopped = engage(Alarm.MANUAL).stop
    tripped = Desk()
    tripped.fail(BTC, 3)
    (state,) = [event for event in tripped.said if isinstance(event, BreakerState)]
    for known, reason in (
        (Known(stop_file="anna"), Reason.EMERGENCY_STOP),
        (Known(risk=stopped), Reason.EMERGENCY_STOP),
        (Known(breakers={BTC: state}), Reason.BREAKER_OPEN),
        (Known(breakers={ALL: state}), Reason.BREAKER_OPEN),
    ):
        found = hold(wish, known)
        assert found is not None
        assert found.reason is reason
    assert hold(wish, Known(breakers={ETH: state})) is None
    assert hold(wish, Known(breakers={BTC: state.model_copy(update={"phase": Phase.HALF_OPEN})})) is None
