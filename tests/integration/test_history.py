"""History on a real broker and a real ClickHouse: every record once, whoever is killed or frozen in the middle."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from confluent_kafka import Producer

from infra import children
from infra.broker.admin import TopicSpec, committed, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.clickhouse import aggregates
from infra.clickhouse.audit import history_equality
from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import connect, migrate
from infra.clickhouse.writer import Writer
from infra.errors import UserError
from infra.ports import free_ports
from infra.probe import ask
from infra.settings import Settings, load
from schemas import topics, units
from schemas.ids import PARTITIONS, partition_of
from schemas.market import Mark, Marks, Tick, TradeFrame
from schemas.topics import position_key
from schemas.trading import Closed, ExitReason, Position, PositionStatus
from schemas.units import Side
from streams import history_copies
from streams.lag import group_of
from streams.log_reader import LogReader
from streams.nursery import Child, Nursery
from streams.ranges import Batch, Range

INSTRUMENTS = [f"binance.usdm.{name}USDT" for name in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "BNB")]
SOURCE = units.Source.SYNTHETIC
NAMES = [topic.name for topic in topics.ALL]
SUMS = (
    "SELECT * FROM candles ORDER BY ALL",
    "SELECT account, day, instrument, arraySort(closed) FROM daily_pnl ORDER BY ALL",
    "SELECT * FROM latency_by_stage ORDER BY ALL",
)


@dataclass
class Street:
    """A broker, a ClickHouse and history workers; no other worker."""

    path: Path
    kafka: EmbeddedKafka
    clickhouse: EmbeddedClickHouse
    nursery: Nursery
    workers: dict[int, Child] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    watching: bool = False

    def watch(self) -> None:
        """Starts again what ends by itself, as the launcher does: a worker that finds no broker at its start just ends."""
        self.watching = True

        def tend() -> None:
            while self.watching:
                for index, worker in list(self.workers.items()):
                    if worker.poll() not in (None, -signal.SIGKILL):
                        self.start(index)
                time.sleep(0.3)

        threading.Thread(target=tend, daemon=True).start()

    def end_workers(self) -> None:
        self.watching = False
        for worker in self.workers.values():
            children.kill(worker)
        self.workers = {}

    def start(self, index: int = 0) -> None:
        if index not in self.ports:
            self.ports[index] = free_ports(1)[0]
        env = os.environ | {
            "QT_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "QT_CLICKHOUSE_URL": self.clickhouse.url,
            "QT_PROBE_PORT": str(self.ports[index]),
            "QT_RUN_DIR": str(self.path / "run"),
            "QT_WORKER_INDEX": str(index),
            "QT_HEARTBEAT_S": "0.5",
        }
        self.workers[index] = self.nursery.spawn("history", env, self.path / f"history-{index}.log")

    def problems(self, index: int = 0) -> str:
        """What /readyz says; empty when it is ready."""
        return ask(f"http://127.0.0.1:{self.ports[index]}/readyz", 2.0)

    def lag(self) -> int:
        everywhere = [(topic.name, p) for topic in topics.ALL for p in range(topic.partitions)]
        done = committed(self.kafka.bootstrap, group_of("history"), everywhere)  # first: what is written meanwhile is lag
        ends = offsets(self.kafka.bootstrap, NAMES)
        return sum(
            max(0, high - max(low, done.get((name, p), low))) for name, ends_ in ends.items() for p, (low, high) in ends_.items()
        )

    def settle(self, timeout_s: float = 60.0) -> None:
        """Heartbeats off, then until everything is committed."""
        for index, worker in self.workers.items():
            wait(lambda index=index: not self.problems(index), 40, self.last_words)  # type: ignore[misc]
            os.kill(worker.pid, signal.SIGUSR1)
        wait(lambda: self.lag() == 0, timeout_s, lambda: f"lag {self.lag()}: {self.last_words()}")

    def uneven(self) -> dict[str, dict[str, int]]:
        """Topics whose rows are not their records; empty is right."""
        ends = offsets(self.kafka.bootstrap, NAMES)
        with connect(self.clickhouse.url, "quantum") as client:
            found = history_equality(client, ends)
        return {name: seen for name, seen in found.items() if seen["holes"] or seen["doubles"] or seen["rows"] != seen["records"]}

    def everything(self, ends: dict[str, dict[int, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
        """{topic: (rows, a sum of their hashes)} of what stands before these ends."""
        found = {}
        with connect(self.clickhouse.url, "quantum") as client:
            for topic in topics.ALL:
                before = " OR ".join(f"(k_partition = {p} AND k_offset < {high})" for p, (_, high) in ends[topic.name].items())
                query = f"SELECT count(), sum(cityHash64(*)) FROM {topic.table} WHERE {before}"
                (found[topic.name],) = client.query(query).result_rows
        return found

    def sums(self) -> dict[str, list[Any]]:
        """What the aggregates say, through their views."""
        with connect(self.clickhouse.url, "quantum") as client:
            return {query: [tuple(row) for row in client.query(query).result_rows] for query in SUMS}

    def sums_of_rows(self) -> dict[str, list[Any]]:
        """What they say when they are made again from the rows."""
        with connect(self.clickhouse.url, "quantum") as client:
            for one in aggregates.declared():
                for statement in one.refill:
                    client.command(statement)
        return self.sums()

    def last_words(self) -> str:
        return "".join(path.read_text()[-2000:] for path in self.path.glob("history-*.log"))


@contextmanager
def made(path: Path, nursery: Nursery) -> Iterator[Street]:
    port, controller, http = free_ports(3)
    kafka, clickhouse = EmbeddedKafka(path / "kafka", port, controller), EmbeddedClickHouse(path / "ch", http)
    found = Street(path, kafka, clickhouse, nursery)
    try:
        found.kafka.start()
        found.clickhouse.start()
        found.clickhouse.wait_ready()
        migrate(found.clickhouse.url, "quantum")
        found.kafka.wait_ready()
        ensure_topics(found.kafka.bootstrap, [TopicSpec(t.name, t.partitions, t.config) for t in topics.ALL])
        yield found
    finally:
        found.end_workers()
        found.clickhouse.kill()
        found.kafka.kill()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Street]:
    with made(tmp_path_factory.mktemp("history"), nursery) as found:
        yield found


@pytest.fixture
def street(standing: Street) -> Iterator[Street]:
    """Broker, ClickHouse and what was written before are the same in all tests: each finds a longer log."""
    yield standing
    standing.end_workers()


@pytest.fixture
def untouched(tmp_path: Path, nursery: Nursery) -> Iterator[Street]:
    """Of this test alone."""
    with made(tmp_path, nursery) as found:
        yield found


def wait(until: Callable[[], Any], timeout_s: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


class Source:
    """Writes a made-up street until told to stop: busy topics, quiet ones, tombstones, bytes that are no event."""

    def __init__(self, bootstrap: str, seed: int = 1) -> None:
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": True, "error_cb": _ignore}
        self.producer = Producer(settings | {"message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 500})
        self.random = random.Random(seed)
        self.count = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.producer.flush(60) == 0
        assert not self.failed

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        self.count += 1
        headers: list[tuple[str, str | bytes | None]] = [("event_id", f"{self.count}".encode()), ("trace_id", b"trace")]
        caused_at = int(time.time() * 1000) - self.count % 97
        headers += [("producer", b"test"), ("caused_at", f"{caused_at}".encode())]
        self.producer.produce(topic, value, key, partition, headers=headers, on_delivery=self._delivered)

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.one_round()

    def one_round(self) -> None:
        now, pick = int(time.time() * 1000), self.random
        for instrument in pick.sample(INSTRUMENTS, 5):
            n, partition, key = pick.randint(1, 30), partition_of(instrument), instrument.encode()
            frame = TradeFrame(
                event_id=f"f{self.count}",
                at=now,
                instrument=instrument,
                first_id=self.count * 100,
                t=[now] * n,
                p=[1.5] * n,
                q=[2.0] * n,
                m=[0] * n,
                source=SOURCE,
            )
            self.send("market.trades", partition, key, frame.encode())
            if pick.random() < 0.1:
                self.send("trade.closed", partition, key, closed(instrument, now, self.count).encode())
            if pick.random() < 0.3:
                held = position(instrument, now, self.count)
                whole = position_key(held.account, instrument, held.side).encode()
                self.send("trade.positions", partition, whole, held.encode() if pick.random() < 0.7 else None)
        for partition in range(PARTITIONS):
            tick = Tick(event_id=f"t{self.count}", at=now, partition=partition, boundary=False, feed_age_ms=0)
            self.send("market.trades", partition, None, tick.encode())
        if pick.random() < 0.05:
            self.send("signal.decisions", 0, b"x", b"\xff no event")
        self.producer.poll(0)


def _ignore(_error: object) -> None: ...


def position(instrument: str, at: int, revision: int) -> Position:
    return Position(
        event_id=f"p{revision}",
        at=at,
        instrument=instrument,
        account="sim",
        position_id="pos",
        revision=revision,
        status=PositionStatus.OPEN,
        side=Side.LONG,
        quantity=Decimal("0.123456789012345"),
        entry_price=Decimal("64000.1"),
        opened_at=at,
        realized_pnl=Decimal("-1.5"),
        fees=Decimal("0.01"),
        last_trade_id=1,
        last_fill_id="f",
        entry_client_id="e-1",
        last_client_id="e-1",
        source=SOURCE,
    )


def closed(instrument: str, at: int, number: int) -> Closed:
    return Closed(
        event_id=f"c{number}",
        at=at,
        instrument=instrument,
        account="sim",
        position_id=f"pos-{number}",
        side=Side.LONG,
        quantity=Decimal(1),
        entry_price=Decimal(100),
        exit_price=Decimal(101),
        opened_at=at,
        closed_at=at,
        realized_pnl=Decimal(number % 7 - 3),
        fees=Decimal("0.01"),
        fills=2,
        exit_reason=ExitReason.STOP,
        entry_client_id="e-1",
        exit_client_id="s-1",
        source=SOURCE,
    )


@pytest.mark.broker
def test_every_record_becomes_one_row_and_what_is_no_event_a_dead_letter(street: Street) -> None:
    street.start()
    wait(lambda: not street.problems(), 30, street.last_words)
    source = Source(street.kafka.bootstrap)
    for _ in range(20):
        source.one_round()
    now = int(time.time() * 1000)
    mark = Mark(instrument=INSTRUMENTS[0], mark=1, high=2, low=1, last=1, index=1, funding_rate=0, next_funding_at=now)
    source.send(
        "market.marks",
        3,
        None,
        Marks(event_id="m", at=now, partition=3, marks=[mark, mark], source=SOURCE).encode(),
    )
    source.send("trade.fills", 5, b"k", b'{"event_id": "x"}')
    source.send("dead.letters", 0, None, b"not even a letter")
    home = partition_of(INSTRUMENTS[0])
    source.send("trade.positions", home, b"one", position(INSTRUMENTS[0], now, 7).encode())
    source.send("trade.positions", home, b"two", position(INSTRUMENTS[0], now, 8).encode())
    source.send("trade.positions", home, b"two", None)
    assert source.producer.flush(10) == 0
    street.settle()
    assert street.uneven() == {}
    with connect(street.clickhouse.url, "quantum") as client:
        (fill,) = client.query("SELECT k_error, raw, k_tombstone FROM trade_fills").result_rows
        assert (fill[0][:15], fill[1], fill[2]) == ("ValidationError", '{"event_id": "x"}', False)
        letters = client.query("SELECT topic, partition, payload FROM dead_letters WHERE k_error = ''").result_rows
        assert ("trade.fills", 5, '{"event_id": "x"}') in letters
        assert client.query("SELECT count() FROM dead_letters WHERE k_error != ''").result_rows == [(1,)]
        found = client.query("SELECT revision, toString(quantity) FROM positions_open WHERE revision IN (7, 8)").result_rows
        assert found == [(7, "0.123456789012")]
        assert client.query(
            "SELECT count(), any(k_headers['trace_id']) FROM market_marks_flat m JOIN market_marks USING (k_offset)"
        )
        assert (
            client.query("SELECT sum(length(t)) FROM market_trades").result_rows
            == client.query("SELECT count() FROM market_trades_flat").result_rows
        )
    began = time.monotonic()
    assert children.stop(street.workers[0], 8)
    assert time.monotonic() - began < 5
    assert street.workers[0].poll() == 0


@pytest.mark.broker
def test_an_idle_log_is_committed_within_two_seconds(street: Street) -> None:
    street.start()
    wait(lambda: not street.problems(), 30, street.last_words)
    street.settle()
    source = Source(street.kafka.bootstrap)
    for _ in range(3):
        source.one_round()
        assert source.producer.flush(10) == 0
        wait(lambda: street.lag() == 0, 2.5, street.last_words)


@pytest.mark.broker
def test_a_batch_that_was_announced_is_formed_again_by_each_who_owns_a_part_of_it(untouched: Street) -> None:
    """Two batches over all partitions: one that had reached ClickHouse, one that had not. Two members share the partitions."""
    street = untouched
    source = Source(street.kafka.bootstrap)
    for _ in range(10):
        source.one_round()
        for partition in range(PARTITIONS):
            source.send(
                "market.marks", partition, None, Marks(event_id="m", at=1, partition=partition, marks=[], source=SOURCE).encode()
            )
    assert source.producer.flush(10) == 0
    writer, reader = Writer(street.clickhouse.url, "quantum", topics.ALL), LogReader(street.kafka.bootstrap, "test")
    for name, inserted in (("market.trades", False), ("market.marks", True)):
        ends = offsets(street.kafka.bootstrap, [name])[name]
        batch = Batch(name, {p: Range(2, high - 3) for p, (_, high) in ends.items()})
        for p, (first, _last) in batch.ranges.items():  # what the predecessor had finished before
            writer.insert(name, reader.read(name, p, 0, first - 1, 1000)[0], f"before:{p}")
        if inserted:
            records = [record for p, found in sorted(batch.ranges.items()) for record in reader.read(name, p, *found, 1000)[0]]
            writer.insert(name, records, batch.token)
        asyncio.run(announce(street.kafka.bootstrap, batch))
    reader.close()
    for index in (0, 1):
        street.start(index)
    street.settle()
    assert street.uneven() == {}


async def announce(bootstrap: str, batch: Batch) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group_of("history"), enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(batch.topic, p) for p in batch.ranges])
    await consumer.commit(
        {TopicPartition(batch.topic, p): OffsetAndMetadata(first, batch.metadata) for p, (first, _) in batch.ranges.items()}
    )
    await consumer.stop()


@pytest.mark.broker
@pytest.mark.slow
def test_kill_9_of_history_of_clickhouse_and_of_the_broker_loses_and_doubles_nothing(street: Street) -> None:
    kill_under_load(street, ("history", "clickhouse", "history", "broker", "history", "clickhouse", "history"), seed=7)


@pytest.mark.broker
@pytest.mark.full
@pytest.mark.timeout(900)
def test_twenty_kills_of_history_and_twenty_of_clickhouse(untouched: Street) -> None:
    kill_under_load(untouched, random.Random(20).sample(("history", "clickhouse") * 20, 40), seed=20)


def kill_under_load(street: Street, victims: Sequence[str], seed: int) -> None:
    """Every record one row, and every sum what its rows add up to."""
    chance = random.Random(seed)
    street.start()
    street.watch()
    wait(lambda: not street.problems(), 30, street.last_words)
    with Source(street.kafka.bootstrap) as source:
        for victim in victims:
            time.sleep(chance.uniform(1.0, 3.0))
            match victim:
                case "history":
                    children.kill(street.workers[0])
                    street.start()
                case "clickhouse":
                    street.clickhouse.kill()
                    wait(lambda: "ClickHouse" in street.problems(), 20, street.last_words)
                    street.clickhouse.start()
                case "broker":
                    street.kafka.kill()
                    street.kafka.start()
                    street.kafka.wait_ready()
        time.sleep(1.0)
    street.settle()
    assert source.count > 1000
    assert street.uneven() == {}
    assert street.workers[0].poll() is None
    found = street.sums()
    assert all(found.values())
    assert found == street.sums_of_rows()


@pytest.mark.broker
@pytest.mark.slow
def test_a_member_that_froze_wakes_and_writes_nothing_twice(street: Street) -> None:
    for index in (0, 1):
        street.start(index)
    for index in (0, 1):
        wait(lambda index=index: not street.problems(index), 40, street.last_words)  # type: ignore[misc]
    with Source(street.kafka.bootstrap) as source:
        time.sleep(2.3)
        os.kill(street.workers[0].pid, signal.SIGSTOP)
        time.sleep(11.0)  # beyond its session: the other takes its partitions
        os.kill(street.workers[0].pid, signal.SIGCONT)
        time.sleep(3.0)
        children.kill(street.workers[1])
        time.sleep(2.0)
        street.start(1)
        time.sleep(2.0)
    street.settle()
    assert source.count > 1000
    assert street.uneven() == {}


@pytest.mark.broker
def test_a_backup_of_a_living_history_comes_back_equal_and_so_does_all_of_it_from_kafka(street: Street) -> None:
    settings = load(kafka_bootstrap=street.kafka.bootstrap, clickhouse_url=street.clickhouse.url, run_dir=street.path / "run")
    street.start()
    street.watch()
    wait(lambda: not street.problems(), 30, street.last_words)
    with Source(street.kafka.bootstrap):
        time.sleep(2.0)
        made = history_copies.backup(settings, "living")
        with pytest.raises(UserError) as taken:
            history_copies.backup(settings, "living")
        assert "already exists" in str(taken.value)
        assert "trace" not in str(taken.value)
        with pytest.raises(UserError, match="has members"):
            history_copies.restore(settings, "living", replace=True)
        time.sleep(2.0)
    street.settle()
    ends = offsets(street.kafka.bootstrap, NAMES)
    written, sums = street.everything(ends), street.sums()
    assert made["rows"] > 0
    street.end_workers()
    left_alone(settings)
    with pytest.raises(UserError, match="holds"):
        history_copies.restore(settings, "living")
    for again in (
        lambda: history_copies.restore(settings, "living", replace=True),
        lambda: history_copies.rebuild(settings, replace=True),
    ):
        told = again()
        assert told["to_read"] > 0
        street.start()
        street.settle()
        assert street.uneven() == {}
        assert street.everything(ends) == written
        assert street.sums() == sums
        street.end_workers()
        left_alone(settings)


def left_alone(settings: Settings) -> None:
    """Until the broker has given up the member that was killed."""

    def free() -> bool:
        try:
            history_copies._stand_still(settings, {})
        except UserError:
            return False
        return True

    wait(free, 60, lambda: "the group still has members")
