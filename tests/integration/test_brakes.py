"""Stop and resume on a real broker: control, risk and execution as they run, the command line's own functions, a kill -9 of all."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import VenuePosition
from schemas import hot, topics
from schemas.events import Event
from schemas.ids import PARTITIONS, Purpose, client_id
from schemas.operations import CommandKind
from schemas.trading import OrderState
from streams.brake_commands import reset, resume, status, stop
from streams.envelope import seal

pytestmark = pytest.mark.broker
Eventually = Callable[[Callable[[], bool], float], None]
TOKEN = "canary-token-5d1e70a94c"
NOW = 1_722_470_400_000


def golden(name: str, **changes: Any) -> Event:
    told = json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    (kind,) = topics.BY_TYPE[name].events
    return kind.model_validate_json(json.dumps(told | changes))


class Hand:
    """Writes to the log what other workers would, and looks at the exchange."""

    def __init__(self, street: Any) -> None:
        self.street = street
        self._producer = Producer({"bootstrap.servers": street.settings.bootstrap, "acks": "all"})

    def write(self, event: Event | hot.Marks) -> None:
        record = seal(event, "a test")
        self._producer.produce(record.topic, record.value, record.key, record.partition, headers=record.headers)
        assert self._producer.flush(20) == 0

    def enter(self, n: int) -> str:
        """An entry as if risk had let it pass. Its client id."""
        name = client_id(Purpose.ENTRY, n)
        ids = {"event_id": f"entry-{n}", "client_id": name, "stop_client_id": client_id(Purpose.STOP, n)}
        self.write(golden("trade.entry", **ids, quantity="0.010", not_after=4_000_000_000_000))
        return name

    def mark(self) -> None:
        """Time goes on: entries wait for a word of it that is newer than execution."""
        for p in range(PARTITIONS):
            self.write(hot.Marks(f"m-{time.time()}-{p}", "market.marks", NOW, p, [], "synthetic"))

    def close(self, quantity: str) -> None:
        name = client_id(Purpose.CLOSE, "by hand")
        wish = {"action": "CLOSE", "reason": "MANUAL", "client_id": name, "quantity": quantity, "close_position": False}
        self.write(golden("trade.exit", **wish, side="LONG", event_id="exit-1", trigger_price=None, price=None, book="ORDER"))

    def said(self, name: str) -> list[tuple[OrderState, str]]:
        return [(o.state, o.reason) for _, o in self.street.records(topics.TRADE_ORDERS) if o.client_id == name]

    def positions(self) -> list[VenuePosition]:
        async def ask() -> list[VenuePosition]:
            async with BinanceUsdm(self.street.direct) as venue:
                return await venue.positions()

        return asyncio.run(ask())


@pytest.mark.timeout(240)
def test_a_stop_outlives_everything_holds_entries_lets_exits_pass_and_ends_by_the_token_alone(
    street: Any, eventually: Eventually
) -> None:
    common = {"kafka_bootstrap": street.settings.bootstrap, "run_dir": street.directory / "run"}
    person, boss = Settings(**common), Settings(**common, admin_token=TOKEN)
    mallory = Settings(**common, admin_token="another-token-of-some-length")
    workers = {name: {"QT_ADMIN_TOKEN": TOKEN} if name == "control" else {} for name in ("control", "risk", "execution")}
    running = [street.worker(name, **env) for name, env in workers.items()]
    running[0].wait_ready()
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")

    told = stop(person, "a test")
    assert told["log"] is True
    eventually(lambda: bool(status(person)["by_log"]), 30)
    boss.stop_file.unlink()  # the log alone holds from here on
    for worker in running:
        worker.end(signal.SIGKILL)
    running = [street.worker(name, **env) for name, env in workers.items()]

    hand = Hand(street)
    held = hand.enter(1)
    eventually(lambda: any(state is OrderState.ABANDONED for state, _ in hand.said(held)), 60)
    assert hand.said(held)[-1][1].startswith("EMERGENCY_STOP: MANUAL")
    hand.close("0.01")
    eventually(lambda: not hand.positions(), 30)

    for who, word in ((person, "set QT_ADMIN_TOKEN"), (mallory, "not of the administrator's token")):
        refused = resume(who, "let me")
        assert not refused["accepted"]
        assert word in refused["detail"]
    assert not reset(person, "BTCUSDT", "let me", override=True)["accepted"]
    assert status(person)["stopped"]
    stop(person, "once more")
    back = resume(boss, "it was a test")
    assert (back["accepted"], back["stopped"], boss.stop_file.exists()) == (True, False, False)
    passed = hand.enter(2)
    hand.mark()
    eventually(lambda: bool(hand.positions()), 30)
    assert OrderState.ABANDONED not in [state for state, _ in hand.said(passed)]
    audits = [(a.kind, a.accepted) for _, a in street.records(topics.CONTROL_AUDIT)]
    wanted = [(CommandKind.STOP, True), *[(CommandKind.RESUME, False)] * 2, (CommandKind.BREAKER_OVERRIDE, False)]
    assert audits == [*wanted, (CommandKind.STOP, True), (CommandKind.RESUME, True)]

    street.kafka.kill()
    told = stop(person, "the broker is gone")
    assert told["file_error"] is None
    assert told["log_error"]
    assert "the broker is gone" in person.stop_file.read_text()
    for log in street.directory.glob("*.log"):
        assert TOKEN not in log.read_text(), log
