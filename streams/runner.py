"""The one wrapper around every stage: take a record, decode, decide, send, remember where it stands.

Never goes on over a hole: the next expected offset of every input partition comes from the stage's own state. What is smaller is a
replay, what is larger is a gap that Faust did not deliver, and the broker is asked what really comes next. Outputs leave at once;
state follows every `state_flush_s`, after the outputs are acknowledged (streams/keeper.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from aiokafka.structs import ConsumerRecord

from infra import logs
from infra.settings import Settings
from processors.step import Context
from schemas import topics
from schemas.policy import Policy
from streams.app import member_of, raw_topic
from streams.driver import App
from streams.envelope import Cause, Undecodable, cause_of, decode, seal
from streams.gaps import Gaps
from streams.keeper import Era, Keeper
from streams.letters import dead_letter
from streams.market_clock import STEP_MS, MarketClock, Place, RunsAhead, time_of
from streams.policy import PolicyReader
from streams.sender import Oversized, Sender, Undelivered
from streams.shares import Share
from streams.stage import Stage
from streams.vitals import Counts

log = logs.get(__name__)
SILENT_S = 6.0
BEHIND_S = 15.0
"""What is decided so late is stale: the worker is too slow for the street, or catches up."""
TIME = (topics.MARKET_TRADES.name, topics.MARKET_MARKS.name)
"""Topics that bring time: when they fall silent, nobody knows what time it is."""


class Misplaced(Exception):
    """A record under another key than its own, or in a partition that is not its key's: another member may hold that, and two
    would fold it."""


class Runner:
    """Binds a stage to a Faust app; is the outbox of its effects."""

    def __init__(self, stage: Stage, app: App, settings: Settings) -> None:
        self.stage, self.app = stage, app
        self.counts = Counts()
        self.policy_reader = PolicyReader(settings.bootstrap) if stage.needs_policy else None
        self.outputs = Sender(settings.bootstrap, member_of(stage.name, settings), linger_ms=stage.linger_ms)
        self.keeper = Keeper(stage, app, settings, self.outputs, self.counts, self)
        self.gaps = Gaps(app, settings.bootstrap, self.counts)
        self.clock = MarketClock(settings.bootstrap)
        self._account = settings.account
        self._widths = {topic.name: topic.partitions for topic in stage.inputs}
        self._default_policy = (0, Policy())
        app.agent(raw_topic(app, *self._widths), name=stage.name)(self._agent())
        app.background += [self._attach, self._watch]

    async def _attach(self) -> None:
        if self.stage.observer is not None:
            self.stage.observer.attach(self)

    # -- the record's way

    def _agent(self) -> Any:
        async def take_all(stream: Any) -> None:
            self.gaps.queue = stream.channel.queue
            try:
                async for event in stream.noack().events():
                    batch = event.message
                    for record in batch.records:
                        await self._take(batch.generation_id, record)
            except Exception as e:  # the agent's outermost loop: whatever gets here ends the process by name
                self.app.process.fail(e)

        return take_all

    async def _take(self, generation: int, message: ConsumerRecord) -> None:
        """Ours, of this assignment, and the next one: else it is dropped, or the gap before it is closed."""
        era = self.keeper.era
        if era is None or generation != era.generation:
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
            if self.keeper.era is era and found != expected:
                await self._leap(share, topic, expected, found)
            if self.keeper.era is not era or found != offset:
                return
        await self._apply(era, share, message)

    async def _apply(self, era: Era, share: Share, message: ConsumerRecord) -> None:
        topic, partition, offset, value = message.topic, message.partition, message.offset, message.value
        changes: list[tuple[Share, str, Any]] = []
        event: Any = None
        come_to = 0
        if value is not None:
            try:
                event = decode(topic, value)
                if topics.BY_NAME[topic].key is topics.Key.NAME and message.key != (own := topics.route(event)[1]):
                    raise Misplaced(f"its key is {message.key!r}, not {own!r}")
                come_to = await self._come_to(era, event, message)
                if self.keeper.era is not era:
                    return
                if self.stage.prepare is not None:
                    await self.stage.prepare(event, MappingProxyType(era.states))
                    if self.keeper.era is not era:
                        return
                cause = cause_of(event.event_id, topic, partition, offset, message.headers, message.timestamp)
                changes, events = self._decide(era, share, event, topic, offset, cause.trace_id)
                if events:
                    await self._send_all(era, events, cause)
            except Undelivered:
                raise
            except Exception as e:  # what fails on this record fails on it again: poison, and the stage goes on behind it
                if not isinstance(e, Undecodable | Oversized | Misplaced | RunsAhead):
                    log.error("a decision failed", topic=topic, partition=partition, offset=offset, exc_info=e)
                changes, come_to = [], 0
                await self._bury(message, e)
        if self.keeper.era is not era:
            return
        # no await from here on: a flush sees all of this record or nothing
        observer = self.stage.observer
        for target, key, state in changes:
            target.put(key, state, topic, offset)
            if state is None:
                era.states.pop(key, None)
            else:
                era.states[key] = state
            if observer is not None and target.partition in era.live:
                observer.on_state(key, state)
        share.next[topic] = offset + 1
        if come_to > share.market_at:
            share.market_at, era.market_at = come_to, max(come_to, era.market_at)
        self.counts.processed[topic] += 1
        self.counts.last_at[topic] = time.monotonic()
        self.counts.record_at[topic] = message.timestamp / 1000
        if era.behind:
            self._catch_up(era, share)
        if event is not None and self.stage.written_first(event):
            await self.keeper.flush()

    async def _come_to(self, era: Era, event: Any, message: ConsumerRecord) -> int:
        """The market time that is reached with this record; 0 when it proves none. Raises RunsAhead."""
        if topics.BY_NAME[message.topic].wall:
            return 0
        at = time_of(event)
        if at > era.market_at + STEP_MS:
            place = Place(message.topic, message.partition, message.offset, message.timestamp)
            return at if await self.clock.check(at, era.market_at, place) else 0
        return at

    def _decide(
        self, era: Era, share: Share, event: Any, topic: str, offset: int, trace_id: str
    ) -> tuple[list[tuple[Share, str, Any]], list[Any]]:
        """What the stage's step says, for each key that has not seen this record yet. Changes no state.

        A record of a one-partition topic may concern keys of any partition: the stage then holds them all.
        """
        stage = self.stage
        wide = self._widths[topic] == stage.partitions
        version, policy = self.policy()
        states = MappingProxyType(era.states)
        changes: list[tuple[Share, str, Any]] = []
        events: list[Any] = []
        for key in stage.keys(event, share.known if wide else sorted(era.states)):
            home = stage.home(key)
            if wide and home != share.partition:
                raise Misplaced(f"{key} belongs to partition {home}, this record stands in {share.partition}")
            target = era.shares[home]
            if target.replayed(key, topic, offset):
                continue
            before = target.state(key)
            context = Context(topic, share.partition, offset, policy, version, self._account, states, trace_id, key)
            state, out = stage.step(before, event, context)
            changes.append((target, key, state))
            events.extend(out)
        if events:
            context = Context(topic, share.partition, offset, policy, version, self._account, states, trace_id)
            events = list(stage.gather(event, events, context))
        return changes, events

    async def _send_all(self, era: Era, events: Sequence[Any], cause: Cause) -> None:
        """All of them are made before the first leaves, so that those of one partition leave together."""
        for event, out in [(event, seal(event, self.stage.name, cause)) for event in events]:
            topic, key, value, partition, headers = out
            gathered = topics.BY_NAME[topic].unhurried
            await self.outputs.send(topic, key, value, partition, headers, gathered=gathered)
            if self.stage.tombstone_after(event):
                await self.outputs.send(topic, key, None, partition, headers, gathered=gathered)
            if self.keeper.era is not era:
                return

    async def _bury(self, message: ConsumerRecord, error: Exception) -> None:
        """To dead.letters, acknowledged before the record counts as taken."""
        self.counts.dead_letters += 1
        letter = dead_letter(self.stage.name, message.topic, message.partition, message.offset, message.value, error)
        await self.send_now(letter, cause_of(letter.event_id, message.topic, message.partition, message.offset, message.headers))

    async def _leap(self, share: Share, topic: str, expected: int, found: int) -> None:
        """The broker itself has nothing between: compaction, or retention. Told; on a topic that keeps all, a dead letter too."""
        share.next[topic] = found
        if topics.BY_NAME[topic].compacted:
            log.info("compacted away", topic=topic, partition=share.partition, first=expected, next=found)
            return
        self.counts.dead_letters += 1
        log.error("records are gone from the broker", topic=topic, partition=share.partition, first=expected, next=found)
        gone = LookupError(f"offsets {expected} to {found - 1} are gone from the broker")
        await self.send_now(dead_letter(self.stage.name, topic, share.partition, expected, None, gone))

    # -- what the keeper tells

    def begun(self, era: Era) -> None:
        self.gaps.reset()
        for partition, share in era.shares.items():
            if partition not in era.behind:
                self._go_live(era, share)

    def ended(self, era: Era) -> None:
        live, era.live, era.behind = sorted(era.live), set(), {}
        if self.stage.observer is not None:
            for partition in live:
                self.stage.observer.on_revoked(partition)

    def _catch_up(self, era: Era, share: Share) -> None:
        waiting = era.behind.get(share.partition)
        if waiting is not None and all(share.next[topic] >= end for topic, end in waiting.items()):
            del era.behind[share.partition]
            self._go_live(era, share)

    def _go_live(self, era: Era, share: Share) -> None:
        era.live.add(share.partition)
        if self.stage.observer is not None:
            self.stage.observer.on_live(share.partition, share.states())

    # -- the outbox of effects

    async def send_now(self, event: Any, cause: Cause | None = None) -> None:
        topic, key, value, partition, headers = seal(event, self.stage.name, cause)
        await self.outputs.send_and_wait(topic, key, value, partition, headers)

    async def prove_ownership(self, partition: int) -> None:
        await self.keeper.prove_ownership(partition)

    def is_current(self, topic: str, partition: int) -> bool:
        era = self.keeper.era
        share = era.shares.get(partition) if era is not None else None
        return era is not None and share is not None and share.next[topic] > era.ends[topic, partition]

    def policy(self) -> tuple[int, Policy]:
        return self.policy_reader.current() if self.policy_reader else self._default_policy

    # -- how we are

    async def _watch(self) -> None:
        """A record that Faust has lost at the quiet end of a topic shows by no later one: the end offset tells."""
        while True:
            await asyncio.sleep(1.0)
            if not self.app.rebalancing:
                await self.gaps.watch(self.keeper.positions)
                await self.keeper.check_membership()

    def problems(self) -> list[str]:
        """Why we are not ready; from any thread."""
        found = []
        era = self.keeper.era
        if era is None and not (self.keeper.standby and self.stage.single):
            found.append("no partitions yet, or their state is loading")
        if self.policy_reader is not None and not self.policy_reader.ready:
            found.append("the policy is not read yet")
        if era is not None:
            now = time.monotonic()
            ages = {topic: now - self.counts.last_at.get(topic, float("-inf")) for topic in TIME if topic in self._widths}
            found += [f"no record of {topic} for {age:.0f} s" for topic, age in ages.items() if age > SILENT_S]
            late = {topic: (n, self.counts.behind_s(topic)) for topic, n in self.lag().items() if n}
            found += [f"{s:.0f} s behind: {n} records of {topic} wait" for topic, (n, s) in late.items() if s > BEHIND_S]
            found += [f"partition {p} is catching up with its own outputs" for p in sorted(era.behind)]
        return found

    def lag(self) -> dict[str, int]:
        """Of our partitions, by the end offsets that the last fetch told; from any thread."""
        found = dict.fromkeys(self._widths, 0)
        for tp, offset in (self.keeper.positions() or {}).items():
            end = self.app.consumer.highwater(tp)
            found[tp.topic] += max(0, (end or offset) - offset)
        return found

    def sizes(self) -> tuple[int, int]:
        """Deliveries under way, states held."""
        era = self.keeper.era
        return self.outputs.pending.left, len(era.states) if era else 0
