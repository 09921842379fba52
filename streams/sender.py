"""Into Kafka through Faust's producer: raw bytes, explicit partition, the delivery as a future; retried for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from aiokafka.errors import MessageSizeTooLargeError
from faust.exceptions import ProducerSendError

from streams.driver import App

MAX_PENDING = 5_000
RETRY_S = (0.05, 0.2, 1.0)

Headers = Sequence[tuple[str, bytes]]


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

    def take_pending(self) -> list[asyncio.Future[Any]]:
        taken, self.pending = self.pending, []
        return taken

    async def _buffer(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers
    ) -> asyncio.Future[Any]:
        for pause_s in (*RETRY_S, None):
            try:
                sent = await self._app.producer.send(topic, key, value, partition, None, list(headers))
                return cast("asyncio.Future[Any]", sent)
            except ProducerSendError as e:
                if isinstance(e.__cause__, MessageSizeTooLargeError):
                    raise Oversized(f"a record for {topic} of {len(value or b'')} bytes") from e
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")
