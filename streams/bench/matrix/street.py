"""The street of a matrix run: broker, exchange, two execution workers, account and positions; what the log and the exchange say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, Producer, TopicPartition

from infra import children, logs
from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.ports import free_port, free_ports
from infra.probe import ask, told_metrics
from infra.venue import by_hand
from infra.venue.binance.filters import instrument_of
from schemas import hot, topics
from schemas.events import Event
from schemas.operations import PolicyVersion
from schemas.policy import Execution, Policy
from schemas.units import OrderSide
from streams.bench.matrix.exchange import symbols
from streams.envelope import seal
from streams.lag import lags
from streams.worker import state_topics

WORKERS = (("execution", 0), ("execution", 1), ("account", 0), ("positions", 0))
READY_S = 180.0
READ: tuple[str, ...] = (topics.TRADE_ORDERS.name, topics.TRADE_FILLS.name, topics.TRADE_POSITIONS.name)


class Waits:
    """All waits of the order path, in proportion. `scale` 1: the true ones."""

    def __init__(self, scale: float) -> None:
        self.session_s = 6.0 * scale
        self.window_ms = int(5000 * scale)
        self.timeout_s = 8.0 * scale
        self.resolve_s = 1.0 * scale
        self.ask_s = 3.5 * scale
        self.freeze_s = 30.0 * scale

    def policy(self) -> Policy:
        execution = Execution(
            recv_window_ms=self.window_ms,
            request_timeout_s=self.timeout_s,
            resolve_after_s=self.resolve_s,
            ask_every_s=self.ask_s,
        )
        return Policy(name="matrix", execution=execution)


class Member:
    """One worker process; started again when it has ended, as the launcher does."""

    def __init__(self, name: str, index: int, env: dict[str, str], argv: list[str], log: Path) -> None:
        self.name, self.restarts = name, -1
        self.frozen = False
        self._argv = [sys.executable, "-m", *argv]
        self._probe = free_port()
        self._env = os.environ | env | {"QT_WORKER_INDEX": str(index), "QT_PROBE_PORT": str(self._probe)}
        self._log = log
        self.start()

    def start(self) -> None:
        self.restarts += 1
        with self._log.open("ab") as out:
            self.popen = children.spawn(self._argv, stdout=out, stderr=subprocess.STDOUT, env=self._env, cwd=CHECKOUT)

    def ready(self) -> bool:
        """It holds partitions, and time comes in."""
        return not ask(f"http://127.0.0.1:{self._probe}/readyz", 2.0)

    def metric(self, name: str) -> float:
        """By its probe; nan while it does not tell."""
        return next(
            (float(line.rsplit(" ", 1)[1]) for line in told_metrics(self._probe) if line.startswith(f"{name} ")), float("nan")
        )

    def tend(self) -> None:
        if not self.frozen and self.popen.poll() is not None:
            self.start()

    def kill(self) -> None:
        children.kill(self.popen)

    def freeze(self) -> None:
        os.kill(self.popen.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        os.kill(self.popen.pid, signal.SIGCONT)
        self.frozen = False


class Street:
    """`with Street(directory, waits) as street:`. `mutant`: see worker.py. `argv`: how to run a worker of that name."""

    reads = READ

    def __init__(
        self,
        directory: Path,
        waits: Waits,
        mutant: str = "",
        workers: Sequence[tuple[str, int]] = WORKERS,
        argv: Callable[[str], list[str]] | None = None,
    ) -> None:
        kafka_port, controller_port, self._port, self._control = free_ports(4)
        self.waits = waits
        self.directory = directory
        self.gates = directory / "gates"
        self.gates.mkdir(parents=True)
        self.even, self.odd = symbols()
        self._market: list[str] = []
        self.kafka = EmbeddedKafka(directory / "kafka", kafka_port, controller_port)
        self._env = {
            "QT_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "QT_EXCHANGE_PORT": str(self._port),
            "QT_EXCHANGE_CONTROL_PORT": str(self._control),
            "QT_RUN_DIR": str(directory / "run"),
            "QT_SYMBOLS": ",".join(sorted(self.even + self.odd)),
            "QT_WEIGHT_LIMIT": "1000000",  # its exchange enforces none
            "QT_SESSION_TIMEOUT_S": str(waits.session_s),
        }
        self._workers = workers
        self._argv = argv or (lambda name: held(name, self.gates, mutant))
        self.members: list[Member] = []
        self.log: dict[str, dict[str, list[dict[str, Any]]]] = {name: defaultdict(list) for name in self.reads}
        self.records: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._exchange: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._now = 1

    # -- life

    def __enter__(self) -> Self:
        began = False
        try:
            self._start()
            began = True
        finally:
            if not began:
                self.__exit__()
        return self

    def _start(self) -> None:
        self.kafka.start()
        argv = [sys.executable, "-m", "streams.bench.matrix.exchange", str(self._port), str(self._control)]
        with (self.directory / "exchange.log").open("ab") as out:
            self._exchange = children.spawn(
                [*argv, str(self.directory / "exchange"), *self._market], stdout=out, stderr=subprocess.STDOUT, cwd=CHECKOUT
            )
        self.kafka.wait_ready(READY_S)
        ensure_topics(self.kafka.bootstrap, self.specs())
        self._producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "acks": "all", "logger": logs.librdkafka})
        if "control" not in [name for name, _ in self._workers]:  # who alone writes the versions, and numbers them by its own state
            policy = self.policy()
            about: dict[str, Any] = {"changed": [], "reason": "matrix", "actor": "matrix"}
            self.write(PolicyVersion(event_id="matrix", at=1, version=1, digest=policy.digest, policy=policy, **about))
        self.until(lambda: self.control("GET", "state") is not None, 60)
        for name, index in self._workers:
            self.members.append(self._bear(name, index))
        threading.Thread(target=self._tail, daemon=True).start()
        threading.Thread(target=self._tick, daemon=True).start()
        self.all_ready()

    def specs(self) -> list[TopicSpec]:
        return [TopicSpec(t.name, t.partitions, t.config) for t in topics.ALL] + state_topics()

    def policy(self) -> Policy:
        """The first one."""
        return self.waits.policy()

    def _bear(self, name: str, index: int) -> Member:
        return Member(name, index, self._env, self._argv(name), self.directory / f"{name}-{index}.log")

    def all_ready(self) -> None:
        """Every worker that shall run holds its partitions."""
        if not self.until(lambda: all(member.ready() for member in self.members), READY_S):
            raise UserError(
                "the bench cannot go on", f"a worker is not ready after {READY_S:.0f} s", "look whether this machine is busy"
            )

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for member in self.members:
            member.kill()
        if self._exchange is not None:
            children.kill(self._exchange)
        self.kafka.stop()

    def member(self, name: str, index: int = 0) -> Member:
        return [member for member in self.members if member.name == name][index]

    def until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Waits, and starts again what has ended. False: not so in time."""
        deadline = time.monotonic() + timeout_s
        while not true():
            for member in self.members:
                member.tend()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    # -- the log

    def write(self, *events: Event | hot.Marks) -> None:
        for event in events:
            topic, key, value, partition, headers = seal(event, "matrix")
            self._producer.produce(topic, value, key, partition=partition, headers=[*headers])
        self._producer.flush(20)

    def _tick(self) -> None:
        """Venue time, once a second."""
        while not self._over.wait(1.0):
            self._now += 1000
            for p in range(12):
                self.write(hot.Marks(f"marks-{self._now}-{p}", "market.marks", self._now, p, [], "synthetic"))

    def _tail(self) -> None:
        consumer = Consumer(
            {"bootstrap.servers": self.kafka.bootstrap, "group.id": "matrix", "fetch.wait.max.ms": 50, "logger": logs.librdkafka}
        )
        consumer.assign([TopicPartition(name, p, 0) for name in self.reads for p in range(topics.BY_NAME[name].partitions)])
        while not self._over.is_set():
            message = consumer.poll(0.1)
            if message is None or message.error() is not None or (value := message.value()) is None:
                continue
            event = json.loads(value)
            self.log[str(message.topic())][event.get("instrument", event.get("scope", ""))].append(event)
        consumer.close()

    def intents_are_read(self) -> bool:
        left = lags(self.kafka.bootstrap, ["execution"])["execution"]
        return not left[topics.TRADE_ENTRIES.name] and not left[topics.TRADE_EXITS.name]

    # -- the exchange

    def control(self, method: str, what: str, **body: Any) -> Any:
        """None while the exchange is away."""
        try:
            return by_hand.tell(f"http://127.0.0.1:{self._control}", what, method=method, **body)
        except OSError:
            return None

    def read_exchange(self) -> None:
        """Its own log, as far as it is."""
        new = self.control("GET", f"log?after={self._read}")["records"]
        self._read += len(new)
        self.records += new

    def hand(self, symbol: str, side: OrderSide, quantity: Decimal) -> None:
        self.control("POST", "trade", symbol=symbol, side=side.value, quantity=f"{quantity:f}", reduceOnly=True)

    # -- gates

    def gate(self, symbol: str, point: str) -> None:
        (self.gates / symbol).write_text(point)

    def reached(self, symbol: str) -> bool:
        return (self.gates / f"{symbol}.reached").exists()

    def open_gates(self) -> None:
        for path in self.gates.iterdir():
            path.unlink()


