"""history: every record of every topic -> one row in ClickHouse, exactly once.

    take        the agent puts records into a lane per partition, in order and without a hole: what Faust skips is read directly
    announce    an offset commit: first offset as offset, the batch's ranges as metadata (streams/ranges.py); the broker refuses a
                member that is no longer the owner
    insert      one insert a topic, with the batch's token: a repeated one counts once
    finish      an offset commit: what follows the batch

After a crash or a rebalance what was announced and not finished is formed again, exactly so, and inserted with the same token: it
is there already, or it is not, and both are right. So a committed offset says: everything before it is in ClickHouse.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from aiokafka.structs import ConsumerRecord, OffsetAndMetadata
from confluent_kafka import KafkaException
from faust.types import TP
from prometheus_client import REGISTRY

from infra import logs
from infra.clickhouse.rows import Poison, Record
from infra.clickhouse.writer import Unavailable, Writer, without_dataframes
from infra.errors import UserError
from infra.probe import Probe, Pulse
from infra.settings import Settings
from schemas import topics
from streams.app import make_app, member_of, raw_topic, run_app, setup
from streams.driver import App, NotOwner, Positions, Thread
from streams.envelope import seal
from streams.gaps import Gaps
from streams.hands import Hands
from streams.lag import group_of
from streams.lanes import Lane, Lanes
from streams.letters import dead_letter
from streams.log_reader import LogReader, Place
from streams.ranges import Batch, announced
from streams.sender import Sender, Undelivered
from streams.vitals import Counts, Metrics, Vitals

T = TypeVar("T")
log = logs.get(__name__)

NAME = "history"
GATHER_S = 0.4
"""How long records gather before an insert: one costs ClickHouse about 5 ms, however few rows it has."""
GATHER_MOST_S = 3.0
GATHER_QUICK_S = 0.1
"""The same at the end of a run, and behind a batch that had been waiting."""
SHARE = 3
"""A flush is followed by a pause of at least so many times its length: history takes what is left of the machine, not more. Where
it is behind, it goes on at once."""
FETCH_BYTES = 64 * 1024
FETCH_WAIT_MS = 250
"""A fetch over all partitions costs milliseconds: the broker gathers for us, at most so long."""
PATIENCE = 3.0
"""Sessions: nobody waits for history to be taken over, and on a starved machine a short one would end again and again."""
CHUNK = 2_000
RETRY_S = (0.2, 0.5, 1.0, 2.0)
REFUSED_S = 60.0
"""Commits that are refused for so long without a rebalance end the process."""


class Superseded(Exception):
    """The partitions have gone on to another epoch: drop what belongs to this one."""


class History:
    def __init__(self, app: App, settings: Settings, writer: Writer, reader: LogReader) -> None:
        self.app, self.writer, self.reader = app, writer, reader
        self.settings = settings
        self.counts = Counts()
        self.pulse = Pulse("the writing loop", 90.0)
        self.trouble: str | None = "no partitions are assigned yet"
        self.quiet = False
        self._gaps = Gaps(app, settings.bootstrap, self.counts)
        self._vitals = Vitals(NAME, member_of(NAME, settings), self.counts, self.problems)
        self._lanes = Lanes()
        self._epoch = 0
        self._generation = -1
        self._open = asyncio.Event()
        self._closing = False
        self._flushing = asyncio.Lock()
        self._assigning: asyncio.Task[None] | None = None
        self._inserts = Hands(3, "insert")
        self._reads = Hands(1, "read")
        self._outputs = Sender(settings.bootstrap, member_of(NAME, settings))
        app.agent(raw_topic(app, *(topic.name for topic in topics.ALL)), name=NAME)(self.take)
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_partitions_assigned.connect(self._on_assigned)
        app.task(self.write)
        app.task(self.beat)
        app.background.append(self.watch)
        app.positions = self._positions
        app.drain = self.drain
        app.on_quiet = self.fall_silent

    # -- take

    async def take(self, stream: Any) -> None:
        self._gaps.queue = stream.channel.queue
        async for event in stream.noack().events():
            for message in event.message.records:
                lane = self._lanes.get((message.topic, message.partition))
                if lane is not None and message.offset == lane.next and self._lanes.room.is_set():
                    self._lanes.append(lane, _record(message))
                else:
                    await self._take_slowly(message)

    async def _take_slowly(self, message: ConsumerRecord) -> None:
        place = (message.topic, message.partition)
        while True:
            await self._open.wait()
            lane = self._lanes.get(place)
            if lane is None or message.offset < lane.next:
                return  # not ours, or a replay
            if not self._lanes.room.is_set():
                await self._lanes.room.wait()
            elif message.offset > lane.next:
                await self._read_on(place, lane, message.offset - 1)
            else:
                self._lanes.append(lane, _record(message))
                return

    async def _read_on(self, place: Place, lane: Lane, last: int) -> None:
        """Faust has skipped records, or the log does not hold them any more: the log itself tells."""
        try:
            records, next_ = await self._read(place, lane.next, last)
        except (KafkaException, TimeoutError) as error:
            log.warning("a gap could not be read, trying again", topic=place[0], partition=place[1], why=str(error))
            await asyncio.sleep(RETRY_S[0])
            return
        if self._lanes.get(place) is not lane:
            return
        for record in records:
            self._lanes.append(lane, record)
        lane.next = next_
        self.counts.recovered_gaps += 1
        self.counts.recovered_records += len(records)
        log.info("read past a gap", topic=place[0], partition=place[1], records=len(records), up_to=next_ - 1)

    def _positions(self) -> dict[TP, int]:
        """Where Faust shall read on: where the lanes stand. Before they are open by its own lights, and `take` mends the rest:
        asking the broker for it here would hang, or fail, with a broker that ends in the middle of a rebalance."""
        return {TP(*place): lane.next for place, lane in self._lanes.items()}

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._open.is_set() and self._lanes.room.is_set() and not self._closing and not self.app.rebalancing:
                await self._gaps.watch(self._positions)
            else:
                self._gaps.reset()

    # -- assignments

    async def _on_revoked(self, *_args: Any, **_kwargs: Any) -> None:
        self._forget()

    async def _on_assigned(self, *args: Any, **_kwargs: Any) -> None:
        assigned: set[TP] = args[1]  # after the sender
        self._forget()
        self._generation = self.app.consumer_generation_id
        self._assigning = asyncio.create_task(self._begin(self._epoch, [(tp.topic, tp.partition) for tp in sorted(assigned)]))
        self._assigning.add_done_callback(self._begun)

    def _forget(self) -> None:
        """What is in memory is in Kafka; what is announced is with whoever comes next."""
        self._epoch += 1
        self._open.clear()
        self._lanes.forget()
        self.counts.committed_at = None
        self.trouble = "partitions are on their way"
        if self._assigning is not None:
            self._assigning.cancel()

    def _begun(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Superseded):
            self.app.process.fail(error)

    async def _begin(self, epoch: int, places: list[Place]) -> None:
        """Finishes what a predecessor has announced, then opens the lanes."""
        await self._by_clickhouse(epoch, self.writer.check)
        committed = await self._patiently(epoch, lambda: self._in_reader(self.reader.committed, places))
        batches = {}
        starts = {}
        for place in places:
            offset, metadata = committed.get(place, (-1, ""))
            try:
                batch = announced(*place, offset, metadata)
            except ValueError as error:
                raise UserError(
                    f"history cannot go on in {place[0]}/{place[1]}",
                    f"its committed offset carries metadata that history did not write: {error}",
                    f"see who else commits for the group {group_of(NAME)}; a throw-away store starts anew with --fresh",
                ) from error
            if batch is not None:
                batches[batch.token] = batch
                starts[place] = batch.ranges[place[1]].last + 1
                continue
            low = await self._patiently(epoch, lambda place=place: self._in_reader(self.reader.low, *place))  # type: ignore[misc]
            if 0 <= offset < low:
                log.error("retention was faster than history", topic=place[0], partition=place[1], lost=low - offset)
            starts[place] = max(offset, low)
        for batch in batches.values():
            records = await self._patiently(epoch, lambda batch=batch: self._form_again(batch))  # type: ignore[misc]
            await self._insert(epoch, batch, records)
        if batches:
            ours = {(batch.topic, p) for batch in batches.values() for p in batch.ranges}
            await self._commit(epoch, {place: (starts[place], "") for place in places if place in ours})
            log.info("finished what was announced", batches=len(batches))
        self._check(epoch)
        self._lanes.open(starts)
        self.trouble = None
        self._open.set()
        log.info("partitions are open", partitions=len(places), generation=self._generation)

    async def _form_again(self, batch: Batch) -> list[Record]:
        found: list[Record] = []
        for partition, (first, last) in sorted(batch.ranges.items()):
            at = first
            while at <= last:
                records, at = await self._read((batch.topic, partition), at, last)
                found += records
        return found

    # -- write

    async def write(self) -> None:
        pause = GATHER_S
        while not self._closing:
            self.pulse.beat()
            try:
                await asyncio.wait_for(self._lanes.work.wait(), 5.0)
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_QUICK_S if self.quiet else pause)
            began, behind = time.monotonic(), self._lanes.behind
            async with self._flushing:
                await self.flush()
            pause = min(GATHER_MOST_S, max(GATHER_S, SHARE * (time.monotonic() - began)))
            if behind:
                pause = GATHER_QUICK_S

    async def flush(self) -> None:
        """Everything that waits, in batches of one topic each; nothing when the partitions go meanwhile."""
        epoch = self._epoch
        chosen = self._lanes.form()
        if not chosen:
            return
        began = time.monotonic()
        announce, finish = {}, {}
        for batch, _ in chosen:
            for partition, (first, last) in batch.ranges.items():
                announce[batch.topic, partition] = (first, batch.metadata)
                finish[batch.topic, partition] = (last + 1, "")
        try:
            await self._commit(epoch, announce)
            await asyncio.gather(*(self._insert(epoch, batch, records) for batch, records in chosen))
            await self._commit(epoch, finish)
        except Superseded:
            return
        self._lanes.written(chosen)
        self.counts.flushed(time.monotonic() - began)

    async def _insert(self, epoch: int, batch: Batch, records: Sequence[Record]) -> None:
        """Until ClickHouse has it. Raises Superseded."""
        if not records:
            return
        poison = await self._by_clickhouse(epoch, self.writer.insert, batch.topic, records, batch.token)
        if self._open.is_set():
            self.trouble = None
        self.counts.processed[batch.topic] += len(records)
        self.counts.last_at[batch.topic] = time.monotonic()
        for one in poison:
            await self._dead_letter(epoch, batch.topic, one)

    async def _by_clickhouse(self, epoch: int, call: Callable[..., T], *args: Any) -> T:
        """Until ClickHouse answers. Raises Superseded."""
        tried = 0
        while True:
            self._check(epoch)
            self.pulse.beat()
            try:
                found = await self._inserts.do(call, *args)
                break
            except Unavailable as error:
                if not tried:
                    log.warning("ClickHouse does not take rows, trying until it does", why=str(error))
                self.trouble = f"ClickHouse: {error}"
                await asyncio.sleep(RETRY_S[min(tried, len(RETRY_S) - 1)])
                tried += 1
        self._check(epoch)
        if tried:
            log.info("ClickHouse takes rows again", attempts=tried + 1)
        return found

    async def _dead_letter(self, epoch: int, topic: str, poison: Poison) -> None:
        self.counts.dead_letters += 1
        partition, offset, _, _, value, _ = poison.record
        log.warning("no event of its topic", topic=topic, partition=partition, offset=offset, why=str(poison.error))
        if topic != topics.DEAD_LETTERS.name:  # its own row tells; a letter about a letter would never end
            letter = dead_letter(NAME, topic, partition, offset, value, poison.error)
            await self._patiently(epoch, lambda: self._send(letter))

    async def _commit(self, epoch: int, offsets: Mapping[Place, tuple[int, str]]) -> None:
        """By the owner or not at all: until the broker has it. Raises Superseded."""
        wanted = {TP(*place): OffsetAndMetadata(offset, metadata) for place, (offset, metadata) in offsets.items()}
        began = time.monotonic()
        tried = 0
        while True:
            self._check(epoch)
            self.pulse.beat()
            try:
                await cast(Thread, cast(Positions, self.app.consumer)._thread).commit_as(self._generation, wanted)
                self.counts.committed_at = time.monotonic()
                self._check(epoch)
                return
            except NotOwner as error:
                if time.monotonic() - began > REFUSED_S:
                    self.app.process.fail(RuntimeError(f"commits are refused for {REFUSED_S:.0f} s: {error}"))
                    raise Superseded from error
                log.warning("a commit was refused", why=str(error), tried=tried)
                await asyncio.sleep(RETRY_S[min(tried, len(RETRY_S) - 1)])
                tried += 1

    # -- the end, and signs of life

    async def drain(self) -> None:
        """What was taken is inserted and committed; what was not is read by the successor."""
        self._closing = True
        self._lanes.room.clear()
        async with self._flushing:
            while self._lanes.waiting:
                await self.flush()
                self._lanes.room.clear()
        log.info("drained", rows=self.counts.processed.total())

    def fall_silent(self) -> None:
        """The run ends: no more records of our own, and no waiting for more of others."""
        self.quiet = True
        self._lanes.work.set()

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            if not self.quiet and not self._closing:
                try:
                    await self._send(self._vitals.heartbeat())
                except Undelivered as error:
                    log.warning("no heartbeat", why=str(error))

    def problems(self) -> list[str]:
        return [self.trouble] if self.trouble else []

    def metrics(self) -> Metrics:
        return Metrics(NAME, self.counts, self._lag, lambda: (self._lanes.waiting, self._lanes.count))

    def _lag(self) -> dict[str, int]:
        """Records not taken yet, by the end offsets that the last fetch told; from any thread."""
        found: dict[str, int] = {}
        for tp, offset in self._positions().items():
            found[tp.topic] = found.get(tp.topic, 0) + max(0, (self.app.consumer.highwater(tp) or offset) - offset)
        return found

    # -- helpers

    async def _send(self, event: Any) -> None:
        topic, key, value, partition, headers = seal(event, NAME)
        await self._outputs.send_and_wait(topic, key, value, partition, headers)

    def _check(self, epoch: int) -> None:
        if epoch != self._epoch:
            raise Superseded

    async def _patiently(self, epoch: int, ask: Callable[[], Awaitable[T]]) -> T:
        """Until the broker answers. Raises Superseded."""
        tried = 0
        while True:
            self._check(epoch)
            self.pulse.beat()
            try:
                found = await ask()
                self._check(epoch)
                return found
            except (KafkaException, Undelivered, TimeoutError) as error:
                self.trouble = f"Kafka: {error}"
                log.warning("the log does not answer, trying until it does", why=str(error))
                await asyncio.sleep(RETRY_S[min(tried, len(RETRY_S) - 1)])
                tried += 1

    async def _read(self, place: Place, first: int, last: int) -> tuple[list[Record], int]:
        return await self._in_reader(self.reader.read, *place, first, last, CHUNK)

    async def _in_reader(self, call: Callable[..., T], *args: Any) -> T:
        return await self._reads.do(call, *args)


def _record(message: ConsumerRecord) -> Record:
    return Record(message.partition, message.offset, message.timestamp, message.key, message.value, message.headers)


def main(settings: Settings) -> None:
    """Runs until SIGTERM."""
    early: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: early.append(number))  # it would end us until Faust's handler is there
    setup()
    for noisy in ("clickhouse_connect", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)  # we tell it once, and when it is over
    without_dataframes()
    app = make_app(NAME, settings, patience=PATIENCE)
    app.fetch_min_bytes, app.fetch_wait_ms = FETCH_BYTES, FETCH_WAIT_MS
    writer = Writer(settings.clickhouse, settings.clickhouse_database, topics.ALL)
    history = History(app, settings, writer, LogReader(settings.bootstrap, group_of(NAME)))
    REGISTRY.register(history.metrics())
    probe = Probe(settings.probe_port, live=history.pulse.problems, ready=history.problems, host=settings.host)
    probe.start()
    history.quiet = bool(early)
    try:
        run_app(app)
    finally:
        probe.stop()
