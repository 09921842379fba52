"""Into Kafka through Faust's producer: raw bytes, explicit partition, the delivery as a future; retried for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from streams.driver import App

MAX_PENDING = 5_000
RETRY_S = (0.05, 0.2, 1.0)

Headers = Sequence[tuple[str, bytes]]
SLICE = 25
"""States encoded in one go: a fraction of a millisecond."""


class Record(Protocol):
    """What is kept in batches. `value` and `headers` may cost something to ask for."""

    @property
    def partition(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes]]: ...


class Oversized(Exception):
    """A record that the broker does not take: what causes it is poison."""


class Sender:
    """`pending`: deliveries that are under way. Whoever flushes takes them and waits for them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.pending: list[asyncio.Future[Any]] = []

    async def send(self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers) -> None:
        """Into the producer's buffer; waits only when very much is under way."""
        self.pending.append(await self._buffer(topic, key, value, partition, headers))
        if len(self.pending) > MAX_PENDING:
            await asyncio.wait(self.pending)

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers) -> int:
        """The record's offset, when the broker has acknowledged it."""
        return int((await (await self._buffer(topic, key, value, partition, headers))).offset)

    async def send_many(self, topic: str, records: Iterable[Record]) -> None:
        """Returns when all are acknowledged. They are put into batches here, a few at a time so that records which come in are not
        kept waiting: one by one, aiokafka takes as long for each as a decision does."""
        producer = self._app.kafka_producer
        batches: dict[int, Any] = {}
        sent: list[asyncio.Future[Any]] = []

        async def put(partition: int) -> None:
            sent.append(await _patiently(lambda: producer.send_batch(batches[partition], topic, partition=partition)))

        for n, record in enumerate(records, 1):
            partition = record.partition
            what = {"timestamp": None, "key": record.key, "value": record.value, "headers": record.headers}
            if partition not in batches:
                batches[partition] = producer.create_batch()
            if batches[partition].append(**what) is None:  # it is full
                await put(partition)
                batches[partition] = producer.create_batch()
                batches[partition].append(**what)
            if n % SLICE == 0:
                await asyncio.sleep(0)
        for partition in batches:
            await put(partition)
        await asyncio.gather(*sent)

    def take_pending(self) -> list[asyncio.Future[Any]]:
        taken, self.pending = self.pending, []
        return taken

    async def _buffer(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers
    ) -> asyncio.Future[Any]:
        sent = await _patiently(lambda: self._app.producer.send(topic, key, value, partition, None, list(headers)))
        return cast("asyncio.Future[Any]", sent)


async def _patiently(send: Callable[[], Awaitable[Any]]) -> Any:
    """What Faust or aiokafka says of a broker that is away for a moment is no answer yet."""
    for pause_s in (*RETRY_S, None):
        try:
            return await send()
        except (ProducerSendError, KafkaError) as e:
            if isinstance(e.__cause__, MessageSizeTooLargeError):
                raise Oversized(str(e.__cause__)) from e
            if pause_s is None:
                raise
            await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")
