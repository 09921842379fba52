"""Which records one insert holds: a topic, and a range of offsets in each of some of its partitions.

    Batch("market.trades", {0: Range(5, 9), 3: Range(1, 4)})
    metadata  0:5-9,3:1-4 and a zero byte     of the offset commits that announce it
    token     market.trades:0:5-9,3:1-4       what ClickHouse recognises it by

The zero byte: confluent-kafka reads metadata to the first one, also where Kafka has sent none (measured with 2.16: every third read
brought foreign memory along). Kafka itself does not mind.

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
    def metadata(self) -> str:
        return self.text + "\0"

    @property
    def token(self) -> str:
        return f"{self.topic}:{self.text}"


def announced(topic: str, partition: int, offset: int, metadata: str) -> Batch | None:
    """The batch that an offset commit announces; None for a plain commit.

    Raises ValueError for metadata that is no announcement of that offset: to pass it over could double rows.
    """
    text = metadata.rstrip("\0")
    if not text:
        return None
    ranges = {}
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if not found:
            raise ValueError(f"{text!r} is no announcement")
        ranges[int(found[1])] = Range(int(found[2]), int(found[3]))
    mine = ranges.get(partition)
    if mine is None or mine.first != offset:
        raise ValueError(f"{text!r} does not announce offset {offset} of partition {partition}")
    return Batch(topic, ranges)
