"""Which records one insert holds: a topic, and a range of offsets in each of some of its partitions.

    Batch("market.trades", {0: Range(5, 9), 3: Range(1, 4)})
    text   0:5-9,3:1-4                     the metadata of the offset commits that announce it
    token  market.trades:0:5-9,3:1-4       what ClickHouse recognises it by

Every partition of a batch is announced with the whole text, so that whoever owns any of them after a crash can form the very same
batch again, also when the others have gone to another member.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

_PART = re.compile(r"(\d+):(\d+)-(\d+)")


class Range(NamedTuple):
    """Both ends belong to it."""

    first: int
    last: int


@dataclass(frozen=True)
class Batch:
    topic: str
    ranges: Mapping[int, Range]

    @property
    def text(self) -> str:
        return ",".join(f"{partition}:{first}-{last}" for partition, (first, last) in sorted(self.ranges.items()))

    @property
    def token(self) -> str:
        return f"{self.topic}:{self.text}"


def announced(topic: str, partition: int, offset: int, metadata: str) -> Batch | None:
    """The batch that an offset commit announces; None for a plain commit. An announcement begins at its committed offset."""
    if not metadata:
        return None
    ranges = {}
    for part in metadata.split(","):
        found = _PART.fullmatch(part)
        if not found:
            return None
        ranges[int(found[1])] = Range(int(found[2]), int(found[3]))
    mine = ranges.get(partition)
    return Batch(topic, ranges) if mine is not None and mine.first == offset else None
