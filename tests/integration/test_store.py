"""The state store on a real broker: what is written comes back, zombies lose, replays count once, unknown state stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from streams.shares import Share, StateRecord, snapshot
from streams.store import Loaded, StateStore, state_topic, state_topic_spec

pytestmark = pytest.mark.broker


class Tally(msgspec.Struct, frozen=True):
    version: int = 1
    n: int = 0


class Bench:
    """A store over two inputs of our own, with a plain producer."""

    def __init__(self, kafka: EmbeddedKafka, unique: str) -> None:
        self.bootstrap, self.stage = kafka.bootstrap, unique
        self.inputs = {f"{unique}.a": 2, f"{unique}.b": 2}
        ensure_topics(self.bootstrap, [*(TopicSpec(t, 2) for t in self.inputs), state_topic_spec(unique, 2)])
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})

    @property
    def a(self) -> str:
        return f"{self.stage}.a"

    @property
    def b(self) -> str:
        return f"{self.stage}.b"

    def store(self, version: int = 1) -> StateStore:
        return StateStore(self.stage, Tally, version, self.inputs, self.bootstrap, self.send)

    async def send(self, record: StateRecord) -> int:
        return self.write(state_topic(self.stage), record.partition, record.key, record.value, dict(record.headers))

    def write(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes] | None = None
    ) -> int:
        told: list[int] = []
        self.producer.produce(
            topic,
            value,
            key,
            partition=partition,
            headers=list((headers or {}).items()),
            on_delivery=lambda _, message: told.append(message.offset() or 0),
        )
        assert self.producer.flush(20) == 0
        return told[0]

    async def flush(self, loaded: Loaded, seq: int, *, positions: bool = True) -> None:
        found = snapshot(loaded.shares, loaded.epoch, seq)
        for record in found.values + (found.positions if positions else []):
            await self.send(record)


@pytest.fixture
def bench(kafka: EmbeddedKafka, unique: str) -> Bench:
    return Bench(kafka, unique)


def take(share: Share, key: str, topic: str, offset: int) -> None:
    """Counts the record unless it is a replay; moves the position."""
    if not share.replayed(key, topic, offset):
        state = share.state(key) or Tally()
        share.put(key, Tally(n=state.n + 1), topic, offset)
    share.next[topic] = offset + 1


async def test_what_is_written_comes_back(bench: Bench) -> None:
    first = await bench.store().load([0, 1])
    assert (first.epoch, sorted(first.shares)) == (1, [0, 1])
    for offset in range(3):
        take(first.shares[0], "x", bench.a, offset)
    take(first.shares[1], "y", bench.b, 0)
    await bench.flush(first, 1)
    again = await bench.store().load([0, 1])
    assert again.epoch == 2
    assert again.shares[0].states() == {"x": Tally(n=3)}
    assert again.shares[1].states() == {"y": Tally(n=1)}
    assert again.shares[0].next == {bench.a: 3, bench.b: 0}
    assert again.shares[1].next == {bench.a: 0, bench.b: 1}


async def test_only_the_partitions_asked_for_are_claimed(bench: Bench) -> None:
    await bench.store().load([0, 1])
    assert (await bench.store().load([1])).epoch == 2
    assert (await bench.store().load([0])).epoch == 2
    assert (await bench.store().load([0, 1])).epoch == 3


async def test_a_zombies_late_value_loses_against_a_newer_era(bench: Bench) -> None:
    zombie = await bench.store().load([0])
    take(zombie.shares[0], "x", bench.a, 0)
    owner = await bench.store().load([0])
    for offset in range(5):
        take(owner.shares[0], "x", bench.a, offset)
    await bench.flush(owner, 1)
    await bench.flush(zombie, 9)
    heir = await bench.store().load([0])
    assert heir.shares[0].states() == {"x": Tally(n=5)}
    assert heir.shares[0].next[bench.a] == 5
    assert list(heir.shares[0].dirty) == ["x"], "compaction would keep the zombie's value: it is written anew"


async def test_a_zombies_value_of_an_untouched_key_counts_and_its_replays_are_skipped(bench: Bench) -> None:
    zombie = await bench.store().load([0])
    await bench.store().load([0])
    for offset in range(2):
        take(zombie.shares[0], "x", bench.a, offset)
    await bench.flush(zombie, 1)
    heir = await bench.store().load([0])
    share = heir.shares[0]
    assert share.next[bench.a] == 0
    for offset in range(3):
        take(share, "x", bench.a, offset)
    assert share.states() == {"x": Tally(n=3)}


async def test_a_crash_between_values_and_positions_counts_nothing_twice_over_joined_inputs(bench: Bench) -> None:
    first = await bench.store().load([0])
    share = first.shares[0]
    take(share, "x", bench.a, 0)
    await bench.flush(first, 1)
    take(share, "x", bench.b, 0)
    take(share, "x", bench.a, 1)
    take(share, "z", bench.b, 1)
    await bench.flush(first, 2, positions=False)
    heir = await bench.store().load([0])
    share = heir.shares[0]
    assert share.next == {bench.a: 1, bench.b: 0}
    for key, topic, offset in (("x", bench.a, 1), ("x", bench.b, 0), ("z", bench.b, 1), ("x", bench.b, 2)):
        take(share, key, topic, offset)
    assert share.states() == {"x": Tally(n=4), "z": Tally(n=1)}


async def test_a_forgotten_key_stays_forgotten_and_its_events_are_no_news(bench: Bench) -> None:
    zombie = await bench.store().load([0])
    take(zombie.shares[0], "x", bench.a, 0)
    owner = await bench.store().load([0])
    share = owner.shares[0]
    take(share, "x", bench.a, 0)
    share.put("x", None, bench.a, 1)
    await bench.flush(owner, 1, positions=False)
    await bench.flush(zombie, 1)
    heir = await bench.store().load([0])
    share = heir.shares[0]
    assert not share.known
    assert share.replayed("x", bench.a, 0)
    assert share.replayed("x", bench.a, 1)
    assert not share.replayed("x", bench.a, 2)


async def test_two_that_claim_at_the_same_time_get_different_epochs(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.store().load([0, 1]) for _ in range(3)))
    assert len({loaded.epoch for loaded in found}) == 3


async def test_state_of_an_unknown_version_stops_the_worker(bench: Bench) -> None:
    first = await bench.store().load([0])
    take(first.shares[0], "x", bench.a, 0)
    await bench.flush(first, 1)
    with pytest.raises(UserError, match=r"key x.*\nwhy:  it is of version 1, this worker knows 2"):
        await bench.store(version=2).load([0])


async def test_bytes_that_are_no_state_stop_the_worker(bench: Bench) -> None:
    bench.write(state_topic(bench.stage), 0, b"x", b"\xff")
    with pytest.raises(UserError, match="offset 0 cannot be read"):
        await bench.store().load([0])


async def test_a_broker_that_is_away_is_a_user_error(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.broker.admin.REQUEST_S", 1.0)

    async def never(_: StateRecord) -> int:
        raise AssertionError

    store = StateStore(unique, Tally, 1, {"a": 1}, "127.0.0.1:9", never)
    with pytest.raises(UserError, match="does not answer"):
        await store.load([0])


async def test_a_position_that_retention_has_overtaken_moves_to_what_is_left(bench: Bench) -> None:
    for _ in range(10):
        bench.write(bench.a, 0, None, b"x")
    first = await bench.store().load([0])
    take(first.shares[0], "x", bench.a, 0)
    await bench.flush(first, 1)
    admin = AdminClient({"bootstrap.servers": bench.bootstrap})
    for future in admin.delete_records([TopicPartition(bench.a, 0, 6)]).values():
        future.result(20)
    heir = await bench.store().load([0])
    assert heir.shares[0].next == {bench.a: 6, bench.b: 0}
    assert heir.ends == {(bench.a, 0): 10, (bench.b, 0): 0}
