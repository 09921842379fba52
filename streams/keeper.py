"""What a member holds and how it lasts: partitions are loaded and claimed, changes flushed, offsets committed, ownership proved.

An `Era` is one assignment of partitions to us. It is replaced as a whole, and after every await the work looks whether it still is
the one it began in. streams/store.py says why nothing is lost.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from infra import logs
from infra.errors import UserError
from infra.settings import Settings
from streams.app import member_of
from streams.driver import App, NotOwner, Positions, Thread
from streams.sender import Sender
from streams.shares import StateRecord, snapshot
from streams.stage import Stage
from streams.store import REWRITE_S, Loaded, StateStore
from streams.vitals import Counts

log = logs.get(__name__)
AGREE_S, LOST_S = 5.0, 30.0
COMMIT_S = 1.0
"""Kafka's own offsets are there to be looked at (lag): they need not follow every flush."""
REVOKED_S = 2.0


class Era:
    """One assignment: the generation of the group, the epoch that we claimed, and all that we hold under it.

    `live`: partitions that the effects know of. `behind`: what a partition must still apply before they do. `market_at`: the latest
    market time that any partition has come to. `ends`: where the inputs stood when it began. `failed`: a flush was not written to
    its end. What it held is no longer dirty, so nothing more may be written: a position would stand before it.
    """

    def __init__(self, generation: int, loaded: Loaded) -> None:
        self.generation = generation
        self.failed = False
        self.epoch = loaded.epoch
        self.shares = loaded.shares
        self.ends = loaded.ends
        self.seq = 0
        self.rewritten_at = self.agreed_at = self.committed_at = time.monotonic()
        self.live: set[int] = set()
        self.behind: dict[int, dict[str, int]] = {}
        self.committed = {(topic, p): offset for p, share in self.shares.items() for topic, offset in share.next.items()}
        # our state's word, not Kafka's: the era before may have written its position and died before the commit
        self.uncommitted = dict(self.committed)
        self.market_at = max((share.market_at for share in self.shares.values()), default=0)
        self.states: dict[str, Any] = {}
        for share in self.shares.values():
            self.states.update(share.states())


class Proof:
    """A proof of ownership that has not begun yet: who asks now may share it."""

    given: asyncio.Future[None]

    def __init__(self, era: Era) -> None:
        self.era = era
        self.partitions: set[int] = set()


class Holder(Protocol):
    """Who works with what is kept."""

    def begun(self, era: Era) -> None:
        """Loaded, and ours. Records follow."""

    def ended(self, era: Era) -> None:
        """About to be given up: effects end here and now. What was done is still flushed after it."""


