"""A plain reader of whole topics, independent of everything it is used to check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.broker.admin import offsets


class Record(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp: int


def read_all(bootstrap: str, topic: str) -> Iterator[Record]:
    """Every record up to the end as it is now; in order within a partition."""
    bounds = offsets(bootstrap, [topic])[topic]
    left = {p: high for p, (low, high) in bounds.items() if high > low}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, p, bounds[p][0]) for p in left])
        while left:
            message = consumer.poll(10.0)
            if message is None:
                raise TimeoutError(f"{topic}: nothing for 10 s, with {left} to come")
            if message.error() is not None:
                raise KafkaException(message.error())
            partition, offset = cast(int, message.partition()), cast(int, message.offset())
            if partition in left:
                key, headers = message.key(), cast("list[tuple[str, bytes]]", message.headers() or [])
                stamp = message.timestamp()[1]
                yield Record(partition, offset, key, message.value(), dict(headers), stamp)
                if offset + 1 >= left[partition]:
                    del left[partition]
    finally:
        consumer.close()
