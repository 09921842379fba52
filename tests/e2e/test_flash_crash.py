"""A flash crash over a hundred positions: thirty per cent in a minute of the market, half of them gapping through their stops.

The real risk, execution, account, positions, exits and guardian workers, real broker, real exchange over sockets at ten
times the market's speed, its limits enforced. Of some the book is thin, so that a stop closes a part only; of some the exchange
rejects what a stop has become. Judged by the exchange's own log.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.venue.binance.filters import instrument_of
from schemas import hot, topics
from schemas.ids import PARTITIONS, partition_of
from schemas.policy import Execution, Exits, Policy, Profile, Risk, Universe
from schemas.risk import ALL, Outcome, Phase, Reason
from schemas.signals import Decision
from schemas.trading import ExitAction, OrderState
from streams.bench.matrix.exchange import EVERY_MS, symbols
from streams.bench.matrix.street import Street, Waits
from streams.envelope import decode

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PLANS = 100
CONDITIONAL_MOST, ORDERS_MOST = 200, 300
SPEED = 10.0
STEPS, STEP_S = 20, 0.3
"""Of the crash: a minute of the market."""
GAP_PCT = -26.0
WORKERS = ("risk", "execution", "account", "positions", "exits", "guardian")
AT_ONCE = 20
"""Decisions of one moment, as ranking lets them through."""
FLAT_ALREADY = -2022
LATE_S = 60.0
"""A hundred closes at market after the last step, on a busy machine."""


class Crashing(Street):
    """The workers that protect, as they run; marks as the gateway writes them: what the exchange's are, once a second."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        argv: Callable[[str], list[str]] = lambda name: ["streams.cli", "worker", name]  # noqa: E731
        super().__init__(directory, Waits(1.0), workers=[(name, 0) for name in WORKERS], argv=argv)
        self.names = names
        self._market = [",".join(names), str(SPEED), str(EVERY_MS)]
        self._env |= {"QT_SYMBOLS": ",".join(names), "QT_SPEED": str(SPEED), "QT_WEIGHT_LIMIT": "2400"}

    def policy(self) -> Policy:
        """A hundred positions, each with a stop that trails from the start."""
        return Policy(
            name="flash-crash",
            universe=Universe(instruments=[instrument_of(name) for name in self.names], min_volume_24h=0, min_depth=0),
            risk=Risk(max_positions=PLANS, margin_max=4000, cool_down_s=0),
            execution=Execution(entry_ttl_s=86_400),
            exits=Exits(profile=Profile.DEFAULT),
        )

    def _tick(self) -> None:
        before: dict[str, float] = {}
        while not self._over.wait(1.0):
            state = self.control("GET", "state")
            if state is None:
                continue
            rows: dict[int, list[hot.Mark]] = {p: [] for p in range(PARTITIONS)}
            for name, told in state["symbols"].items():
                instrument, mark = instrument_of(name), float(told["mark"])
                was = before.get(name, mark)
                before[name] = mark
                row = hot.Mark(instrument, mark, max(mark, was), min(mark, was), mark, mark, 0.0, 0)
                rows[partition_of(instrument)].append(row)
            at = state["market_t"]
            self.write(*[hot.Marks(f"marks-{at}-{p}", "market.marks", at, p, found, "synthetic") for p, found in rows.items()])


def decision(name: str, n: int, at: int) -> Decision:
    told = json.loads((Path(__file__).parents[1] / "golden" / "signal.decision.4.json").read_text())
    told |= {"event_id": f"d-{name}-{n}", "at": at, "candle_at": at, "instrument": instrument_of(name), "reference_price": "100"}
    return Decision.model_validate_json(json.dumps(told | {"blocked": None, "atr": None, "regime": None, "confidence": 0.9}))


