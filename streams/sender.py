"""Into Kafka by librdkafka: raw bytes, explicit partition, in order, and the broker's word for it.

Faust hands records to agents; what these say leaves by a client in C with threads of its own (docs/adr/0013). A worker has a
`Sender` for its outputs and one for its state, so that no decision stands behind a thousand states. What nobody decides on leaves
by a connection that gathers (docs/adr/0014): each request is work for the broker, however little is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.broker.writing import producer

MAX_PENDING = 5_000
PATIENCE_S = 40.0
"""A broker that is away for longer ends the worker; what was not acknowledged is done again at its next start."""
POLL_S = 0.001
"""How often the producer is asked for the broker's words while any are owed. A thread that waits for them would take the lock of
the interpreter from the decisions, each time."""
ROOM_S = 0.005
GATHERED_MS = 300.0
"""How long a record that is in no hurry waits for others."""
GATHERED_POLL_S = 0.02

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


class Undelivered(Exception):
    """The broker has not taken a record. What it belongs to is done again by whoever comes after us."""


class Pending:
    """Records that are on their way and waited for together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._done = loop.create_future()
        self._sent = self._answered = 0
        self._whole = False
        self._failed: str | None = None
        self.offset: int | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to be waited for, be it a failure that is known already."""
        return self._sent > 0

    @property
    def left(self) -> int:
        return self._sent - self._answered

    def sent(self) -> None:
        self._sent += 1

    def answered(self, error: KafkaError | None, message: Message) -> None:
        self.offset = message.offset()
        if error is not None and self._failed is None:
            self._failed = f"{message.topic()}/{message.partition()}: {error.str()}"
        self._answered += 1
        if self._whole and self._answered == self._sent:
            self._done.set_result(None)

    async def acknowledged(self) -> None:
        """Returns when the broker has every one; nothing more may be sent with these. Raises Undelivered."""
        self._whole = True
        if self._answered < self._sent:
            await asyncio.shield(self._done)
        if self._failed is not None:
            raise Undelivered(self._failed)


class _Line:
    """One connection, and whoever asks it for the broker's words as long as any are owed."""

    def __init__(self, connection: Producer, poll_s: float) -> None:
        self._connection, self._poll_s = connection, poll_s
        self._loop = asyncio.get_event_loop()
        self._asking = False

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers, pending: Pending
    ) -> None:
        """Raises what librdkafka does."""
        self._connection.produce(topic, value, key, partition, pending.answered, headers=list(headers))
        pending.sent()
        if not self._asking:
            self._asking = True
            self._loop.call_later(self._poll_s, self._ask)

    def _ask(self) -> None:
        self._connection.poll(0)
        self._asking = len(self._connection) > 0
        if self._asking:
            self._loop.call_later(self._poll_s, self._ask)


class Sender:
    """`pending`: what is under way. Whoever flushes takes it and waits for it. Made on the event loop that uses it."""

    def __init__(self, bootstrap: str, name: str, *, linger_ms: float = 0) -> None:
        """`linger_ms`: how long a record waits for others. Anything but 0 costs it at least a millisecond."""
        self._loop = asyncio.get_event_loop()
        self._bootstrap, self._name = bootstrap, name
        self._line = self._open(name, linger_ms, POLL_S)
        self._gathering: _Line | None = None
        self.pending = Pending(self._loop)

    def _open(self, name: str, linger_ms: float, poll_s: float) -> _Line:
        made = producer(self._bootstrap, name, patience_s=PATIENCE_S, linger_ms=linger_ms, queue_records=MAX_PENDING)
        return _Line(made, poll_s)

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers, *, gathered: bool = False
    ) -> None:
        """Into the producer's buffer; waits only when very much is under way. Raises Oversized, Undelivered.

        `gathered`: it may wait GATHERED_MS for others. All records of a topic must, or none, to keep their order.
        """
        line = self._line
        if gathered:
            if self._gathering is None:
                self._gathering = self._open(f"{self._name}-gathered", GATHERED_MS, GATHERED_POLL_S)
            line = self._gathering
        await self._produce(line, topic, key, value, partition, headers)

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers) -> int:
        """The record's offset, when the broker has acknowledged it."""
        alone = Pending(self._loop)
        await self._produce(self._line, topic, key, value, partition, headers, alone)
        await alone.acknowledged()
        assert alone.offset is not None
        return alone.offset

    async def send_many(self, topic: str, records: Iterable[Record]) -> None:
        """Returns when all are acknowledged. A few at a time, so that records which come in are not kept waiting."""
        together = Pending(self._loop)
        for n, record in enumerate(records, 1):
            await self._produce(self._line, topic, record.key, record.value, record.partition, record.headers, together)
            if n % SLICE == 0:
                await asyncio.sleep(0)
        await together.acknowledged()

    def take_pending(self) -> Pending:
        taken, self.pending = self.pending, Pending(self._loop)
        return taken

    async def _produce(
        self,
        line: _Line,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int,
        headers: Headers,
        of: Pending | None = None,
    ) -> None:
        """`of`: None for what is under way at the moment that it goes, which may be later: there may be no room yet."""
        while True:
            try:
                line.produce(topic, key, value, partition, headers, self.pending if of is None else of)
                return
            except BufferError:
                await asyncio.sleep(ROOM_S)
            except KafkaException as e:
                error: KafkaError = e.args[0]
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise Oversized(f"{topic}: {error.str()}") from e
                raise Undelivered(f"{topic}/{partition}: {error.str()}") from e
