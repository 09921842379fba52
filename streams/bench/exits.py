"""`quantum bench exits`: the join of exits in one worker, on a real broker, with its state store: marks of 1,000 open positions.

A mark is one instrument's entry in a marks record. Every position has its plan (profile DEFAULT, which trails from the start), its
net and its take-profit; another process's part, the exchange's answers, is played by a thread here: whatever exits orders is
acknowledged on trade.orders, and whatever it cancels has ended. Prices rise so that a stop moves at one mark in 130, each
instrument's in its own round, each counted by the plan's own throttle in `at`.

    marks_per_s     a backlog of records, from the first that is applied to the last, states and outputs acknowledged
    p50_ms, p99_ms  of every mark: from the record's publishing to the read of the decision on it, at the exchange's pace, a mark of
                    every instrument each second, partition after partition as the gateway writes them
    fast_p50_ms, fast_p99_ms
                    the same at ten times that pace
    stops_moved     trailing moves that were ordered in all parts, and as a share of all marks
    extremes_kept   after a kill -9 in the middle of a second backlog: each plan's best mark is the highest that was ever written
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import children, logs
from infra.errors import UserError
from infra.ports import free_port
from infra.probe import told_metrics
from processors import exits
from schemas import hot, ids, topics
from schemas.events import Event
from schemas.ids import Purpose
from schemas.operations import PolicyVersion
from schemas.policy import Exits, Policy, Profile
from schemas.trading import Exit, ExitAction, ExitReason, Order, OrderState, OrderType, Position, PositionStatus
from schemas.units import OrderSide, Side, Source
from streams.bench.join import NAMES
from streams.bench.own import own_broker
from streams.bench.reading import read_all
from streams.envelope import decode, encode
from streams.shares import POSITION, Ledger
from streams.store import state_topic, state_topic_spec

START = 1_722_470_400_000
PRICE = 60_000.0
RISE = 1.25e-5
APART = 128
"""Of the price from round to round: a tenth of R, the least that moves a stop, in about so many. 0.8 % of marks move one."""
QUANTITY = Decimal("0.014")
BACKLOG = 150
PACES = {"": (1.0, 30), "fast_": (10.0, 100)}
"""Rounds of all marks a second, and how many of them."""
LIMIT_S = 180.0
ON_ORDERS = ("HOLD", "CANCEL_STOP")
"""Single decisions of these words answer an order's acknowledgement, not a mark: the old stop goes when the new one rests."""

_state = msgspec.json.Decoder(exits.State).decode


def run(backlog: int = BACKLOG) -> dict[str, Any]:
    """Starts a broker and the worker, stops both. `backlog`: rounds of all marks. Raises UserError when it takes too long."""
    began = time.monotonic()
    with own_broker([state_topic_spec("exits")]) as broker, tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        street = Street(broker.bootstrap, Path(folder))
        try:
            found = street.play(backlog)
        finally:
            street.stop()
    load = round(os.getloadavg()[0], 1)
    return found | {"plans": len(NAMES), "load_average": load, "seconds": round(time.monotonic() - began, 1)}


