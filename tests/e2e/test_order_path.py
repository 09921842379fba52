"""Orders exist exactly once: every boundary of the order path crossed with every fault, workers killed and frozen at it.

The real execution (two), account and positions workers, real broker, real exchange over sockets. At the end of each case: at most
one live or filled order per intent, position = sum of fills = exchange, no position without a stop. docs/order-path.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.paths import CHECKOUT
from schemas import topics
from schemas.ids import Purpose, client_id
from schemas.trading import Exit, ExitAction, OrderType
from streams.bench.matrix.cases import BOUNDARIES, FAULTS, Case, can_meet, matrix
from streams.bench.matrix.exchange import EVERY_MS, START_T
from streams.bench.matrix.run import QUANTITY, SCALED, Play, play, run, sample
from streams.bench.matrix.street import Seen, Street, Waits

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_a_dozen_at_true_times(say: Callable[[str], None]) -> None:
    found = run(sample(12, seed=4), scale=1.0)
    say(told(found))
    assert found["failed"] == {}


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_all_at_true_times() -> None:
    assert run(scale=1.0)["failed"] == {}


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        ("no-outbox", Case("entry.answered", "none", "kill")),
        ("no-deduplication", Case("entry.said", "intent-twice", "kill")),
        ("no-query", Case("entry.answered", "accept-then-drop", "kill")),
    ],
)
@pytest.mark.timeout(300)
def test_without_its_safeguard_a_case_fails(mutant: str, case: Case, tmp_path: Path, say: Callable[[str], None]) -> None:
    """The test of the test: the outbox write, the deduplication, the query, each taken away, on a few instruments at once."""
    with Street(tmp_path / "run", Waits(SCALED), mutant) as street:
        if mutant == "no-query":  # what the account hears of an order in time would do for the query
            street.control("POST", "faults", route="*", kind="event-drop", for_s=30)
            street.control("POST", "faults", route="GET userTrades", kind="refuse-503", for_s=30)
        found = play(street, [case] * 6)
    say(f"{case.name}: {found['failed']}")
    why = found["failed"][case.name]
    assert "orders exist for one entry" in why or (mutant == "no-outbox" and "without its line in the outbox" in why)


def test_the_docs_list_every_boundary_and_every_fault() -> None:
    page = (CHECKOUT / "docs" / "order-path.md").read_text()
    for name in [*BOUNDARIES, *FAULTS]:
        assert f"| `{name}` |" in page, name
    assert f"{len(matrix())} cases" in page


NOTHING = Case("entry.planned", "none", "kill")


def told(found: dict[str, Any]) -> str:
    count = f"{found['passed']} of {found['of']} boundaries x faults, {found['late']} late"
    return f"{count} ({found['seconds']:.0f} s, waits x {found['scale']})"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with Street(tmp_path_factory.mktemp("street") / "run", Waits(SCALED)) as found:
        yield found


@pytest.mark.timeout(1500)
def test_every_boundary_crossed_with_every_fault_that_can_meet_it(street: Street, say: Callable[[str], None]) -> None:
    """All waits a third of the true ones, in their proportion."""
    found = play(street)
    say(told(found))
    assert found["failed"] == {}
    assert found["of"] == sum(can_meet(b, f) for b in BOUNDARIES for f in FAULTS) * 2


@pytest.mark.timeout(300)
def test_a_call_that_hangs_stops_no_stop_of_another_instrument(street: Street, say: Callable[[str], None]) -> None:
    """19 stops are taken within a second; the best of three times, so that one busy moment of the machine says nothing."""
    plays = [Play(NOTHING, symbol, 1000) for symbol in (street.even + street.odd)[:22]]
    hanging, others = plays[:3], plays[3:]
    street.write(*(play.entry() for play in others))
    assert street.until(lambda: all(at_rest(street, play) for play in others), 60)
    took = []
    for hung, trigger in zip(hanging, ("97.80", "97.90", "98.00"), strict=True):
        street.control("POST", "faults", route="POST order", kind="accept-then-hang", only=hung.symbol)
        street.write(hung.entry())
        assert street.until(lambda hung=hung: held(street, hung) == QUANTITY, 20)
        stops = [tighter_stop(play, trigger) for play in others]
        began = time.monotonic()
        street.write(*stops)
        assert street.until(lambda stops=stops: acked(street, stops) == 19, 30)
        took.append(time.monotonic() - began)
    say("19 stops beside a call that hangs: " + ", ".join(f"{t:.2f} s" for t in took))
    assert min(took) < 1.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("late", [False, True], ids=["cancelled in time", "filled after the trigger"])
def test_a_stop_that_triggers_while_its_entry_fills_leaves_nothing_naked(street: Street, late: bool) -> None:
    play = Play(NOTHING, street.even[30 + late], 2000)
    entry = play.entry().model_copy(update={"order_type": OrderType.LIMIT, "limit_price": Decimal("100.01")})
    street.control("POST", "liquidity", symbol=play.symbol, most="0.04")
    if late:
        street.control("POST", "faults", route="DELETE order", kind="late", delay_s=2 * EVERY_MS / 1000, only=play.symbol)

    def between_trade_and_mark() -> bool:
        return 100 < (street.control("GET", "state")["market_t"] - START_T) % EVERY_MS < EVERY_MS // 3

    assert street.until(between_trade_and_mark, 20)
    street.control("POST", "pause")
    street.write(entry)
    assert street.until(lambda: held(street, play) == Decimal("0.04") and Seen(street, play.symbol, 0).protected, 20)
    street.control("POST", "liquidity", symbol=play.symbol)
    street.control("POST", "price-shock", symbol=play.symbol, pct=-3)
    street.control("POST", "resume")
    assert street.until(lambda: at_rest(street, play) and held(street, play) == 0, 40), play.wrong(Seen(street, play.symbol, 0))
    street.control("DELETE", "faults")
    bought = [r for r in street.records if r["k"] == "fill" and r["client_id"] == play.ids["entry"]]
    assert sum(Decimal(r["qty"]) for r in bought) == (QUANTITY if late else Decimal("0.04"))


def held(street: Street, play: Play) -> Decimal:
    street.read_exchange()
    return Seen(street, play.symbol, 0).net


def at_rest(street: Street, play: Play) -> bool:
    """Protected or flat, nothing of it in an ordinary book, and everybody agrees."""
    street.read_exchange()
    seen = Seen(street, play.symbol, 0)
    resting = [order for order in seen.orders.values() if order["status"] in ("NEW", "PARTIALLY_FILLED")]
    touched = bool(street.log[topics.TRADE_FILLS.name][play.instrument])
    return touched and seen.protected and not resting and seen.net == seen.filled == seen.position


def acked(street: Street, stops: list[Exit]) -> int:
    log = street.log[topics.TRADE_ORDERS.name]
    return sum(any(e["client_id"] == stop.client_id and e["state"] == "ACKED" for e in log[stop.instrument]) for stop in stops)


def tighter_stop(play: Play, trigger: str) -> Exit:
    name = client_id(Purpose.STOP, "tighter", play.key, trigger)
    change = {
        "action": ExitAction.PLACE_STOP,
        "client_id": name,
        "trigger_price": Decimal(trigger),
        "event_id": f"{name}-{play.key}",
    }
    return play.close().model_copy(update=change)
