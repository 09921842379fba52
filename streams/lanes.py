"""What history has taken and not written yet: a lane per partition, without holes, and the batches that are made of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.clickhouse.rows import Record
from streams.log_reader import Place
from streams.ranges import Batch, Range

BATCH_ROWS = 10_000
WAITING_BYTES = 64_000_000
"""In memory, before whoever takes has to wait."""
OVERHEAD_BYTES = 1_500
"""Of a record in memory beside its value: headers, key, objects."""


class Filled(NamedTuple):
    """A batch and its records, ordered by partition and offset."""

    batch: Batch
    records: list[Record]


@dataclass(slots=True)
class Lane:
    """One partition. `next`: the offset to come; everything before is in `records`, on its way, or in ClickHouse."""

    next: int
    records: deque[Record] = field(default_factory=deque)


class Lanes:
    """`work` is set while something waits, `room` while there is space for more."""

    def __init__(self) -> None:
        self.work = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.bytes = 0
        self._lanes: dict[Place, Lane] = {}

    def open(self, starts: Mapping[Place, int]) -> None:
        self.forget()
        self._lanes = {place: Lane(start) for place, start in starts.items()}

    def forget(self) -> None:
        self._lanes = {}
        self.bytes = 0
        self.work.clear()
        self.room.set()

    def get(self, place: Place) -> Lane | None:
        return self._lanes.get(place)

    def append(self, lane: Lane, record: Record) -> None:
        lane.records.append(record)
        lane.next = record.offset + 1
        self.bytes += _size(record)
        if self.bytes > WAITING_BYTES:
            self.room.clear()
        self.work.set()

    def items(self) -> Iterable[tuple[Place, Lane]]:
        return self._lanes.items()

    @property
    def waiting(self) -> int:
        return sum(len(lane.records) for lane in self._lanes.values())

    @property
    def behind(self) -> bool:
        """A whole batch waits, or half of what memory may hold."""
        return self.waiting >= BATCH_ROWS or self.bytes > WAITING_BYTES // 2

    @property
    def count(self) -> int:
        return len(self._lanes)

    def form(self) -> list[Filled]:
        """Takes out one batch a topic, of all its partitions that have records."""
        found: dict[str, tuple[dict[int, Range], list[Record]]] = {}
        for (topic, partition), lane in sorted(self._lanes.items()):
            if not lane.records:
                continue
            ranges, records = found.setdefault(topic, ({}, []))
            some = min(len(lane.records), BATCH_ROWS - len(records))
            if some > 0:
                taken = [lane.records.popleft() for _ in range(some)]
                ranges[partition] = Range(taken[0].offset, taken[-1].offset)
                records += taken
        self.work.clear()
        return [Filled(Batch(topic, ranges), records) for topic, (ranges, records) in found.items()]

    def written(self, done: Iterable[Filled]) -> None:
        self.bytes -= sum(_size(record) for filled in done for record in filled.records)
        if self.bytes <= WAITING_BYTES:
            self.room.set()
        if self.waiting:
            self.work.set()


def _size(record: Record) -> int:
    return OVERHEAD_BYTES + len(record.value or b"")
