"""All records of a topic as it stands now, by a consumer of our own without a group: for reports and people, not for workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra import logs
from infra.errors import UserError

PATIENCE_S = 30.0
ASK_S = 10.0


def read_all(bootstrap: str, topic: str, ends: Mapping[int, tuple[int, int]]) -> Iterator[Message]:
    """Every record below the given high offsets (`infra.broker.admin.offsets`), tombstones too; in order per partition.

    Raises UserError when the broker stops giving them.
    """
    left = {partition: high for partition, (low, high) in ends.items() if high > low}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "quantum-reading", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, ends[partition][0]) for partition in left])
        deadline = time.monotonic() + PATIENCE_S
        while left:
            for message in consumer.consume(5000, timeout=0.2):
                partition, offset = message.partition(), message.offset()
                if message.error() is not None or partition is None or offset is None or partition not in left:
                    continue
                deadline = time.monotonic() + PATIENCE_S
                if offset < left[partition]:
                    yield message
                if offset >= left[partition] - 1:
                    del left[partition]
            if time.monotonic() > deadline:
                raise UserError(
                    f"{topic} cannot be read",
                    f"{bootstrap} gave no records for {PATIENCE_S:.0f} s",
                    "look at the broker (`quantum doctor`)",
                )
    finally:
        consumer.close()


def first_offset(bootstrap: str, topic: str, partition: int, at_least: int) -> int | None:
    """The first record at or behind an offset, as the broker tells; None: there is none yet. Blocks."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "logger": logs.librdkafka,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, at_least)])
        deadline = time.monotonic() + ASK_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return message.offset()
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            if error.fatal():
                raise KafkaException(error)
        return at_least
    finally:
        consumer.close()
