"""Producers of librdkafka: in order, acknowledged by all, each record once however often it must be repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable

from confluent_kafka import Producer

from infra.broker.access import reach

MAX_BYTES = 4 * 1024 * 1024
"""Of one record, before it is compressed. Topics are made to take that (infra/broker/admin.py): what is larger is refused here,
where it is known what it comes from, and not by the broker, when it has long been counted as sent."""
QUEUE_RECORDS = 50_000
QUEUE_KB = 65_536

_quiet = logging.getLogger(f"{__name__}.librdkafka")


def producer(
    bootstrap: str,
    name: str,
    *,
    patience_s: float = 0,
    linger_ms: float = 0,
    queue_records: int = QUEUE_RECORDS,
    **callbacks: Callable[..., None],
) -> Producer:
    """`name`: as the broker's logs know it. `patience_s`: how long a record waits for a broker that is away; 0: however long.

    `linger_ms`: how long a record waits for others to go with it. `callbacks`: librdkafka's `error_cb`, `on_delivery`.
    """
    return Producer(
        {
            **reach(bootstrap),
            "client.id": name,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": linger_ms,
            "message.timeout.ms": int(patience_s * 1000),
            "message.max.bytes": MAX_BYTES,
            "queue.buffering.max.messages": queue_records,
            "queue.buffering.max.kbytes": QUEUE_KB,
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 30_000,
            "logger": _quiet,
            "log_level": 3,
            **callbacks,
        }
    )
