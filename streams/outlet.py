"""How a worker without Faust writes to the log: in order, acknowledged, never dropped, never waiting on the event loop.

The producer keeps what it cannot deliver (its queue is bounded in records and bytes, its patience is not); what does not fit waits
here, and `room()` stops whoever reads on. A delivery that fails for good is a hole in the log: `failed` says so, and where the log
is `vital` the worker ends, so that its successor repairs it from the log's tail.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from infra import logs
from infra.broker import writing
from streams.envelope import Outgoing, seal

log = logs.get(__name__)

WAITING = 1_000
POLL_S = 0.01


class Undeliverable(Exception):
    """The broker has refused a record for good."""


class Outlet:
    """`send` never blocks. Run `pump()` as a task: it serves acknowledgements and what waits."""

    def __init__(self, bootstrap: str, producer: str, *, queue_records: int = writing.QUEUE_RECORDS, linger_ms: float = 2) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.failed: str | None = None
        self.vital = True
        self._name = producer
        self._waiting: deque[Outgoing] = deque()
        self._answered = time.monotonic()
        self._room = asyncio.Event()
        self._room.set()
        self._producer = writing.producer(
            bootstrap,
            producer,
            linger_ms=linger_ms,
            queue_records=queue_records,
            error_cb=self._error,
            on_delivery=self._delivered,
        )

    @property
    def behind(self) -> int:
        """Records that the log has not acknowledged yet."""
        return len(self._waiting) + len(self._producer)

    @property
    def stuck_s(self) -> float:
        """How long records have waited without any acknowledgement; 0 when nothing waits."""
        return time.monotonic() - self._answered if self.behind else 0.0

    def send(self, events: Iterable[Any]) -> None:
        """Events (pydantic or hot structs) in this order; partition and key by the registry."""
        for event in events:
            if not self.behind:
                self._answered = time.monotonic()
            self._waiting.append(seal(event, self._name))
        if self._waiting:
            self._produce()

    def poll(self) -> None:
        """Serves acknowledgements. Raises Undeliverable when a record is lost for good."""
        self._producer.poll(0)
        self._produce()
        if self.failed is not None and self.vital:
            raise Undeliverable(self.failed)

    async def pump(self) -> None:
        while True:
            self.poll()
            await asyncio.sleep(POLL_S)

    async def room(self) -> None:
        """Returns when there is room to go on."""
        await self._room.wait()

    async def flush(self, timeout_s: float) -> int:
        """What is still not acknowledged after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.behind and time.monotonic() < deadline:
            self.poll()
            await asyncio.sleep(0.005)
        return self.behind

    def _produce(self) -> None:
        while self._waiting:
            record = self._waiting[0]
            try:
                self._producer.produce(record.topic, record.value, record.key, record.partition, headers=list(record.headers))
            except BufferError:
                if len(self._waiting) > WAITING:
                    self._room.clear()
                return
            except KafkaException as e:  # the broker knows no such topic
                self._lost(f"{record.topic}/{record.partition}: {e}")
                if self.vital:
                    return
            self._waiting.popleft()
            self.sent += 1
        self._room.set()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._answered = time.monotonic()
        if error is None:
            self.acknowledged += 1
        else:
            self._lost(f"{message.topic()}/{message.partition()}: {error.str()}")

    def _lost(self, why: str) -> None:
        if self.failed is None:
            self.failed = why
            log.error("record not delivered", why=why)

    def _error(self, error: KafkaError) -> None:
        if error.fatal():
            self.failed = self.failed or error.str()