class Keeper:
    """`era` is None while nothing is ours, or it is loading."""

    def __init__(self, stage: Stage, app: App, settings: Settings, outputs: Sender, counts: Counts, holder: Holder) -> None:
        self.era: Era | None = None
        self.standby = False
        self.member = member_of(stage.name, settings)
        self._stage, self._app, self._outputs, self._counts, self._holder = stage, app, outputs, counts, holder
        self._states = Sender(settings.bootstrap, f"{self.member}-state", linger_ms=1)
        self._flush_s = stage.flush_s or settings.state_flush_s
        inputs = {topic.name: topic.partitions for topic in stage.inputs}
        self._store = StateStore(stage.name, stage.state, stage.state_version, inputs, settings.bootstrap, self._write)
        self._turn = 0
        self._drained = False
        self._flushing, self._committing = asyncio.Lock(), asyncio.Lock()
        self._proof: Proof | None = None
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_rebalance_complete.connect(self._on_assigned)
        app.positions = self.positions
        app.drain = self.drain
        app.background.append(self._flush_forever)

    def positions(self) -> dict[TP, int] | None:
        """Where every input of ours goes on; None while nothing is ours."""
        era = self.era
        if era is None:
            return None
        return {TP(topic, p): offset for p, share in era.shares.items() for topic, offset in share.next.items()}

    # -- assignment

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        """Effects end first; then what was done is written, while the group still takes it."""
        self._turn += 1
        era = self.era
        if era is None:
            return
        self._holder.ended(era)
        try:
            await asyncio.wait_for(self.flush(commit=True), REVOKED_S)
        except TimeoutError:
            log.warning("partitions revoked before all was written; the next owner does the rest")
        self.era = self._counts.committed_at = None

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Before Faust resumes: load and claim, so that it then seeks to where our state stands."""
        self._turn += 1
        turn, generation = self._turn, self._app.consumer_generation_id
        if self.era is not None:
            self._holder.ended(self.era)
            self.era = None
        partitions = {tp.partition for tp in self._app.consumer.assignment()}
        self.standby = not partitions
        if not partitions:
            log.info("standing by")
            return
        try:
            loaded = await self._store.load(partitions)
        except Exception as e:  # outermost: Faust would swallow it and go on without state
            self._app.process.fail(e)
            return
        if turn != self._turn or generation != self._app.consumer_generation_id:
            log.info("assigned anew while loading")
            return
        self._outputs.take_pending()
        self.era = era = Era(generation, loaded)
        for partition, share in era.shares.items():
            ends = {t.name: loaded.ends[t.name, partition] for t in self._stage.catch_up if t.name in share.next}
            behind = {topic: end for topic, end in ends.items() if share.next[topic] < end}
            if behind:
                era.behind[partition] = behind
        took = round(loaded.took_s, 3)
        log.info("state loaded", partitions=sorted(partitions), keys=len(era.states), epoch=era.epoch, seconds=took)
        self._holder.begun(era)

    async def drain(self) -> None:
        """Before the end of the process: nothing more comes in, and what was done is written."""
        era, self._drained = self.era, True
        if era is None:
            return
        self._app.consumer.stop_flow()
        self._app.flow_control.suspend()
        self._holder.ended(era)
        await self.flush(commit=True)
        if not era.failed:
            log.info("drained", keys=len(era.states))

    # -- flush

    async def _flush_forever(self) -> None:
        while not self._drained:  # behind a drain the producer may be gone already
            await asyncio.sleep(self._flush_s)
            if not self._drained:
                await self.flush()

    async def flush(self, *, commit: bool = False) -> None:
        """Outputs, values, positions, each acknowledged before the next; then, now and then, Kafka's offsets. Raises what the
        broker refuses."""
        async with self._flushing:
            era = self.era
            if era is None or era.failed:
                return
            began = time.monotonic()
            if began - era.rewritten_at > REWRITE_S:
                era.rewritten_at = began
                for share in era.shares.values():
                    share.touch()
            # taken together, between two events: these outputs are those of these values
            pending, what = self._outputs.take_pending(), snapshot(era.shares, era.epoch, era.seq + 1)
            commit = bool(commit or began - era.committed_at > COMMIT_S)
            if not (pending or what.values or what.positions or (commit and era.uncommitted)):
                return
            era.seq += 1
            era.failed = True  # until it is all written, whatever ends this: a refusal, or whoever has no more patience
            await pending.acknowledged()
            for records in (what.values, what.positions):
                if self.era is not era:
                    return
                await self._states.send_many(self._store.topic, records)
            if self.era is not era:
                return
            era.failed = False
            what.done()
            era.uncommitted.update(what.next)
            if commit:
                era.committed_at = began
                await self._commit(era)
            self._counts.flushed(time.monotonic() - began)

    async def _write(self, record: StateRecord) -> int:
        return await self._states.send_and_wait(self._store.topic, record.key, record.value, record.partition, record.headers)

    # -- the group

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
        thread = cast(Positions, self._app.consumer)._thread
        assert isinstance(thread, Thread)
        await thread.commit_as(era.generation, {TP(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()})
        era.agreed_at = self._counts.committed_at = time.monotonic()

    async def prove_ownership(self, partition: int) -> None:
        """Commits again what is committed. Raises NotOwner when the broker, or a new assignment, says that we are not.

        A commit that begins after several have asked is the proof of all of them; who asks while one is under way has the next.
        """
        era = self.era
        if era is None or partition not in era.shares:
            raise NotOwner(f"partition {partition} of {self._stage.name} is not ours")
        proof = self._proof
        if proof is None or proof.era is not era:
            proof = self._proof = Proof(era)
            proof.given = asyncio.ensure_future(self._prove(proof))
        proof.partitions.add(partition)
        await asyncio.shield(proof.given)
        if self.era is not era:
            raise NotOwner(f"partition {partition} of {self._stage.name} was assigned anew")

    async def _prove(self, proof: Proof) -> None:
        async with self._committing:
            if self._proof is proof:  # from here on it proves nothing for whoever asks
                self._proof = None
            offsets = {tp: offset for tp, offset in proof.era.committed.items() if tp[1] in proof.partitions}
            await self._commit_as(proof.era, offsets)

    async def check_membership(self) -> None:
        """Now and then a commit that advances nothing. Refused for long without a rebalance: the group has lost us, begin anew."""
        era = self.era
        if era is None or time.monotonic() - era.agreed_at < AGREE_S:
            return
        try:
            await self.prove_ownership(min(era.shares))
        except NotOwner as e:
            silent_s = time.monotonic() - era.agreed_at
            if self.era is era and silent_s > LOST_S:
                why = f"{e}; no commit was taken for {silent_s:.0f} s, and no rebalance came"
                raise UserError(f"{self.member} is lost to its group", why, "nothing: it starts again by itself") from e