def held(name: str, gates: Path, mutant: str) -> list[str]:
    """A worker with gates; only execution is broken on purpose."""
    return ["streams.bench.matrix.worker", name, str(gates), *([mutant] if mutant and name == "execution" else [])]


class Seen:
    """One instrument, from one moment on: what the exchange has, and what our log says."""

    def __init__(self, street: Street, symbol: str, after: int) -> None:
        self.symbol, self.instrument = symbol, instrument_of(symbol)
        self._street = street
        self.orders: dict[int, dict[str, Any]] = {}
        self.algos: dict[int, dict[str, Any]] = {}
        for record in street.records[after:]:
            if record["k"] == "order" and record["order"]["symbol"] == symbol:
                self.orders[record["order"]["id"]] = record["order"]
            elif record["k"] == "algo" and record["algo"]["symbol"] == symbol:
                self.algos[record["algo"]["id"]] = record["algo"]
        fills = [r for r in street.records if r["k"] == "fill" and r["symbol"] == symbol]
        self.net = sum((Decimal(r["qty"]) * (1 if r["side"] == "BUY" else -1) for r in fills), Decimal(0))

    @property
    def protected(self) -> bool:
        return self.net == 0 or any(
            algo["status"] == "NEW" and algo["close_position"] and algo["side"] == ("SELL" if self.net > 0 else "BUY")
            for algo in self.algos.values()
        )

    def exist(self, client_ids: list[str]) -> int:
        """Orders under these ids that live or were filled, children of conditional ones apart."""
        orders = [o for o in self.orders.values() if o["client_id"] in client_ids and not o["algo_id"]]
        algos = [a for a in self.algos.values() if a["client_id"] in client_ids]
        living = [o for o in orders if o["filled"] > 0 or o["status"] in ("NEW", "PARTIALLY_FILLED")]
        return len(living) + len([a for a in algos if a["status"] in ("NEW", "TRIGGERING", "TRIGGERED", "FINISHED")])

    def unannounced(self, client_ids: list[str]) -> list[str]:
        """Orders on the exchange without a SENDING in our log: whoever comes next would not know that they may exist."""
        there = [order["client_id"] for order in (*self.orders.values(), *self.algos.values()) if order["client_id"] in client_ids]
        log = self._street.log[topics.TRADE_ORDERS.name][self.instrument]
        told = [event["client_id"] for event in log if event["state"] == "SENDING"]
        return sorted(set(there) - set(told))

    def refusals(self, client_ids: list[str]) -> set[int]:
        """Codes with which the exchange refused orders of these ids for good."""
        log = self._street.log[topics.TRADE_ORDERS.name][self.instrument]
        return {e["error_code"] for e in log if e["client_id"] in client_ids and e["state"] == "REFUSED" and e.get("error_code")}

    @property
    def filled(self) -> Decimal:
        """Sum of trade.fills, each record counted."""
        events = self._street.log[topics.TRADE_FILLS.name][self.instrument]
        return sum((Decimal(e["quantity"]) * (1 if e["side"] == "BUY" else -1) for e in events), Decimal(0))

    @property
    def position(self) -> Decimal:
        events = self._street.log[topics.TRADE_POSITIONS.name][self.instrument]
        if not events:
            return Decimal(0)
        return Decimal(events[-1]["quantity"]) * (1 if events[-1]["side"] == "LONG" else -1)

    def last_states(self, attempts: dict[str, list[str]]) -> dict[str, str]:
        """Of each intent: how far its newest attempt is, by our own log."""
        found: dict[str, str] = {}
        for event in self._street.log[topics.TRADE_ORDERS.name][self.instrument]:
            for first, names in attempts.items():
                if event["client_id"] in names:
                    found[first] = _further(found.get(first, ""), event["state"], event["attempt"])
        return {first: state.split(" ")[-1] for first, state in found.items()}


_FAR = {"PLANNED": 0, "SENDING": 1, "UNKNOWN": 2, "ACKED": 3}


def _further(before: str, state: str, attempt: int) -> str:
    """A late word on an earlier step or attempt says nothing new."""
    if not before:
        return f"{attempt} {state}"
    old_attempt, old = before.split(" ")
    further = (attempt, _FAR.get(state, 9)) > (int(old_attempt), _FAR.get(old, 9))
    return f"{attempt} {state}" if further else before
