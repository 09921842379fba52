"""Whole topics read by a thread: to their end, and then whatever comes. No consumer group: every follower reads all of it.

While the log is away it waits; what it knew stays.
"""

from __future__ import annotations

import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra import logs
from infra.broker.access import reach
from schemas.topics import Topic

POLL_S = 0.2


class Follower:
    """`take` is called on the thread, a record at a time, in the order of each partition; tombstones are passed over."""

    def __init__(self, bootstrap: str, places: dict[str, int], name: str) -> None:
        self._bootstrap = bootstrap
        self._left = {(topic, p) for topic, partitions in places.items() for p in range(partitions)}
        self._places = sorted(self._left)
        self._over = threading.Event()
        self._read_once = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def take(self, topic: str, value: bytes, key: bytes | None = None) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    @property
    def ready(self) -> bool:
        """Read to the end once, and the reader lives."""
        return self._read_once.is_set() and self._thread.is_alive()

    def _follow(self) -> None:
        consumer = Consumer(
            {
                **reach(self._bootstrap),
                "group.id": "none",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 500,
                "logger": logs.librdkafka,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, p, 0) for topic, p in self._places])
            while not self._over.is_set():
                message = consumer.poll(POLL_S)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        self._left.discard((message.topic(), message.partition()))
                        if not self._left:
                            self._read_once.set()
                    elif error.fatal():
                        raise KafkaException(error)
                    continue
                value = message.value()
                if value is not None:
                    key = message.key()
                    self.take(message.topic() or "", value, key.encode() if isinstance(key, str) else key)
        finally:
            consumer.close()


def places(*chosen: Topic) -> dict[str, int]:
    return {topic.name: topic.partitions for topic in chosen}
