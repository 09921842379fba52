"""The wrapper around every stage, in a process of its own on a real broker: poison, gaps, probes, heartbeats, drain, ownership."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient as Admin

from infra import children, logs
from infra.broker.admin import TopicSpec, committed, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.ports import free_port, free_ports
from schemas import hot, topics
from schemas.ids import partition_of
from streams.bench.reading import Record, read_all
from streams.envelope import decode, encode
from streams.store import state_topic_spec

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(120)]
KEY = "test.stress.K001"
HOME = partition_of(KEY)
TRADES, FEATURES = topics.MARKET_TRADES.name, topics.MARKET_FEATURES.name


class Street:
    """A broker with the registry's topics, a feeder and members of the stage."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap, "logger": logs.librdkafka})
        self.members: list[Member] = []
        specs = [TopicSpec(t.name, t.partitions, t.config) for t in topics.ALL]
        ensure_topics(kafka.bootstrap, [*specs, state_topic_spec("effects")])

    def feed(self, *values: bytes | hot.TradeFrame | None) -> None:
        for value in values:
            raw = encode(value) if isinstance(value, hot.TradeFrame) else value
            self.producer.produce(TRADES, raw, KEY.encode(), partition=HOME, headers=[("trace_id", b"root")])
        assert self.producer.flush(20) == 0

    def tick(self) -> None:
        for p in range(12):
            self.producer.produce(TRADES, encode(hot.Tick(f"t{p}", "market.tick", 1, p, False, 0)), None, partition=p)
        assert self.producer.flush(20) == 0

    def read(self, topic: str) -> list[Record]:
        return list(read_all(self.kafka.bootstrap, topic))

    def counts(self) -> list[int]:
        return [decode(FEATURES, record.value or b"").bars for record in self.read(FEATURES)]

    def member(self, index: int = 0, **env: str) -> Member:
        member = Member(self, index, env)
        self.members.append(member)
        return member


class Member:
    def __init__(self, street: Street, index: int, env: dict[str, str]) -> None:
        self.port = free_port()
        self.report = street.folder / f"report-{index}.jsonl"
        self.log = street.folder / f"log-{index}.jsonl"
        settings = {
            "QT_KAFKA_BOOTSTRAP": street.kafka.bootstrap,
            "QT_PROBE_PORT": str(self.port),
            "QT_WORKER_INDEX": str(index),
            "QT_RUN_DIR": str(street.folder),
            "QT_HEARTBEAT_S": "0.2",
        }
        script = Path(__file__).with_name("stage_with_effects.py")
        with self.log.open("ab") as out:
            argv = [sys.executable, str(script), str(self.report)]
            everything = os.environ | settings | env
            self.popen = children.spawn(argv, stdout=out, stderr=subprocess.STDOUT, env=everything, cwd=Path(__file__).parents[2])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError as e:
            return 0, str(e)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))

    def told(self, what: str) -> list[dict[str, Any]]:
        if not self.report.exists():
            return []
        lines = [json.loads(line) for line in self.report.read_text().splitlines()]
        return [line for line in lines if line["what"] == what]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.popen.pid, number)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Of this module alone: the registry's topics under their own names."""
    port, controller_port = free_ports(2)
    broker = EmbeddedKafka(tmp_path_factory.mktemp("runner"), port, controller_port)
    broker.start()
    broker.wait_ready()
    yield broker
    broker.stop()


@pytest.fixture
def street(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Street]:
    street = Street(kafka, tmp_path)
    yield street
    for member in street.members:
        children.kill(member.popen)


class Odd(str):
    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


async def foreign(bootstrap: str, topic: str, partition: int) -> None:
    """A record as clients of other languages may write it: its header key is no UTF-8."""
    builder = message_accumulator.DefaultRecordBatchBuilder
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        message_accumulator.DefaultRecordBatchBuilder = _DefaultRecordBatchBuilderPy
        batch = producer.create_batch()
        batch.append(key=b"x", value=b"{}", timestamp=None, headers=[(Odd("x"), b"1")])
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        message_accumulator.DefaultRecordBatchBuilder = builder
        await producer.stop()


def frame(n: int) -> hot.TradeFrame:
    return hot.TradeFrame(f"f{n}", "market.trade-frame", max(n, 0), KEY, n, [n], [1.0], [1.0], [0], "synthetic")


