"""The history as a whole: a copy of it, back from a copy, and anew from the log.

backup    while everything runs. A copy of a living database takes its tables one after the other, so what it is sure to hold, sums
          too, is what history had committed when it began: that is marked in the copy.
restore   what is beyond the mark is dropped, the days that were moving are added up again, and history's offsets are set to the
          mark: it reads on from there, as after a crash.
rebuild   an empty database, and history's offsets at the beginning of what Kafka holds.

Restore and rebuild want history to stand still, and the broker sees to it: offsets of a group that has members are not set.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.broker.admin import offsets as ends_of
from infra.broker.admin import require, set_offsets
from infra.clickhouse import aggregates
from infra.clickhouse import backup as copies
from infra.clickhouse.migrate import connect, migrate
from infra.errors import UserError
from infra.settings import Settings, shown
from schemas import topics
from streams.lag import group_of
from streams.log_reader import LogReader, Place

GROUP = group_of("history")


def backup(settings: Settings, name: str, base: str = "") -> dict[str, Any]:
    """{name, bytes, files, rows, seconds}. Raises UserError."""
    copies.destination(name)
    began = time.monotonic()
    ends, done = _log(settings)
    lagging = [place for place, high in ends.items() if done.get(place, 0) < high]
    with _client(settings) as client:
        copies.mark(client, name, {place: done.get(place, 0) for place in ends}, lagging)
        made = copies.backup(client, settings.clickhouse_database, name, base)
        rows = _rows(client)
    return {"name": name, **made, "rows": rows, "seconds": round(time.monotonic() - began, 1)}


def restore(settings: Settings, name: str, replace: bool = False) -> dict[str, Any]:
    """{name, rows, dropped, to_read, lost, seconds}. `dropped`: rows beyond the mark, `to_read`: records that history reads now,
    `lost`: those that Kafka does not hold any more. Raises UserError."""
    copies.destination(name)
    began = time.monotonic()
    ends, done = _log(settings)
    _stand_still(settings, done)
    database = settings.clickhouse_database
    _make_room(settings, replace, f"quantum history restore {name}")
    with connect(settings.clickhouse) as client:
        copies.restore(client, database, name)
    migrate(settings.clickhouse, database)
    with _client(settings) as client:
        mark = copies.newest_mark(client)
        behind = [f"{topic}/{p}" for (topic, p), at in mark.offsets.items() if at > ends.get((topic, p), 0)]
        if behind:
            raise UserError(
                "the tables are back, history cannot go on behind them",
                f"the log is not the one that the backup was made of: {behind[0]} ends before the backup does",
                "let history write the new log into another database (QT_CLICKHOUSE_DATABASE); this one answers as it is",
            )
        dropped = copies.drop_beyond(client, mark.offsets)
        copies.add_up_again(client, database, aggregates.declared(), mark.since)
        rows = _rows(client)
    low = _low(settings)
    sure = {place: mark.offsets.get(place, 0) for place in ends}
    set_offsets(settings.bootstrap, GROUP, sure)
    return {
        "name": mark.name,
        "rows": rows,
        "dropped": dropped,
        "to_read": sum(high - max(sure[place], low[place]) for place, high in ends.items()),
        "lost": sum(max(0, low[place] - at) for place, at in sure.items()),
        "seconds": round(time.monotonic() - began, 1),
    }


def rebuild(settings: Settings, replace: bool = False) -> dict[str, Any]:
    """{to_read, seconds}. Raises UserError."""
    began = time.monotonic()
    ends, done = _log(settings)
    _stand_still(settings, done)
    _make_room(settings, replace, "quantum history rebuild")
    migrate(settings.clickhouse, settings.clickhouse_database)
    low = _low(settings)
    set_offsets(settings.bootstrap, GROUP, low)
    return {"to_read": sum(high - low[place] for place, high in ends.items()), "seconds": round(time.monotonic() - began, 1)}


# -- helpers


def _client(settings: Settings) -> Client:
    try:
        return connect(settings.clickhouse, settings.clickhouse_database)
    except ClickHouseError as error:
        raise UserError(
            f"ClickHouse at {shown(settings.clickhouse)} does not answer",
            str(error).splitlines()[0][:300],
            "start the stack (`make run`), or set QT_CLICKHOUSE_URL",
        ) from error


def _log(settings: Settings) -> tuple[dict[Place, int], dict[Place, int]]:
    """Where each partition ends, and what history has committed. What is committed is read first: the rest is never too little."""
    require(settings.bootstrap)
    places = [(topic.name, partition) for topic in topics.ALL for partition in range(topic.partitions)]
    with closing(LogReader(settings.bootstrap, GROUP)) as reader:
        done = {place: offset for place, (offset, _) in reader.committed(places).items()}
    return {(name, p): high for name, found in _ends(settings).items() for p, (_, high) in found.items()}, done


def _low(settings: Settings) -> dict[Place, int]:
    return {(name, p): low for name, found in _ends(settings).items() for p, (low, _) in found.items()}


def _ends(settings: Settings) -> Mapping[str, Mapping[int, tuple[int, int]]]:
    return ends_of(settings.bootstrap, [topic.name for topic in topics.ALL])


def _stand_still(settings: Settings, done: Mapping[Place, int]) -> None:
    """Raises UserError while history has members. What is committed is committed again: nothing changes."""
    some = next(iter(done.items()), ((topics.ALL[0].name, 0), 0))
    set_offsets(settings.bootstrap, GROUP, dict([some]))


def _make_room(settings: Settings, replace: bool, command: str) -> None:
    """Raises UserError for a database that holds rows, unless they shall be replaced."""
    database = settings.clickhouse_database
    with connect(settings.clickhouse) as client:
        there = client.query("SELECT count() FROM system.databases WHERE name = {db:String}", {"db": database}).result_rows[0][0]
        if not there:
            return
        with _client(settings) as inside:
            rows = _rows(inside)
        if rows and not replace:
            raise UserError(
                f"the database {database} is not replaced",
                f"it holds {rows} rows",
                f"`quantum history backup NAME` keeps them; then `{command} --replace`",
            )
        client.command(f"DROP DATABASE `{database}` SYNC")


def _rows(client: Client) -> int:
    names = ", ".join(f"'{topic.table}'" for topic in topics.ALL)
    query = f"SELECT sum(rows) FROM system.parts WHERE active AND database = currentDatabase() AND table IN ({names})"
    return int(client.query(query).result_rows[0][0])
