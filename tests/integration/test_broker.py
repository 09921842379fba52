"""The embedded broker as its users meet it: topics, records, kill -9, stop, fresh."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.broker.admin import TopicSpec, committed, ensure_topics, missing_topics, offsets, ping
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.ports import free_ports, is_taken

pytestmark = pytest.mark.broker


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that a test may kill."""
    broker = EmbeddedKafka(tmp_path / "kafka", *free_ports(2))
    broker.start()
    try:
        broker.wait_ready()
        yield broker
    finally:
        broker.stop()


def produce(bootstrap: str, topic: str, partition: int, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    failed = []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda e, _: failed.append(e) if e else None)
    assert producer.flush(20) == 0
    assert not failed


def consume(bootstrap: str, topic: str, partition: int, n: int, group: str = "reader") -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        messages = consumer.consume(n, timeout=20)
        assert all(message.error() is None for message in messages)
        if messages:
            consumer.commit(message=messages[-1], asynchronous=False)
        return [message.value() or b"" for message in messages]
    finally:
        consumer.close()


def test_a_broker_names_itself(kafka: EmbeddedKafka) -> None:
    told = ping(kafka.bootstrap)
    assert told.id == 1
    assert len(told.cluster_id) == 22
    assert kafka.version.startswith(told.version + ".")


def test_records_come_back_in_order_and_offsets_and_commits_are_told(kafka: EmbeddedKafka, unique: str) -> None:
    assert ensure_topics(kafka.bootstrap, [TopicSpec(unique, 3)]) == [unique]
    values = [f"v{i}".encode() for i in range(100)]
    produce(kafka.bootstrap, unique, 2, values)
    assert offsets(kafka.bootstrap, [unique]) == {unique: {0: (0, 0), 1: (0, 0), 2: (0, 100)}}
    everywhere = [(unique, p) for p in range(3)]
    assert committed(kafka.bootstrap, unique, everywhere) == {}
    assert consume(kafka.bootstrap, unique, 2, 100, group=unique) == values
    assert committed(kafka.bootstrap, unique, everywhere) == {(unique, 2): 100}


def test_topics_become_what_is_declared(kafka: EmbeddedKafka, unique: str) -> None:
    first = TopicSpec(unique, 2, {"retention.ms": "3600000", "cleanup.policy": "delete"})
    assert missing_topics(kafka.bootstrap, [unique]) == [unique]
    assert ensure_topics(kafka.bootstrap, [first]) == [unique]
    assert missing_topics(kafka.bootstrap, [unique]) == []
    assert ensure_topics(kafka.bootstrap, [first]) == []
    changed = TopicSpec(unique, 2, {"retention.ms": "7200000", "cleanup.policy": "compact"})
    assert ensure_topics(kafka.bootstrap, [changed, TopicSpec(unique + ".b", 1)]) == [unique + ".b"]
    assert topic_config(kafka.bootstrap, unique) >= {("retention.ms", "7200000"), ("cleanup.policy", "compact")}
    with pytest.raises(UserError, match="has 2 partitions instead of 3"):
        ensure_topics(kafka.bootstrap, [TopicSpec(unique, 3)])
    with pytest.raises(UserError, match="cannot be created"):
        ensure_topics(kafka.bootstrap, [TopicSpec(unique + ".c", 1, {"retention.ms": "soon"})])
    with pytest.raises(UserError, match="cannot be configured"):
        ensure_topics(kafka.bootstrap, [TopicSpec(unique, 2, {"retention.ms": "soon"})])


def test_a_topic_that_nobody_declared_is_not_created_by_asking(kafka: EmbeddedKafka, unique: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 1500})
    failed = []
    producer.produce(unique, b"x", on_delivery=lambda e, _: failed.append(e))
    producer.flush(10)
    assert failed[0] is not None
    with pytest.raises(UserError, match=f"no topic {unique}"):
        offsets(kafka.bootstrap, [unique])


def test_kill_9_and_restart_keep_the_records(own: EmbeddedKafka) -> None:
    ensure_topics(own.bootstrap, [TopicSpec(f"t{i}", 12) for i in range(10)])
    values = [b"kept"] * 1000
    produce(own.bootstrap, "t1", 7, values)
    before = ping(own.bootstrap).cluster_id
    own.kill()
    assert own.poll() == -9
    with pytest.raises(UserError, match="does not answer"):
        ping(own.bootstrap, 0.5)
    own.start()
    own.wait_ready()
    assert ping(own.bootstrap).cluster_id == before
    assert offsets(own.bootstrap, ["t1"])["t1"][7] == (0, 1000)
    assert consume(own.bootstrap, "t1", 7, 1000) == values


def test_stop_is_clean_and_leaves_nothing_then_fresh_wipes(own: EmbeddedKafka) -> None:
    ensure_topics(own.bootstrap, [TopicSpec("kept", 1)])
    produce(own.bootstrap, "kept", 0, [b"x"])
    pid = own.pid
    assert pid is not None
    started = time.monotonic()
    assert own.stop(), "SIGTERM alone must do"
    assert time.monotonic() - started < 8
    assert not psutil.pid_exists(pid)
    assert not is_taken(own.port)
    assert not is_taken(own.controller_port)

    again = EmbeddedKafka(own.data_dir, own.port, own.controller_port)
    again.start()
    again.wait_ready()
    assert offsets(again.bootstrap, ["kept"]) == {"kept": {0: (0, 1)}}
    again.stop()

    fresh = EmbeddedKafka(own.data_dir, own.port, own.controller_port, fresh=True)
    fresh.start()
    try:
        fresh.wait_ready()
        with pytest.raises(UserError, match="no topic kept"):
            offsets(fresh.bootstrap, ["kept"])
    finally:
        fresh.stop()


def test_two_brokers_do_not_share_a_data_directory(own: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.broker.embedded.LOCK_PATIENCE_S", 0.2)
    with pytest.raises(UserError, match="another broker uses"):
        EmbeddedKafka(own.data_dir, *free_ports(2)).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")
def test_kill_9_of_the_launcher_leaves_no_broker(tmp_path: Path) -> None:
    port, controller_port = free_ports(2)
    program = f"""
import time
from pathlib import Path
from infra.broker.embedded import EmbeddedKafka
kafka = EmbeddedKafka(Path({str(tmp_path)!r}), {port}, {controller_port})
kafka.start()
kafka.wait_ready()
print(kafka.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as us:
        assert us.stdout is not None
        pid = int(us.stdout.readline())
        assert psutil.pid_exists(pid)
        us.kill()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def topic_config(bootstrap: str, topic: str) -> set[tuple[str, str | None]]:
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    client = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {(name, entry.value) for name, entry in future.result(20).items()}
