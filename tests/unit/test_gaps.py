"""Gaps: the broker is asked once, Faust is sent back, what was on its way meanwhile is dropped, and silence is noticed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from infra.errors import UserError
from streams import gaps
from streams.gaps import Gaps
from streams.vitals import Counts

A0 = TP("a", 0)


class Consumer:
    def __init__(self) -> None:
        self.sought: list[dict[TP, int]] = []
        self.ends: dict[TP, int] = {}

    def assignment(self) -> set[TP]:
        return {A0}

    def highwater(self, tp: TP) -> int | None:
        return self.ends.get(tp)

    async def seek_wait(self, where: dict[TP, int]) -> None:
        self.sought.append(where)


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.asked: list[int] = []
        self.there: int | None = None
        self.counts = Counts()
        self.consumer = Consumer()
        app: Any = SimpleNamespace(consumer=self.consumer)
        self.gaps = Gaps(app, "nowhere", self.counts)
        self.gaps.queue = asyncio.Queue()
        monkeypatch.setattr(gaps.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(gaps, "first_offset", self._first)
        monkeypatch.setattr(gaps, "offsets", lambda _bootstrap, names: {name: {0: (0, self.end)} for name in names})
        self.end = 0

    async def watch(self, position: int) -> None:
        await self.gaps.watch(lambda: {A0: position})

    def _first(self, bootstrap: str, topic: str, partition: int, at_least: int) -> int | None:
        self.asked.append(at_least)
        return at_least if self.there is None else self.there


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_what_the_broker_has_is_sought_and_what_was_on_its_way_is_dropped(bench: Bench) -> None:
    assert await bench.gaps.close("a", 0, 5, 8) == 5
    assert bench.consumer.sought == [{A0: 5}]
    assert (bench.counts.recovered_gaps, bench.counts.recovered_records) == (1, 3)
    for late in range(9, 12):
        assert await bench.gaps.close("a", 0, 5, late) == 5
    assert len(bench.consumer.sought) == 1


async def test_a_seek_that_did_not_help_is_done_again(bench: Bench) -> None:
    await bench.gaps.close("a", 0, 5, 8)
    bench.now += 1
    await bench.gaps.close("a", 0, 5, 9)
    assert len(bench.consumer.sought) == 2


async def test_what_the_broker_does_not_have_is_leapt(bench: Bench) -> None:
    bench.there = 8
    assert await bench.gaps.close("a", 0, 5, 8) == 8
    assert bench.consumer.sought == []
    assert bench.counts.recovered_gaps == 0


async def test_a_silence_with_records_to_come_is_a_loss_only_when_the_agent_is_idle(bench: Bench) -> None:
    bench.consumer.ends[A0] = 7
    await bench.watch(6)
    assert bench.consumer.sought == []
    bench.gaps.queue.put_nowait("busy")
    await bench.watch(6)
    bench.gaps.queue.get_nowait()
    await bench.watch(6)
    assert bench.consumer.sought == []
    bench.now += 1
    await bench.watch(6)
    assert bench.consumer.sought == [{A0: 6}]
    for _ in range(14):  # waited for twice as long each time: a slow machine would lose what is on its way
        bench.now += 1
        await bench.watch(6)
    assert len(bench.consumer.sought) == 4


async def test_long_after_a_rebalance_a_partition_that_waits_while_others_go_on_waits_for_its_turn(bench: Bench) -> None:
    """A worker with hundreds of records on their way: a seek would throw them away."""
    bench.consumer.ends[A0] = 7
    for after_s, seconds, sought in ((0, 3, 1), (30, 7, 0), (30, 10, 1)):
        bench.gaps.reset()
        bench.consumer.sought.clear()
        bench.now += after_s
        for other in range(seconds):
            await bench.gaps.watch(lambda other=other: {A0: 6, TP("b", 0): other})  # type: ignore[misc]
            bench.now += 1
        assert len(bench.consumer.sought) == sought, after_s


async def test_progress_is_no_silence(bench: Bench) -> None:
    bench.consumer.ends[A0] = 9
    for position in range(4, 9):
        await bench.watch(position)
    await bench.watch(9)
    await bench.watch(9)
    assert bench.consumer.sought == []


async def test_who_is_fed_nothing_though_there_are_records_begins_anew_at_the_second_look(bench: Bench) -> None:
    """Without any fetch there is no end offset to see by: only the broker can tell."""
    bench.end = 7
    for position in (6, 5):
        await bench.watch(position)
        bench.now += 9
        await bench.watch(position)
    bench.now += 9
    with pytest.raises(UserError, match="fed no records"):
        await bench.watch(5)


async def test_silence_where_nothing_is_to_come_is_peace(bench: Bench) -> None:
    bench.end = 6
    for _ in range(5):
        bench.now += 9
        await bench.watch(6)
