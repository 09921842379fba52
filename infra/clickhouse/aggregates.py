"""What ClickHouse adds up as rows arrive, from aggregates.sql: a table of states, and the materialised views that feed it.

Exactly once, as the rows themselves: an insert that is sent again carries the same token, and ClickHouse drops what it has added up
already, table by table (`non_replicated_deduplication_window` on the target too: without it every repetition counts). Every row has
the day in which its records entered the log, and stands in that day's partition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parent / "aggregates.sql"
_TABLE = re.compile(r"^(CREATE TABLE IF NOT EXISTS (\w+)\n.*?);$", re.M | re.S)
_FEED = re.compile(
    r"^(CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+) TO (\w+) AS\n(SELECT.*?FROM (\w+) AS (\w)\n.*?));$", re.M | re.S
)


@dataclass(frozen=True, slots=True)
class Feed:
    """`select`: over `source`, whose rows are called `alias` there; columns in the order of the target."""

    name: str
    statement: str
    select: str
    source: str
    alias: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    name: str
    create: str
    feeds: tuple[Feed, ...]

    @property
    def statements(self) -> list[str]:
        return [self.create, *(feed.statement for feed in self.feeds)]

    @property
    def refill(self) -> list[str]:
        """From the rows that are there, whatever it holds: while nobody writes."""
        return [f"TRUNCATE TABLE {self.name}", *self.fill()]

    def fill(self, since: str = "") -> list[str]:
        """Adds the rows of the days (UTC, as 2026-01-31) from `since` on, all of them without: into empty partitions only."""
        rows = f"(SELECT * FROM {{}} WHERE toDate(k_time) >= '{since}')" if since else "{}"
        return [
            f"INSERT INTO {self.name} "
            + feed.select.replace(f"FROM {feed.source} AS {feed.alias}\n", f"FROM {rows.format(feed.source)} AS {feed.alias}\n")
            for feed in self.feeds
        ]


def declared(file: Path = FILE) -> tuple[Aggregate, ...]:
    text = file.read_text()
    found = _FEED.findall(text)
    feeds = [(target, Feed(name, whole, select, source, alias)) for whole, name, target, select, source, alias in found]
    return tuple(
        Aggregate(name, create, tuple(feed for target, feed in feeds if target == name)) for create, name in _TABLE.findall(text)
    )
