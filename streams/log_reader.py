"""Records read directly, beside a consumer group: what is announced, and what a member did not get to see.

A plain consumer without membership. Blocking, for one thread; KafkaException or TimeoutError of any call: the broker is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.broker.access import reach
from infra.clickhouse.rows import Record

QUIET_S = 20.0
"""Without any answer for so long a read is given up."""
REQUEST_S = 10.0
Place = tuple[str, int]


class LogReader:
    def __init__(self, bootstrap: str, group: str) -> None:
        self._consumer = Consumer(
            {
                **reach(bootstrap),
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 1000,
                "logger": logging.getLogger(f"{__name__}.librdkafka"),
                "error_cb": lambda _error: None,
            }
        )

    def committed(self, places: Iterable[Place]) -> dict[Place, tuple[int, str]]:
        """{place: (offset, metadata)} that the group has committed; places without a commit are absent."""
        asked = [TopicPartition(topic, partition) for topic, partition in places]
        found = {}
        for tp in self._consumer.committed(asked, timeout=REQUEST_S):
            if tp.error:
                raise KafkaException(tp.error)
            if tp.offset >= 0:
                found[tp.topic, tp.partition] = (tp.offset, tp.metadata or "")
        return found

    def low(self, topic: str, partition: int) -> int:
        """The first offset that is kept."""
        found = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_S)
        if found is None:
            raise TimeoutError(f"no offsets of {topic}/{partition}")
        return int(found[0])

    def read(self, topic: str, partition: int, first: int, last: int, limit: int) -> tuple[list[Record], int]:
        """Up to `limit` records from `first` to `last`, and the offset to go on at (`last + 1` when all are read).

        Offsets that the log does not hold any more (compaction, retention) are passed over.
        """
        consumer, at = self._consumer, first
        records: list[Record] = []
        consumer.assign([TopicPartition(topic, partition, first)])
        try:
            deadline = time.monotonic() + QUIET_S
            while at <= last and len(records) < limit:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic}/{partition} gave nothing for {QUIET_S:.0f} s at offset {at}")
                for message in consumer.consume(min(500, limit - len(records), last - at + 1), timeout=0.5):
                    deadline = time.monotonic() + QUIET_S
                    error = message.error()
                    if error is not None:
                        if error.code() != KafkaError._PARTITION_EOF:
                            raise KafkaException(error)
                        at = last + 1
                        break
                    record = _record(message)
                    if record.offset > last:
                        at = last + 1
                        break
                    records.append(record)
                    at = record.offset + 1
            return records, at
        finally:
            consumer.unassign()

    def close(self) -> None:
        self._consumer.close()


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None, "a record has its place"
    assert offset is not None
    headers: Any = message.headers() or ()
    return Record(partition, offset, message.timestamp()[1], _bytes(message.key()), _bytes(message.value()), headers)


def _bytes(found: str | bytes | None) -> bytes | None:
    return found.encode() if isinstance(found, str) else found
