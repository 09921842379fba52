"""What leaves a worker: in order, waited for together, and told when the broker does not take it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.broker.admin import TopicSpec, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.broker.reading import read_all
from infra.broker.writing import MAX_BYTES
from infra.ports import free_ports
from streams import sender
from streams.sender import Oversized, Sender, Undelivered


class Record(NamedTuple):
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


def made(bootstrap: str, name: str, config: dict[str, str] | None = None) -> str:
    ensure_topics(bootstrap, [TopicSpec(name, 3, config or {})])
    return name


def stored(bootstrap: str, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    found = read_all(bootstrap, topic, offsets(bootstrap, [topic])[topic])
    return [(record.partition() or 0, record.key(), record.value()) for record in found]  # type: ignore[misc]


def of(messages: list[tuple[int, bytes | None, bytes | None]], partition: int) -> list[bytes | None]:
    return [value for p, _, value in messages if p == partition]


def test_records_stand_in_the_log_in_their_order_when_they_count_as_acknowledged(kafka: EmbeddedKafka, unique: str) -> None:
    topic = made(kafka.bootstrap, unique)

    async def play() -> None:
        outputs, states = Sender(kafka.bootstrap, "one"), Sender(kafka.bootstrap, "two", linger_ms=1)
        for n in range(600):
            await outputs.send(topic, b"k", b"%d" % n, n % 3, [("n", b"%d" % n)])
        first = outputs.take_pending()
        assert first
        await outputs.send(topic, b"k", b"late", 0, [])
        await states.send_many(topic, [Record(1, b"s", b"s%d" % n, []) for n in range(100)])
        await first.acknowledged()
        assert first.left == 0
        assert await outputs.send_and_wait(topic, b"k", None, 2, []) == 200
        await outputs.take_pending().acknowledged()
        nothing = outputs.take_pending()
        assert not nothing
        await nothing.acknowledged()

    asyncio.run(play())
    log = stored(kafka.bootstrap, topic)
    assert of(log, 0) == [*(b"%d" % n for n in range(0, 600, 3)), b"late"]
    assert [value for value in of(log, 1) if value and value[:1] != b"s"] == [b"%d" % n for n in range(1, 600, 3)]
    assert [value for value in of(log, 1) if value and value[:1] == b"s"] == [b"s%d" % n for n in range(100)]
    assert of(log, 2) == [*(b"%d" % n for n in range(2, 600, 3)), None]


def test_what_is_gathered_is_waited_for_with_the_rest_and_keeps_its_order(
    kafka: EmbeddedKafka, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "GATHERED_MS", 3000.0)  # longer than a busy machine needs to look
    at_once, together = made(kafka.bootstrap, unique), made(kafka.bootstrap, f"{unique}-gathered")

    async def play() -> None:
        outputs = Sender(kafka.bootstrap, "one")
        for n in range(300):
            await outputs.send(together, None, b"%d" % n, n % 3, [], gathered=True)
            await outputs.send(at_once, None, b"%d" % n, n % 3, [])
        assert not stored(kafka.bootstrap, together), "they wait for others"
        with pytest.raises(Oversized, match=together):
            await outputs.send(together, None, b"x" * (MAX_BYTES + 1), 0, [], gathered=True)
        both = outputs.take_pending()
        await outputs.send(together, None, b"later", 0, [], gathered=True)
        await both.acknowledged()
        assert both.left == 0
        assert len(stored(kafka.bootstrap, at_once)) == 300
        assert len(stored(kafka.bootstrap, together)) >= 300
        await outputs.take_pending().acknowledged()

    asyncio.run(play())
    assert of(stored(kafka.bootstrap, together), 0) == [*(b"%d" % n for n in range(0, 300, 3)), b"later"]
    assert of(stored(kafka.bootstrap, together), 2) == [b"%d" % n for n in range(2, 300, 3)]


def test_what_the_broker_does_not_take_is_told_to_whoever_waits(kafka: EmbeddedKafka, unique: str) -> None:
    topic = made(kafka.bootstrap, unique)
    narrow = made(kafka.bootstrap, f"{unique}-narrow", {"max.message.bytes": "1000"})

    async def play() -> None:
        outputs = Sender(kafka.bootstrap, "one")
        with pytest.raises(Oversized, match=topic):
            await outputs.send(topic, None, b"x" * (MAX_BYTES + 1), 0, [])
        assert not outputs.pending
        await outputs.send(topic, None, b"good", 0, [])
        await outputs.send(narrow, None, os.urandom(3000), 0, [])
        await outputs.send(topic, None, b"good", 0, [])
        refused = outputs.take_pending()
        for _ in range(1000):
            await asyncio.sleep(0.01 if refused.left else 0)
        assert refused.left == 0
        assert refused  # all has been answered, and is still to be waited for
        with pytest.raises(Undelivered, match=f"{narrow}/0"):
            await refused.acknowledged()
        with pytest.raises(Undelivered, match=f"{topic}/7"):
            await outputs.send_and_wait(topic, None, b"nowhere", 7, [])
        assert await outputs.send_and_wait(topic, None, b"on", 0, []) == 2

    asyncio.run(play())


def test_a_full_buffer_and_a_broker_that_is_away_keep_who_sends_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dropped, nothing comes twice; what finds no room belongs to the flush that begins after it."""
    monkeypatch.setattr(sender, "MAX_PENDING", 50)
    broker = EmbeddedKafka(tmp_path, *free_ports(2))
    broker.start()
    try:
        broker.wait_ready()
        topic = made(broker.bootstrap, "sender")

        async def play() -> None:
            outputs = Sender(broker.bootstrap, "one")
            await outputs.send_and_wait(topic, None, b"0", 0, [])
            os.kill(broker.pid or 0, signal.SIGSTOP)

            async def feed() -> None:
                for n in range(1, 201):
                    await outputs.send(topic, None, b"%d" % n, 0, [])

            feeding = asyncio.create_task(feed())
            await asyncio.sleep(0.5)
            first = outputs.take_pending()
            assert 0 < first.left <= 60
            assert not feeding.done()
            os.kill(broker.pid or 0, signal.SIGCONT)
            await first.acknowledged()
            await feeding
            await outputs.take_pending().acknowledged()

        asyncio.run(play())
        assert of(stored(broker.bootstrap, topic), 0) == [b"%d" % n for n in range(201)]
    finally:
        broker.stop()