def until(true: Callable[[], Any], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_life_poison_gaps_probes_heartbeats_drain(street: Street) -> None:
    """One history, in order: each act builds on the one before."""
    # two records that Faust loses in between
    street.feed(*map(frame, range(10)))
    first = street.member(DROP=f"{TRADES}/{HOME}/4,{TRADES}/{HOME}/5,{TRADES}/{HOME}/15")
    until(lambda: len(street.counts()) == 10)
    assert street.counts() == list(range(1, 11))
    assert first.metric("qt_recovered_gaps_total") == 1

    # poison: no JSON, an unknown type, a decision that fails; a tombstone; then a good one
    street.feed(b"\xff\x00", b'{"type":"no.such"}', frame(-1), None, frame(10))
    until(lambda: len(street.counts()) == 11)
    letters = [decode(topics.DEAD_LETTERS.name, record.value or b"") for record in street.read(topics.DEAD_LETTERS.name)]
    assert [(letter.offset, letter.error) for letter in letters] == [(10, "Undecodable"), (11, "Undecodable"), (12, "ValueError")]
    assert letters[0].encoding == "base64"
    assert first.metric("qt_dead_letters_total") == 3

    # a record in a partition that is not its key's would be folded by whoever holds that one
    elsewhere = (HOME + 1) % 12
    street.producer.produce(TRADES, encode(frame(11)), KEY.encode(), partition=elsewhere)
    street.producer.flush(20)
    until(lambda: first.metric("qt_dead_letters_total") == 4)
    letter = decode(topics.DEAD_LETTERS.name, street.read(topics.DEAD_LETTERS.name)[-1].value or b"")
    assert (letter.partition, letter.error) == (elsewhere, "Misplaced")

    # a record that the client library cannot even parse, and one behind it
    asyncio.run(foreign(street.kafka.bootstrap, TRADES, elsewhere))
    street.producer.produce(TRADES, encode(frame(11)), KEY.encode(), partition=elsewhere)
    street.producer.flush(20)
    until(lambda: first.metric("qt_dead_letters_total") == 6)
    letters = [decode(topics.DEAD_LETTERS.name, record.value or b"") for record in street.read(topics.DEAD_LETTERS.name)]
    assert [(letter.offset, letter.error) for letter in letters[-2:]] == [(1, "Undecodable"), (2, "Misplaced")]

    # what it wrote is tied to its cause
    headers = street.read(FEATURES)[-1].headers
    assert headers["inputs"] == f"{TRADES}/{HOME}/14".encode()
    assert (headers["causation_id"], headers["trace_id"], headers["producer"]) == (b"f10", b"root", b"effects")
    assert 0 <= time.time() * 1000 - int(headers["caused_at"]) < 300_000

    # a record that Faust loses at the quiet end: nothing comes after it that would show the gap
    street.feed(frame(11))
    until(lambda: len(street.counts()) == 12)
    assert first.metric("qt_recovered_gaps_total") == 2

    # ready only while time comes in; alive in any case
    street.tick()
    until(lambda: first.get("/readyz")[0] == 200)
    assert first.get("/livez") == (200, "ok\n")
    until(lambda: first.get("/readyz")[0] == 503)
    assert "no record of market.trades" in first.get("/readyz")[1]
    assert first.get("/livez")[0] == 200

    # a record of a far future would stand in states for ever: the tick behind it says that the market has not come to it
    future = hot.TradeFrame("far", "market.trade-frame", 4_000_000_000_000, KEY, 12, [12], [1.0], [1.0], [0], "synthetic")
    street.feed(future)
    street.tick()
    until(lambda: first.metric("qt_dead_letters_total") == 7)
    letter = decode(topics.DEAD_LETTERS.name, street.read(topics.DEAD_LETTERS.name)[-1].value or b"")
    assert letter.error == "RunsAhead"
    assert street.counts()[-1] == 12

    # heartbeats until SIGUSR1
    beats = street.read(topics.HEALTH_HEARTBEATS.name)
    assert beats[-1].key == b"effects-0"
    first.signal(signal.SIGUSR1)
    time.sleep(0.5)
    n = offsets(street.kafka.bootstrap, [topics.HEALTH_HEARTBEATS.name])[topics.HEALTH_HEARTBEATS.name][0][1]
    time.sleep(0.8)
    assert offsets(street.kafka.bootstrap, [topics.HEALTH_HEARTBEATS.name])[topics.HEALTH_HEARTBEATS.name][0][1] == n

    # SIGTERM drains: nothing is left to do
    street.feed(*map(frame, range(12, 200)))
    until(lambda: len(street.counts()) == 200)
    began = time.monotonic()
    first.signal(signal.SIGTERM)
    assert first.popen.wait(10) == 0
    assert time.monotonic() - began < 5
    where = [(TRADES, HOME)]
    done = committed(street.kafka.bootstrap, "quantum-effects", where)
    ends = offsets(street.kafka.bootstrap, [TRADES])[TRADES]
    assert done[TRADES, HOME] == ends[HOME][1]

    # a commit was lost with its era: the next era's tells the lag rightly, though no record comes
    admin = Admin({"bootstrap.servers": street.kafka.bootstrap, "logger": logs.librdkafka})  # must outlive its answer
    behind = ConsumerGroupTopicPartitions("quantum-effects", [TopicPartition(TRADES, HOME, ends[HOME][1] - 1)])
    admin.alter_consumer_group_offsets([behind])["quantum-effects"].result(20)

    # the next one begins where it ended, and hears of its partitions only when its own outputs are applied
    second = street.member(1)
    until(lambda: len(second.told("live")) == 12)
    (home,) = [told for told in second.told("live") if told["partition"] == HOME]
    assert home["frames"] == home["own"] == {KEY: 200}
    until(lambda: committed(street.kafka.bootstrap, "quantum-effects", where)[TRADES, HOME] == ends[HOME][1])
    street.feed(frame(200))
    until(lambda: street.counts()[-1:] == [201])
    until(lambda: any(told["frames"] == 201 for told in second.told("state")))
    assert len(street.counts()) == 201


def test_a_worker_that_was_frozen_proves_nothing_until_it_owns_again(street: Street) -> None:
    one, two = street.member(0), street.member(1)
    until(lambda: len(one.told("live")) >= 6 and len(two.told("live")) >= 6 and one.told("proof") and two.told("proof"))
    time.sleep(1.0)
    lost = {told["partition"] for told in one.told("live")[-6:]}
    one.signal(signal.SIGSTOP)
    frozen = time.time()
    until(lambda: {told["partition"] for told in two.told("proof") if told["at"] > frozen} >= lost)
    one.signal(signal.SIGCONT)
    thawed = time.time()
    until(lambda: any(told["at"] > thawed for told in one.told("live")))
    again = min(told["at"] for told in one.told("live") if told["at"] > thawed)
    # by when it was asked: an answer that came before the freeze may be told after it, and signs with the time before
    early = [told for told in one.told("proof") if frozen + 0.3 < told["asked"] and told["at"] < again]
    assert not early, early
    assert any(told["at"] > thawed for told in one.told("revoked"))