class Judge:
    """What the exchange's log says of its limits."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self.conditional_most = 0
        self.placed: Counter[int] = Counter()
        resting: set[int] = set()
        known: set[tuple[str, int]] = set()
        for record in records:
            kind = record["k"]
            if kind not in ("order", "algo") or record[kind].get("algo_id"):
                continue
            order = record[kind]
            if (kind, order["id"]) not in known:
                known.add((kind, order["id"]))
                self.placed[int(record["wall"] // 10)] += 1
            if kind == "algo":
                (resting.add if order["status"] == "NEW" else resting.discard)(order["id"])
                self.conditional_most = max(self.conditional_most, len(resting))

    @property
    def orders_most(self) -> int:
        return max(self.placed.values())


def events(street: Street, topic: topics.Topic) -> list[Any]:
    messages = read_all(street.kafka.bootstrap, topic.name, offsets(street.kafka.bootstrap, [topic.name])[topic.name])
    return [decode(topic.name, value) for message in messages if (value := message.value()) is not None]


def shock(street: Street, names: Sequence[str], pct: float) -> None:
    assert street.control("POST", "price-shock", symbol=",".join(names), pct=pct) is not None


def come_to(street: Street, what: str, true: Callable[[dict[str, Any]], bool], timeout_s: float) -> None:
    def so() -> bool:
        state = street.control("GET", "state")
        return state is not None and true(state)

    if not street.until(so, timeout_s):
        found = street.control("GET", "state")
        told = ("positions", "live_algos", "open_orders", "limits")
        raise AssertionError(f"not so: {what}: { ({name: found[name] for name in told}) }")


def opened(street: Street, names: Sequence[str]) -> None:
    """Decisions as signals would write them, again for what an entry came too late for in its ten seconds."""
    deadline, n = time.monotonic() + 120, 0
    while len(held := street.control("GET", "state")["positions"]) < len(names):
        assert time.monotonic() < deadline, f"{len(held)} positions"
        wanted = [name for name in names if name not in held][:AT_ONCE]
        at = street.control("GET", "state")["market_t"]
        street.write(*[decision(name, n, at) for name in wanted])
        n += 1
        still = time.monotonic() + 3
        while time.monotonic() < still and not set(wanted) <= set(street.control("GET", "state")["positions"]):
            time.sleep(0.1)


def test_every_position_is_closed_or_protected_within_the_limits_and_no_exit_is_refused(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    even, odd = symbols()
    names = sorted(even + odd)[:PLANS]
    street = Crashing(tmp_path / "street", names)
    gapping, sliding = names[::2], names[1::2]
    thin, rejected = names[10:20], names[30:40]
    with street:
        street.control("POST", "limits", enforced=True, forgive=True)
        opened(street, names)
        come_to(street, "a net each", lambda state: state["live_algos"] == PLANS, 60)
        shock(street, names, 1.2)
        come_to(street, "a trailing stop before each net", lambda state: state["live_algos"] == CONDITIONAL_MOST, 90)

        for name in thin:
            street.control("POST", "liquidity", symbol=name, most="20")
        for name in rejected:
            street.control("POST", "faults", kind="algo-reject", route=name, count=2)
        began = time.time()
        at = began
        for n in range(STEPS):
            if n == 2:
                shock(street, gapping, GAP_PCT)
            shock(street, sliding, -100 * (1 - 0.7 ** (1 / STEPS)))
            if n > 2:
                shock(street, gapping, -0.3)
            at += STEP_S
            time.sleep(max(0.0, at - time.time()))
        fallen_s = time.time() - began
        come_to(street, "all out", lambda state: not state["positions"], LATE_S)
        flat_s = time.time() - began
        come_to(street, "nothing left behind", lambda state: not state["live_algos"] and not state["open_orders"], 60)
        street.until(lambda: any(b.scope == ALL and b.phase is Phase.OPEN for b in events(street, topics.BREAKER_STATES)), 20)
        street.write(decision(names[0], 99, street.control("GET", "state")["market_t"]))
        street.until(lambda: any(v.decision_id == f"d-{names[0]}-99" for v in events(street, topics.RISK_VERDICTS)), 20)

        street.until(street.intents_are_read, 30)
        time.sleep(2)  # and answered

        street.read_exchange()
        judge, state = Judge(street.records), street.control("GET", "state")
        audit = street.control("GET", f"audit?since={began}")
        exits, orders = events(street, topics.TRADE_EXITS), events(street, topics.TRADE_ORDERS)
        breakers, alarms = events(street, topics.BREAKER_STATES), events(street, topics.RISK_STATES)
        last = [v for v in events(street, topics.RISK_VERDICTS) if v.decision_id == f"d-{names[0]}-99"]
        closed = events(street, topics.TRADE_CLOSED)

    lives: dict[str, Any] = {order.intent_id: order for order in orders}
    closes = [wish for wish in exits if wish.action is ExitAction.CLOSE]
    say(
        f"{PLANS} positions, -30 % in {fallen_s:.1f} s ({fallen_s * SPEED:.0f} s of the market),"
        f" all out after {flat_s:.1f} s;"
        f" worst unprotected {audit['unprotected_worst_s']:.2f} s ({audit['unprotected_worst_market_s']:.1f} s of the market);"
        f" conditional orders at most {judge.conditional_most} of {CONDITIONAL_MOST},"
        f" orders in 10 s at most {judge.orders_most} of {ORDERS_MOST}; {len(closes)} closes by exits;"
        f" by reason {dict(Counter(each.exit_reason.value for each in closed))};"
        f" breakers {sorted({b.scope for b in breakers if b.phase is Phase.OPEN})[:4]}..."
        f" alarms {alarms[-1].alarms if alarms else []}, a decision then: {[v.reason.value for v in last]}"
    )
    assert audit["open"] == []
    assert audit["doubled_client_ids"] == []
    assert judge.conditional_most == CONDITIONAL_MOST
    assert judge.orders_most <= ORDERS_MOST
    assert state["limits"]["refused"] == 0
    tripped = {b.scope for b in breakers if b.phase is Phase.OPEN}
    assert ALL in tripped
    assert len(tripped) > len(rejected) / 2
    assert [(v.outcome, v.reason) for v in last] in (
        [(Outcome.REFUSED, Reason.BREAKER_OPEN)],
        [(Outcome.REFUSED, Reason.EMERGENCY_STOP)],
    )
    assert closes
    orders_wished = [wish for wish in exits if wish.action is not ExitAction.CANCEL]
    assert not [wish for wish in orders_wished if wish.event_id not in lives], "a wish that execution has not answered"
    ended = Counter((lives[wish.event_id].state, lives[wish.event_id].error_code) for wish in closes)
    taken = {(state, None) for state in (OrderState.ACKED, OrderState.FILLED, OrderState.EXPIRED)}
    assert set(ended) <= taken | {(OrderState.REFUSED, FLAT_ALREADY)}, ended
