"""The policy's reader: default on an empty topic, the newest version afterwards, and it outlives what it cannot read."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from schemas.operations import PolicyVersion
from schemas.policy import Policy
from streams.policy import PolicyReader

pytestmark = pytest.mark.broker


def until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def version(n: int) -> bytes:
    return PolicyVersion(
        event_id=f"p{n}", at=1, version=n, digest="", changed=[], reason="a test", actor="test", policy=Policy()
    ).encode()


def test_a_reader_is_ready_at_the_end_and_follows(kafka: EmbeddedKafka, unique: str) -> None:
    ensure_topics(kafka.bootstrap, [TopicSpec(unique, 1)])
    reader = PolicyReader(kafka.bootstrap, unique)
    assert not reader.ready
    reader.start()
    try:
        until(lambda: reader.ready)
        assert reader.current() == (0, Policy())
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for value in (version(1), b"no policy", version(3), version(2), version(10**18), version(3)):
            producer.produce(unique, value, b"policy", partition=0)
        assert producer.flush(20) == 0
        until(lambda: reader.current()[0] == 3)
        later = PolicyReader(kafka.bootstrap, unique)
        later.start()
        until(lambda: later.ready)
        assert later.current()[0] == 3
        later.stop()
        assert reader.ready
    finally:
        reader.stop()
    assert not reader.ready
