"""A database into a backup and back, by ClickHouse's own means; and the mark that says what the backup is sure to hold."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.clickhouse.aggregates import Aggregate
from infra.errors import UserError
from schemas.topics import BY_NAME

POLL_S = 0.2
SURE_DAYS = 28
"""Rows of so many days are there, whatever retention has taken: trades are kept for 30."""
MARKS = """
CREATE TABLE IF NOT EXISTS history_backups
(
    name String,
    at DateTime64(3, 'UTC'),
    since Date,
    offsets Map(String, UInt64)
)
ENGINE = MergeTree
ORDER BY at
COMMENT 'Backups: `offsets` is what history had written for certain when one began, `since` the first day that was still moving'
"""
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Mark:
    name: str
    at: datetime
    since: date
    offsets: Mapping[Place, int]


def destination(name: str) -> str:
    """`nightly` is a file in the backups' folder; `Disk('backups', 'nightly')` and the like are ClickHouse's own words."""
    if re.fullmatch(r"[\w.-]+", name):
        return f"File('{name}')"
    if re.fullmatch(r"(File|Disk|S3|AzureBlobStorage)\(.*\)", name):
        return name
    raise UserError(
        f"{name!r} is no place for a backup",
        "a word of letters, digits, dots and dashes is wanted, or a destination in ClickHouse's words",
        "as `nightly-1`, or \"Disk('backups', 'nightly-1')\" on a server that has such a disk",
    )


def mark(client: Client, name: str, offsets: Mapping[Place, int], lagging: Iterable[Place]) -> Mark:
    """Written before the copy begins, so that it is part of it. `lagging`: places whose records wait to be written."""
    now = datetime.now(UTC)
    days = [now.date()]
    for topic, partition in lagging:
        (found,) = client.query(
            f"SELECT count(), toDate(max(k_time)) FROM {BY_NAME[topic].table} WHERE k_partition = {partition}"
        ).result_rows
        days += [found[1]] if found[0] else []
    since = max(min(days) - timedelta(days=1), now.date() - timedelta(days=SURE_DAYS))
    made = Mark(name, now, since, offsets)
    client.command(MARKS)
    told = {f"{topic}/{partition}": offset for (topic, partition), offset in offsets.items()}
    client.insert("history_backups", [[name, now, since, told]], column_names=["name", "at", "since", "offsets"])
    return made


def newest_mark(client: Client) -> Mark:
    rows = client.query("SELECT name, at, since, offsets FROM history_backups ORDER BY at DESC LIMIT 1").result_rows
    name, at, since, told = rows[0]
    places = {(place.rpartition("/")[0], int(place.rpartition("/")[2])): offset for place, offset in told.items()}
    return Mark(name, at, since, places)


def backup(client: Client, database: str, place: str, base: str = "") -> dict[str, Any]:
    """Blocks until it is made. Raises UserError."""
    settings = f" SETTINGS base_backup = {destination(base)}" if base else ""
    return _wait(client, f"BACKUP DATABASE `{database}` TO {destination(place)}{settings} ASYNC", f"backup {place}")


def restore(client: Client, database: str, place: str) -> dict[str, Any]:
    """Into a database that is not there. Blocks until it is done. Raises UserError."""
    return _wait(client, f"RESTORE DATABASE `{database}` FROM {destination(place)} ASYNC", f"restore of {place}")


def drop_beyond(client: Client, offsets: Mapping[Place, int]) -> int:
    """Deletes rows of the topics that stand at these offsets or behind; returns how many."""
    dropped = 0
    for name in sorted({topic for topic, _ in offsets}):
        table = BY_NAME[name].table
        beyond = " OR ".join(f"(k_partition = {p} AND k_offset >= {at})" for (topic, p), at in offsets.items() if topic == name)
        found = int(client.query(f"SELECT count() FROM {table} WHERE {beyond}").result_rows[0][0])
        if found:
            client.command(f"DELETE FROM {table} WHERE {beyond}")
            dropped += found
    return dropped


def add_up_again(client: Client, database: str, sums: Iterable[Aggregate], since: date) -> None:
    """The days from `since` on, of every aggregate, from the rows."""
    for one in sums:
        days = client.query(
            "SELECT DISTINCT partition FROM system.parts WHERE active AND database = {db:String} AND table = {table:String}",
            {"db": database, "table": one.name},
        ).result_rows
        for (day,) in days:
            if day >= f"{since:%Y%m%d}":
                client.command(f"ALTER TABLE {one.name} DROP PARTITION {day}")
        for statement in one.fill(since.isoformat()):
            client.command(statement)


def _wait(client: Client, statement: str, what: str) -> dict[str, Any]:
    try:
        made = str(client.query(statement).result_rows[0][0])
        while True:
            (row,) = client.query(
                "SELECT status, error, num_files, total_size FROM system.backups WHERE id = {id:String}", {"id": made}
            ).result_rows
            if row[0] in ("BACKUP_CREATED", "RESTORED"):
                return {"files": row[2], "bytes": row[3]}
            if row[1]:
                raise _refused(what, row[1])
            time.sleep(POLL_S)
    except ClickHouseError as error:
        raise _refused(what, str(error)) from error


def _refused(what: str, why: str) -> UserError:
    text = why[why.find("DB::Exception: ") + 15 :] if "DB::Exception: " in why else why
    return UserError(
        f"the {what} was not made",
        text.splitlines()[0].partition(", Stack trace")[0][:300],
        "choose another name, or look at the destination: a server wants `backups.allowed_path` or a disk for it configured",
    )