class Street:
    """The worker, what feeds it, and who answers it."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self._bootstrap, self._folder = bootstrap, folder
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "logger": logs.librdkafka})
        self._round = 0
        self._published: dict[tuple[int, int], float] = {}
        self._placed: Counter[str] = Counter()
        self._intents: dict[str, Exit] = {}
        self._moves = 0
        self._decided: list[tuple[tuple[int, int], float, int]] = []
        self._measured: tuple[int, int] | None = None
        self._over = threading.Event()
        self._port = 0
        self._cpu_us = 0.0
        self._worker: subprocess.Popen[bytes] | None = None
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._answer, self._listen)]

    def play(self, backlog: int) -> dict[str, Any]:
        policy = Policy(name="bench", exits=Exits(profile=Profile.DEFAULT))
        self._put(
            PolicyVersion(
                event_id="policy",
                at=START,
                version=1,
                digest=policy.digest,
                changed=[],
                reason="bench",
                actor="bench",
                policy=policy,
            )
        )
        for thread in self._threads:
            thread.start()
        self._start()
        for name in NAMES:
            for event in _opened(name):
                self._put(event)
        self._producer.flush()
        self._until("every position has its take-profit", lambda: self._placed["PLACE_TAKE_PROFIT"] >= len(NAMES))
        self._rounds(2)
        self._settled()
        per_s = self._throughput(backlog)
        self._settled()
        delays: dict[str, float] = {}
        for name, (pace, rounds) in PACES.items():
            delays |= self._paced(name, pace, rounds)
            self._settled()
        self._rounds(backlog)
        self._until("the backlog is being read", lambda: self._applied() > 0.4 * backlog * ids.PARTITIONS)
        before = self._applied()
        self._kill()
        self._start()
        self._until("the rest is applied", self._caught_up)
        self._settled()
        marks = self._round * len(NAMES)
        self.stop()
        return {
            "marks_per_s": round(per_s),
            **delays,
            "stops_moved": self._moves,
            "stops_moved_share": round(self._moves / marks, 4),
            "extremes_kept": self._extremes_kept(),
            "cpu_us_a_mark": round(self._cpu_us, 1),
            "killed_after_records": before,
            "marks": marks,
        }

    def stop(self) -> None:
        self._over.set()
        if self._worker is not None:
            children.stop(self._worker, 8.0)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5)

    # -- parts

    def _throughput(self, rounds: int) -> float:
        """Everything is in the broker before the worker goes on: it is started anew on the backlog."""
        assert self._worker is not None
        children.stop(self._worker, 8.0)
        self._rounds(rounds)
        self._start()
        total = rounds * ids.PARTITIONS
        self._until("the first record is applied", lambda: self._applied() > 0, 0.1)
        first, began, cpu = self._applied(), time.monotonic(), self._cpu_s()
        self._until("the backlog is applied", lambda: self._applied() >= total)
        marks = (total - first) / total * rounds * len(NAMES)
        self._cpu_us = (self._cpu_s() - cpu) / marks * 1e6
        return marks / (time.monotonic() - began)

    def _cpu_s(self) -> float:
        """Processor time of the worker so far, to 10 ms."""
        assert self._worker is not None
        fields = Path(f"/proc/{self._worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _paced(self, name: str, pace: float, rounds: int) -> dict[str, float]:
        self._decided = []
        self._measured = (self._round, self._round + rounds)
        next_at = time.monotonic()
        for _ in range(rounds):
            for event in _marks(self._round):  # one partition after the other, as the gateway writes them
                self._put(event)
                next_at += 1 / pace / ids.PARTITIONS
                while (wait := next_at - time.monotonic()) > 0:
                    self._producer.poll(wait)
            self._round += 1
        self._producer.flush()
        self._until("every mark is decided", lambda: sum(n for _, _, n in self._decided) >= rounds * len(NAMES))
        self._measured = None
        delays = sorted(now - self._published[place] for place, now, n in self._decided for _ in range(n))
        return {
            f"{name}p50_ms": round(delays[len(delays) // 2], 2),
            f"{name}p99_ms": round(delays[int(len(delays) * 0.99)], 2),
            f"{name}n": len(delays),
        }

    def _rounds(self, n: int) -> None:
        for _ in range(n):
            for event in _marks(self._round):
                self._put(event)
            self._round += 1
        self._producer.flush()

    def _settled(self) -> None:
        """Whatever was ordered has been answered, and nothing more comes."""
        still, seen = time.monotonic(), -1
        while time.monotonic() - still < 1.0:
            now = sum(self._placed.values())
            if now != seen:
                still, seen = time.monotonic(), now
            time.sleep(0.05)

    def _extremes_kept(self) -> bool:
        ledgers: dict[int, Ledger] = {}
        for record in read_all(self._bootstrap, state_topic("exits")):
            ledgers.setdefault(record.partition, Ledger()).add(record.key or b"", record.value, record.headers, record.offset)
        states = {
            key: _state(bytes(stored.state))
            for ledger in ledgers.values()
            for key, stored in ledger.keys()
            if key.encode() != POSITION and bytes(stored.state) != b"null"
        }
        best = {name: Decimal(repr(max(_high(name, n) for n in range(self._round)))) for name in NAMES}
        plans = {name: states[name].plan for name in NAMES if name in states}
        return len(plans) == len(NAMES) and all(plan is not None and plan.best == best[name] for name, plan in plans.items())

    # -- the worker

    def _start(self) -> None:
        self._port = free_port()
        env = os.environ | {
            "QT_KAFKA_BOOTSTRAP": self._bootstrap,
            "QT_PROBE_PORT": str(self._port),
            "QT_RUN_DIR": str(self._folder),
            "QT_ACCOUNT": "sim",
        }
        with (self._folder / "worker.jsonl").open("ab") as out:
            argv = [sys.executable, "-P", "-m", "streams.bench.join"]
            self._worker = children.spawn(argv, stdout=out, stderr=subprocess.STDOUT, env=env)

    def _kill(self) -> None:
        assert self._worker is not None
        children.kill(self._worker)

    def _applied(self) -> int:
        """Marks records that this life of the worker has applied."""
        found = [line for line in told_metrics(self._port) if line.startswith("qt_processed_total") and "market.marks" in line]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))

    def _caught_up(self) -> bool:
        lag = [line for line in told_metrics(self._port) if line.startswith("qt_lag") and "market.marks" in line]
        return bool(lag) and self._applied() > 0 and all(float(line.rsplit(" ", 1)[1]) == 0 for line in lag)

    def _until(self, what: str, done: Any, pause_s: float = 0.25) -> None:
        """Metrics cost the worker milliseconds each time they are told."""
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert self._worker is not None
            if time.monotonic() > deadline or self._worker.poll() is not None:
                log = (self._folder / "worker.jsonl").read_text()[-2000:]
                raise UserError(f"not reached: {what}", f"not within {LIMIT_S:.0f} s, or the worker has ended", log)
            time.sleep(pause_s)

    # -- threads

    def _put(self, event: Any) -> None:
        topic, key, partition = topics.route(event)
        told = None
        if isinstance(event, hot.Marks):
            now = time.time() * 1000

            def told(error: Any, message: Any) -> None:
                self._published[message.partition(), message.offset()] = now

        while True:
            try:
                self._producer.produce(topic.name, encode(event), key, partition=partition, on_delivery=told)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.05)

    def _consume(self, topic: topics.Topic) -> Iterator[Any]:
        consumer = Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        )
        consumer.assign([TopicPartition(topic.name, p, 0) for p in range(topic.partitions)])
        while not self._over.is_set():
            message = consumer.poll(0.02)  # consume(n) would wait for n
            if message is not None and message.error() is None and message.value() is not None:
                yield decode(topic.name, cast(bytes, message.value()))
        consumer.close()

    def _answer(self) -> None:
        """As execution tells of an exchange that takes everything."""
        producer = Producer({"bootstrap.servers": self._bootstrap, "linger.ms": 1, "logger": logs.librdkafka})
        for wish in self._consume(topics.TRADE_EXITS):
            self._placed[wish.action.value] += 1
            if wish.action is ExitAction.CANCEL:
                wanted, state = self._intents.pop(wish.client_id, None), OrderState.CANCELED
            else:
                wanted, state = wish, OrderState.ACKED
                self._intents[wish.client_id] = wish
                self._moves += wish.reason is ExitReason.TRAILING
            if wanted is not None:
                event = _order(wanted, state)
                topic, key, partition = topics.route(event)
                producer.produce(topic.name, encode(event), key, partition=partition)
                producer.poll(0)
        producer.flush(5)

    def _listen(self) -> None:
        """Decisions as any reader gets them."""
        for event in self._consume(topics.TRADE_EXIT_DECISIONS):
            span, now = self._measured, time.time() * 1000
            if span is None:
                continue
            holds = isinstance(event, hot.ExitHolds)
            place = (event.partition, event.marks_offset) if holds else (event.marks_partition, event.marks_offset)
            round_ = (event.at - START) // 1000
            if span[0] <= round_ < span[1] and (holds or event.decision not in ON_ORDERS):
                self._decided.append((place, now, len(event.instruments) if holds else 1))


# -- what is written


def _price(name: str, n: int) -> float:
    """Instruments are as many rounds apart as pass between two moves, the first far enough below the entry that none moves at
    once: else hundreds of stops would move together for ever after."""
    return round(PRICE * (1 + RISE * (n + _AHEAD[name])), 1)


def _high(name: str, n: int) -> float:
    return round(_price(name, n) + 3.0, 1)


def _marks(n: int) -> Iterator[hot.Marks]:
    """Round `n`: one record a partition, all its instruments, a second of the market after the one before."""
    for partition, names in _HOMES.items():
        prices = {name: _price(name, n) for name in names}
        rows = [hot.Mark(name, at, _high(name, n), at - 2.0, at, at, 0.0, 0) for name, at in prices.items()]
        yield hot.Marks(f"m{partition}-{n}", "market.marks", START + n * 1000, partition, rows, "synthetic")


_AHEAD = {name: place % APART - APART // 2 for place, name in enumerate(NAMES)}
_HOMES = {p: [name for name in NAMES if ids.partition_of(name) == p] for p in range(ids.PARTITIONS)}


def _opened(name: str) -> Iterator[Event]:
    """A filled entry, its resting net, and the position."""
    entry, net = ids.client_id(Purpose.ENTRY, name), ids.client_id(Purpose.STOP, name)
    common: dict[str, Any] = {"at": START, "instrument": name, "account": "sim"}
    order: dict[str, Any] = common | {"intent_id": f"entry-{name}", "attempt": 1, "quantity": QUANTITY, "price": None}
    yield Order(
        **order,
        event_id=f"e-{name}",
        client_id=entry,
        purpose=Purpose.ENTRY,
        side=OrderSide.BUY,
        order_type=OrderType.MARKET,
        state=OrderState.FILLED,
        trigger_price=None,
        close_position=False,
        reduce_only=False,
        filled_quantity=QUANTITY,
    )
    yield Order(
        **order,
        event_id=f"n-{name}",
        client_id=net,
        purpose=Purpose.STOP,
        side=OrderSide.SELL,
        order_type=OrderType.STOP_MARKET,
        state=OrderState.ACKED,
        trigger_price=Decimal("59000.0"),
        close_position=True,
        reduce_only=True,
    )
    yield Position(
        **common,
        event_id=f"p-{name}",
        position_id=f"position-{name}",
        revision=1,
        status=PositionStatus.OPEN,
        side=Side.LONG,
        quantity=QUANTITY,
        entry_price=Decimal(60_000),
        opened_at=START,
        realized_pnl=Decimal(0),
        fees=Decimal(0),
        last_trade_id=1,
        last_fill_id=f"f-{name}",
        entry_client_id=entry,
        last_client_id=entry,
        source=Source.SYNTHETIC,
    )


def _order(wish: Exit, state: OrderState) -> Order:
    stop = wish.action is ExitAction.PLACE_STOP
    return Order(
        event_id=ids.event_id("trade.order", wish.client_id, state),
        at=wish.at,
        instrument=wish.instrument,
        account=wish.account,
        intent_id=wish.event_id,
        client_id=wish.client_id,
        purpose=ids.purpose_of(wish.client_id),
        side=wish.side.closes_with,
        order_type=OrderType.STOP_MARKET if stop else OrderType.LIMIT,
        state=state,
        attempt=1,
        quantity=wish.quantity,
        price=wish.price,
        trigger_price=wish.trigger_price,
        close_position=wish.close_position,
        reduce_only=True,
        book="ALGO" if stop else "ORDER",
    )
