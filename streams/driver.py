"""What we change in Faust's Kafka transport, all in one place; tests/unit/test_driver.py pins what it leans on.

- Positions: after a rebalance Faust seeks to Kafka's committed offsets; we seek to those of our own state (streams/store.py).
- Batches: an agent's event is a few records, not one. Faust makes four tasks for each message that it hands on, more work than
  most decisions are.
- Assignment: partition p of every input goes to the same member, whatever the number of members; or all to one.
- A record that aiokafka cannot parse (a header key that is no UTF-8) is handed on as one that nobody can decode: poison.
- Commits carry the generation of the assignment that they belong to: a worker that has silently rejoined proves nothing.
- No monitor: it costs microseconds a message, and our metrics count at the stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import aiokafka
import aiokafka.consumer.fetcher as fetcher
import faust
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition
from faust.sensors.monitor import Monitor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from infra.broker.reading import first_offset
from schemas import topics
from streams.stage import NotOwner as NotOwner

if TYPE_CHECKING:
    from streams.app import Process

COMMIT_S = 5.0


class CoPartitioned(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Partition p of every topic to member p modulo members, members sorted: static ids keep their order over restarts."""

    name = "quantum-copartitioned"
    version = 0

    @classmethod
    def owner(cls, partition: int, members: list[str]) -> str:
        return members[partition % len(members)]

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        names = sorted(members)
        shares: dict[str, dict[str, list[int]]] = {name: {} for name in names}
        for topic in sorted({name for metadata in members.values() for name in metadata.subscription}):
            for partition in range(_width(cluster, topic)):
                shares[cls.owner(partition, names)].setdefault(topic, []).append(partition)
        return {name: ConsumerProtocolMemberAssignment(cls.version, sorted(shares[name].items()), b"") for name in names}

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing to remember."""


def _width(cluster: Any, topic: str) -> int:
    """The registry's word first: right after a broker's restart the metadata may lack the topic, and an assignment of nothing
    would stand until the next rebalance."""
    known = topics.BY_NAME.get(topic)
    return known.partitions if known else len(cluster.partitions_for_topic(topic) or ())


class OneActive(CoPartitioned):
    """Everything to the first member; the others stand by."""

    name = "quantum-one-active"

    @classmethod
    def owner(cls, partition: int, members: list[str]) -> str:
        return members[0]


BATCH_RECORDS = 16


class Batch(ConsumerMessage):
    """The message that an agent's event carries: `records` of any partitions, fetched in one generation."""

    __slots__ = ("records",)

    def __init__(self, tp: TP, records: Sequence[ConsumerRecord], generation_id: int) -> None:
        last = records[-1]  # where Faust stands behind it
        super().__init__(*tp, last.offset, 0.0, last.timestamp_type, None, None, b"", None, 0, 0, tp, generation_id=generation_id)
        self.records = records


class Positions(driver.Consumer):
    """Seeks to where the state stands. `app.positions` gives {TP: offset}, or None to leave it to the committed offsets."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Batch]]:
        """As Faust's own: it stops in the same places, topics and partitions take the same turns; what it hands on are batches."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        turns = (
            record
            for tp, record in self.scheduler.iterate(fetched)
            if active is None or tp in active or tp in self._buffered_partitions
        )
        while some := list(islice(turns, BATCH_RECORDS)):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            tp = TP(some[-1].topic, some[-1].partition)
            yield tp, Batch(tp, some, generation)

    async def _seek_back(self) -> None:
        try:
            await self.perform_seek()
        except Exception as e:  # Faust's word for it: the flow stands still, and what resumes it seeks again
            self.log.warning("not sought back while the flow stands: %s", e)

    async def perform_seek(self) -> None:
        found = cast(App, self.app).positions()
        if found is None:
            await super().perform_seek()
            return
        mine = self.assignment()
        await self.seek_wait({tp: offset for tp, offset in found.items() if tp in mine})


UNREADABLE = b"\xff unreadable: a header key of this record is no UTF-8"
"""Stands for the value of such a record."""


