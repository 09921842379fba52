"""The one wrapper around every stage: take a record, decode, decide, send, remember where it stands.

Never goes on over a hole: the next expected offset of every input partition comes from the stage's own state. What is smaller is a
replay, what is larger is a gap that Faust did not deliver, and the broker is asked what really comes next. Outputs leave at once;
state follows every `state_flush_s`, after the outputs are acknowledged (streams/store.py says why that loses nothing).

An `Era` is one assignment of partitions to us. It is replaced as a whole, and after every await the work looks whether it still is
the one it began in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, cast

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import OffsetAndMetadata
from faust.exceptions import ProducerSendError
from faust.types import TP

from infra import logs
from infra.errors import UserError
from infra.settings import Settings
from processors.step import Context
from schemas import topics
from schemas.policy import Policy
from streams.app import member_of, raw_topic
from streams.driver import App, NotOwner, Positions, Thread
from streams.envelope import Cause, Undecodable, cause_of, decode, seal
from streams.gaps import Gaps
from streams.letters import dead_letter
from streams.policy import PolicyReader
from streams.shares import Share, StateRecord, snapshot
from streams.stage import Stage
from streams.store import REWRITE_S, Loaded, StateStore
from streams.vitals import Counts

log = logs.get(__name__)
MAX_PENDING = 5_000
RETRY_S = (0.05, 0.2, 1.0)
AGREE_S, LOST_S = 5.0, 30.0


class Oversized(Exception):
    """An output that no broker takes: the input that causes it is poison."""


class Era:
    """One assignment: the generation of the group, the epoch that we claimed, and all that we hold under it."""

    def __init__(self, generation: int, loaded: Loaded) -> None:
        self.generation = generation
        self.epoch = loaded.epoch
        self.shares = loaded.shares
        self.seq = 0
        self.rewritten_at = self.agreed_at = time.monotonic()
        self.live: set[int] = set()
        self.behind: dict[int, dict[str, int]] = {}
        self.uncommitted: dict[tuple[str, int], int] = {}
        self.committed = {(topic, p): offset for p, share in self.shares.items() for topic, offset in share.next.items()}
        self.states: dict[str, Any] = {}
        for share in self.shares.values():
            self.states.update(share.states())


class Runner:
    """Binds a stage to a Faust app; is the outbox of its effects."""

    def __init__(self, stage: Stage, app: App, settings: Settings) -> None:
        self.stage, self.app = stage, app
        self.counts = Counts()
        self.era: Era | None = None
        self.member = member_of(stage.name, settings)
        self.policy_reader = PolicyReader(settings.bootstrap) if stage.needs_policy else None
        inputs = {topic.name: topic.partitions for topic in stage.inputs}
        self.store = StateStore(stage.name, stage.state, stage.state_version, inputs, settings.bootstrap, self._write_state)
        self._account = settings.account
        self._flush_s = stage.flush_s or settings.state_flush_s
        self._wide = stage.partitions
        self._widths = inputs
        self._turn = 0
        self._standby = False
        self._pending: list[asyncio.Future[Any]] = []
        self._flushing, self._committing = asyncio.Lock(), asyncio.Lock()
        self._default_policy = (0, Policy())
        self.channel = raw_topic(app, *inputs)
        self.gaps = Gaps(app, settings.bootstrap, self.counts)
        app.agent(self.channel, name=stage.name)(self._agent())
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_rebalance_complete.connect(self._on_assigned)
        app.positions = self._positions
        app.drain = self._drain
        app.background += [self._attach, self._flush_forever, self._watch_forever]

    async def _attach(self) -> None:
        if self.stage.observer is not None:
            self.stage.observer.attach(self)

    # -- the agent

    def _agent(self) -> Any:
        async def take_all(stream: Any) -> None:
            self.gaps.queue = stream.channel.queue
            try:
                async for event in stream.noack().events():
                    await self._take(event.message)
            except Exception as e:  # the agent's outermost loop: whatever gets here ends the process by name
                self.app.process.fail(e)

        return take_all

    async def _take(self, message: Any) -> None:
        era = self.era
        if era is None or message.generation_id != era.generation:
            return
        share = era.shares.get(message.partition)
        if share is None:
            return
        topic, offset = message.topic, message.offset
        expected = share.next.get(topic)
        if expected is None or offset < expected:
            return
        if offset > expected:
            found = await self.gaps.close(topic, message.partition, expected, offset)
            if self.era is not era:
                return
            if found != expected:
                await self._leap(share, topic, expected, found)
            if self.era is not era or found != offset:
                return
        await self._apply(era, share, message)

    async def _apply(self, era: Era, share: Share, message: Any) -> None:
        topic, partition, offset, value = message.topic, message.partition, message.offset, message.value
        if value is not None:
            try:
                event = decode(topic, value)
                cause = cause_of(event.event_id, topic, partition, offset, message.headers)
                changes, events = self._decide(era, share, event, topic, partition, offset, cause.trace_id)
                if events:
                    await self._send_all(era, events, cause)
            except (Undecodable, Oversized) as e:
                changes = []
                await self._bury(message, e)
            except ProducerSendError:
                raise
            except Exception as e:  # a decision that fails on this record fails on it again: poison, told with its traceback
                log.error("a decision failed", topic=topic, partition=partition, offset=offset, exc_info=e)
                changes = []
                await self._bury(message, e)
            if self.era is not era:
                return
            for target, key, state in changes:
                target.put(key, state, topic, offset)
                if state is None:
                    era.states.pop(key, None)
                else:
                    era.states[key] = state
                if target.partition in era.live and self.stage.observer is not None:
                    self.stage.observer.on_state(key, state)
        share.next[topic] = offset + 1
        counts = self.counts
        counts.processed[topic] += 1
        counts.last_at[topic] = time.monotonic()
        if era.behind:
            self._catch_up(era, share)

    def _decide(
        self, era: Era, share: Share, event: Any, topic: str, partition: int, offset: int, trace_id: str
    ) -> tuple[list[tuple[Share, str, Any]], list[Any]]:
        """What the stage's step says, for each key that has not seen this record yet. Changes no state."""
        stage = self.stage
        wide = self._widths[topic] == self._wide
        version, policy = self.policy()
        context = Context(topic, partition, offset, policy, version, self._account, MappingProxyType(era.states), trace_id)
        changes: list[tuple[Share, str, Any]] = []
        events: list[Any] = []
        for key in stage.keys(event, share.known if wide else sorted(era.states)):
            target = share if wide else era.shares[stage.home(key)]
            if target.replayed(key, topic, offset):
                continue
            before = target.state(key)
            if before is None and key in era.states:
                raise RuntimeError(f"key {key} lives in another partition than {target.partition}")
            state, out = stage.step(before, event, context._replace(key=key))
            changes.append((target, key, state))
            events.extend(out)
        return changes, events

    def _catch_up(self, era: Era, share: Share) -> None:
        waiting = era.behind.get(share.partition)
        if waiting is not None and all(share.next[topic] >= end for topic, end in waiting.items()):
            del era.behind[share.partition]
            self._go_live(era, share)

    def _go_live(self, era: Era, share: Share) -> None:
        era.live.add(share.partition)
        if self.stage.observer is not None:
            self.stage.observer.on_live(share.partition, share.states())

    # -- outputs

    async def _send_all(self, era: Era, events: Sequence[Any], cause: Cause) -> None:
        for event in events:
            topic, key, value, partition, headers = seal(event, self.stage.name, cause)
            self._pending.append(await self._send(topic, key, value, partition, headers))
            if self.stage.tombstone_after(event):
                self._pending.append(await self._send(topic, key, None, partition, headers))
            if self.era is not era:
                return
        if len(self._pending) > MAX_PENDING:
            await asyncio.wait(self._pending)

    async def _send(self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Any) -> asyncio.Future[Any]:
        """Into the producer's buffer; the future is the delivery. Retried while the broker is away, then raises."""
        for pause_s in (*RETRY_S, None):
            try:
                return cast("asyncio.Future[Any]", await self.app.producer.send(topic, key, value, partition, None, headers))
            except ProducerSendError as e:
                if isinstance(e.__cause__, MessageSizeTooLargeError):
                    raise Oversized(f"a record for {topic} of {len(value or b'')} bytes") from e
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _write_state(self, record: StateRecord) -> int:
        sent = await self._send(self.store.topic, record.key, record.value, record.partition, record.headers)
        return int((await sent).offset)

    async def send_now(self, event: Any, cause: Cause | None = None) -> None:
        topic, key, value, partition, headers = seal(event, self.stage.name, cause)
        await (await self._send(topic, key, value, partition, headers))

    def policy(self) -> tuple[int, Policy]:
        return self.policy_reader.current() if self.policy_reader else self._default_policy

    async def _bury(self, message: Any, error: Exception) -> None:
        """To dead.letters, acknowledged before the record counts as taken."""
        self.counts.dead_letters += 1
        letter = dead_letter(self.stage.name, message.topic, message.partition, message.offset, message.value, error)
        await self.send_now(letter, cause_of(letter.event_id, message.topic, message.partition, message.offset, message.headers))

    async def _leap(self, share: Share, topic: str, expected: int, found: int) -> None:
        """The broker itself has nothing between: compaction, or retention. Told; on a topic that keeps all, a dead letter too."""
        compacted = topics.BY_NAME[topic].compacted
        share.next[topic] = found
        if compacted:
            log.info("compacted away", topic=topic, partition=share.partition, first=expected, next=found)
            return
        self.counts.dead_letters += 1
        log.error("records are gone from the broker", topic=topic, partition=share.partition, first=expected, next=found)
        gone = LookupError(f"offsets {expected} to {found - 1} are gone from the broker")
        await self.send_now(dead_letter(self.stage.name, topic, share.partition, expected, None, gone))

    # -- state

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Outputs, values, positions, each acknowledged before the next; then Kafka's offsets. Raises what the broker refuses."""
        async with self._flushing:
            era = self.era
            if era is None:
                return
            began = time.monotonic()
            if began - era.rewritten_at > REWRITE_S:
                era.rewritten_at = began
                for share in era.shares.values():
                    share.touch()
            era.seq += 1
            pending, self._pending = self._pending, []
            what = snapshot(era.shares, era.epoch, era.seq)
            if not (pending or what.values or what.positions or era.uncommitted):
                return
            for step in (pending, what.values, what.positions):
                waiting = [self._write_state(one) if isinstance(one, StateRecord) else one for one in step]
                await asyncio.gather(*waiting)
                if self.era is not era:
                    return
            what.done()
            era.uncommitted.update(what.next)
            await self._commit(era)
            self.counts.flushed(time.monotonic() - began)

    async def _commit(self, era: Era) -> None:
        """So that lag can be seen; nothing is read from it. A refusal is no news here: the group will tell."""
        async with self._committing:
            wanted = dict(era.uncommitted)
            if not wanted:
                return
            try:
                await self._commit_as(era, wanted)
            except NotOwner as e:
                log.info("offsets not committed", why=str(e))
                return
            era.committed.update(wanted)
            era.uncommitted = {tp: offset for tp, offset in era.uncommitted.items() if wanted.get(tp) != offset}

    async def _commit_as(self, era: Era, offsets: dict[tuple[str, int], int]) -> None:
        thread = cast(Positions, self.app.consumer)._thread
        assert isinstance(thread, Thread)
        await thread.commit_as(era.generation, {TP(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()})
        era.agreed_at = time.monotonic()

    async def prove_ownership(self, partition: int) -> None:
        era = self.era
        if era is None or partition not in era.shares:
            raise NotOwner(f"partition {partition} of {self.stage.name} is not ours")
        async with self._committing:
            await self._commit_as(era, {tp: offset for tp, offset in era.committed.items() if tp[1] == partition})
        if self.era is not era:
            raise NotOwner(f"partition {partition} of {self.stage.name} was assigned anew")

    # -- assignment

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Effects end first; then what was done is written, while the group still takes it."""
        self._turn += 1
        era = self.era
        if era is None:
            return
        self._end_effects(era)
        try:
            await asyncio.wait_for(self.flush(), 2.0)
        except TimeoutError:
            log.warning("partitions revoked before all was written; the next owner does the rest")
        self.era = None

    def _end_effects(self, era: Era) -> None:
        live, era.live, era.behind = sorted(era.live), set(), {}
        for partition in live if self.stage.observer is not None else ():
            self.stage.observer.on_revoked(partition)  # type: ignore[union-attr]

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Before Faust resumes: load and claim, so that it then seeks to where our state stands."""
        self._turn += 1
        turn, generation = self._turn, self.app.consumer_generation_id
        self.era = None
        partitions = {tp.partition for tp in self.app.consumer.assignment()}
        self._standby = not partitions
        if not partitions:
            log.info("standing by")
            return
        try:
            loaded = await self.store.load(partitions)
        except Exception as e:  # Faust would swallow it and go on without state
            self.app.process.fail(e)
            return
        if turn != self._turn or generation != self.app.consumer_generation_id:
            log.info("assigned anew while loading")
            return
        era = Era(generation, loaded)
        for partition, share in era.shares.items():
            ends = {t.name: loaded.ends[t.name, partition] for t in self.stage.catch_up if t.name in share.next}
            behind = {topic: end for topic, end in ends.items() if share.next[topic] < end}
            if behind:
                era.behind[partition] = behind
        self.gaps.reset()
        self._pending = []
        self.era = era
        log.info(
            "state loaded",
            **{"partitions": sorted(partitions), "keys": len(era.states), "epoch": era.epoch, "seconds": round(loaded.took_s, 3)},
        )
        for partition, share in era.shares.items():
            if partition not in era.behind:
                self._go_live(era, share)

    def _positions(self) -> dict[TP, int] | None:
        era = self.era
        if era is None:
            return None
        return {TP(topic, p): offset for p, share in era.shares.items() for topic, offset in share.next.items()}

    async def _watch_forever(self) -> None:
        """A record that Faust has lost at the quiet end of a topic shows by no later one: the end offset tells."""
        while True:
            await asyncio.sleep(1.0)
            era = self.era
            if era is not None and not self.app.rebalancing:
                await self.gaps.watch(self._positions() or {})
                await self._check_membership(era)

    async def _check_membership(self, era: Era) -> None:
        """Now and then a commit that advances nothing. Refused for long without a rebalance: the group has lost us, begin anew."""
        now = time.monotonic()
        if now - era.agreed_at < AGREE_S:
            return
        try:
            await self.prove_ownership(min(era.shares))
        except NotOwner as e:
            if self.era is era and now - era.agreed_at > LOST_S:
                why = f"{e}; for {now - era.agreed_at:.0f} s no commit was taken, and no rebalance came"
                raise UserError(f"{self.member} is lost to its group", why, "nothing: it starts again by itself") from e

    async def _drain(self) -> None:
        era = self.era
        if era is None:
            return
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()
        self._end_effects(era)
        await self.flush()
        log.info("drained", keys=len(era.states))

    # -- how we are

    def problems(self) -> list[str]:
        found = []
        if self.era is None and not (self._standby and self.stage.single):
            found.append("no partitions yet, or their state is loading")
        if self.policy_reader is not None and not self.policy_reader.ready:
            found.append("the policy is not read yet")
        if self.era is not None:
            found += [f"no record of {t} for {s:.0f} s" for t, s in self._silent()]
            found += [f"partition {p} is catching up with its own outputs" for p in sorted(self.era.behind)]
        return found

    def _silent(self, patience_s: float = 6.0) -> list[tuple[str, float]]:
        """Topics that bring time and have fallen silent: when ticks stop, we cannot know what time it is."""
        now, found = time.monotonic(), []
        for topic in (topics.MARKET_TRADES.name, topics.MARKET_MARKS.name):
            if topic in self._widths:
                age = now - self.counts.last_at.get(topic, float("-inf"))
                if age > patience_s:
                    found.append((topic, age))
        return found

    def lag(self) -> dict[str, int]:
        """Of our partitions, by the end offsets that the last fetch told. From any thread."""
        found = dict.fromkeys(self._widths, 0)
        for tp, offset in (self._positions() or {}).items():
            end = self.app.consumer.highwater(tp)
            found[tp.topic] += max(0, (end or offset) - offset)
        return found

    def sizes(self) -> tuple[int, int]:
        return len(self._pending), len(self.era.states) if self.era else 0
