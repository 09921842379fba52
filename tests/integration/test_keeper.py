"""A flush that was not written to its end: nothing may be written behind it, or a position would stand before its values."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.broker.admin import TopicSpec, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.broker.reading import read_all
from infra.settings import load
from processors.step import Step
from schemas import topics
from streams.keeper import Era, Keeper
from streams.sender import Sender, Undelivered
from streams.shares import Share
from streams.stage import Stage
from streams.store import Loaded, state_topic, state_topic_spec
from streams.vitals import Counts

FILLS = topics.TRADE_FILLS


class State(msgspec.Struct, frozen=True):
    version: int = 1
    n: int = 0


class Nobody:
    def begun(self, era: Era) -> None: ...
    def ended(self, era: Era) -> None: ...


def keeper_of(kafka: EmbeddedKafka, stage: str, outputs: Sender) -> tuple[Keeper, Share]:
    """In the middle of an era; the group is left out."""
    signal = SimpleNamespace(connect=lambda _: None)
    app: Any = SimpleNamespace(on_partitions_revoked=signal, on_rebalance_complete=signal, background=[])
    what = Stage(stage, (FILLS,), (), State, lambda state, event, ctx: Step(state))
    ensure_topics(kafka.bootstrap, [state_topic_spec(stage)])
    keeper = Keeper(what, app, load(kafka_bootstrap=kafka.bootstrap), outputs, Counts(), Nobody())
    share = Share(0, {FILLS.name: 0})
    keeper.era = Era(1, Loaded(1, {0: share}, {(FILLS.name, 0): 0}, 0.0))
    keeper.era.committed_at = float("inf")  # no commits
    return keeper, share


def applied(share: Share, n: int) -> None:
    share.put("k", State(n=n), FILLS.name, n)
    share.next[FILLS.name] = n + 1


def stored(kafka: EmbeddedKafka, stage: str) -> list[bytes | None]:
    topic = state_topic(stage)
    return [record.key() for record in read_all(kafka.bootstrap, topic, offsets(kafka.bootstrap, [topic])[topic])]  # type: ignore[misc]


@pytest.mark.broker
def test_behind_a_refused_output_nothing_is_written_any_more(kafka: EmbeddedKafka, unique: str) -> None:
    ensure_topics(kafka.bootstrap, [TopicSpec(unique, 1, {"max.message.bytes": "1000"})])

    async def play() -> None:
        outputs = Sender(kafka.bootstrap, "outputs")
        keeper, share = keeper_of(kafka, f"{unique}-stage", outputs)
        applied(share, 0)
        await keeper.flush()
        applied(share, 1)
        await outputs.send(unique, None, os.urandom(3000), 0, [])
        with pytest.raises(Undelivered):
            await keeper.flush()
        share.next[FILLS.name] = 9  # as a record does that changes nothing
        await keeper.flush()
        await keeper.flush(commit=True)

    asyncio.run(play())
    assert stored(kafka, f"{unique}-stage") == [b"k", b"__pos"]


@pytest.mark.broker
def test_behind_a_flush_that_nobody_waited_for_nothing_is_written_any_more(kafka: EmbeddedKafka, unique: str) -> None:
    """As at a revocation, where the group gives us two seconds, and another flush has waited for its turn."""
    ensure_topics(kafka.bootstrap, [TopicSpec(unique, 1)])

    async def play() -> None:
        outputs = Sender(kafka.bootstrap, "outputs", linger_ms=3000)
        keeper, share = keeper_of(kafka, f"{unique}-stage", outputs)
        applied(share, 0)
        await outputs.send(unique, None, b"late", 0, [])
        impatient = asyncio.create_task(asyncio.wait_for(keeper.flush(), 0.5))
        await asyncio.sleep(0.1)
        share.next[FILLS.name] = 9
        waiting = asyncio.create_task(keeper.flush())
        with pytest.raises(TimeoutError):
            await impatient
        await waiting
        await asyncio.sleep(3.5)
        await keeper.flush()

    asyncio.run(play())
    assert stored(kafka, f"{unique}-stage") == []