class Records(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """Of one fetch and partition. Behind a record that cannot be parsed nothing of its batch can: each comes as unreadable."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            tp, offset = self._tp, self.next_fetch_offset
            self.next_fetch_offset = offset + 1
            at, size = int(time.time() * 1000), len(UNREADABLE)
            yield aiokafka.ConsumerRecord(tp.topic, tp.partition, offset, at, 0, None, UNREADABLE, None, -1, size, ())


fetcher.PartitionRecords = Records


class Thread(driver.AIOKafkaConsumerThread):
    """Runs aiokafka's consumer."""

    async def _fetch_records(self, consumer: aiokafka.AIOKafkaConsumer, *args: Any, **options: Any) -> Any:
        """Where compaction has left nothing before an unreadable record, that record is the next one that there is."""
        found = await super()._fetch_records(consumer, *args, **options)
        for tp, records in found.items():
            if records[-1].value == UNREADABLE:
                told = records[-1]
                bootstrap = ",".join(consumer._client._bootstrap_servers)
                first = await asyncio.to_thread(first_offset, bootstrap, tp.topic, tp.partition, told.offset)
                if first is not None and first > told.offset:
                    records[-1] = replace(told, offset=first)
                    consumer.seek(tp, first + 1)
        return found

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._partition_assignment_strategy = (OneActive if cast(App, self.app).one_active else CoPartitioned,)
        consumer._fetch_max_wait_ms = cast(App, self.app).fetch_wait_ms
        consumer._fetch_min_bytes = cast(App, self.app).fetch_min_bytes
        return consumer

    async def commit_as(self, generation: int, offsets: Mapping[TP, OffsetAndMetadata]) -> None:
        """Commits in the name of that generation. Raises NotOwner when the broker refuses it or the group has moved on."""
        wanted = {TopicPartition(tp.topic, tp.partition): what for tp, what in offsets.items()}
        coroutine = self._commit_as(generation, wanted)
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.thread_loop))
        try:
            await asyncio.wait_for(future, COMMIT_S)
        except TimeoutError as e:
            raise NotOwner(f"no answer to a commit within {COMMIT_S:.0f} s") from e

    async def _commit_as(self, generation: int, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        # a member that lost its place has generation -1, and the broker lets -1 commit to an empty group
        if coordinator.generation != generation:
            raise NotOwner(f"the group is in generation {coordinator.generation}, the assignment was of {generation}")
        try:
            await consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as e:
            raise NotOwner(str(e)) from e
        if coordinator.generation != generation:
            raise NotOwner(f"the group went to generation {coordinator.generation} during a commit of {generation}")


class Transport(driver.Transport):
    Consumer = Positions


class Silent(Monitor):
    """Counts nothing; keeps what Faust's own checks read."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None: ...
    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None: ...
    def on_stream_event_out(self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None) -> None: ...
    def on_message_out(self, tp: Any, offset: int, message: Any) -> None: ...
    def on_topic_buffer_full(self, tp: Any) -> None: ...
    def on_send_initiated(self, producer: Any, topic: str, message: Any, keysize: int, valsize: int) -> None: ...
    def on_send_completed(self, producer: Any, state: Any, metadata: Any) -> None: ...
    def on_send_error(self, producer: Any, exc: BaseException, state: Any) -> None: ...
    def track_tp_end_offset(self, tp: Any, offset: int) -> None: ...
    def on_tp_commit(self, tp_offsets: Any) -> None: ...


class App(faust.App):
    """A worker's application.

    `one_active`: all partitions to one member. `fetch_min_bytes`: more than 1 where some delay, at most `fetch_wait_ms`, is cheaper
    than a fetch. `positions`: where to read on after a rebalance (see Positions). `drain`: what must be done before the end.
    `on_quiet`: what SIGUSR1 means. `background`: loops that run beside the agents from the very start; when one fails, the process
    ends. `process`: set by run_app.
    """

    one_active: bool = False
    fetch_min_bytes: int = 1
    fetch_wait_ms: int = 500
    process: Process

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions: Callable[[], dict[TP, int] | None] = lambda: None
        self.drain: Callable[[], Awaitable[None]] | None = None
        self.on_quiet: Callable[[], None] | None = None
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)
