"""Batches of records into ClickHouse, each at most once per token.

A token names exactly which records a batch holds (topic and offsets); ClickHouse drops an insert whose token it has seen
(`non_replicated_deduplication_window` in the tables' DDL). So a batch may be sent any number of times.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver import options
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from infra.clickhouse.migrate import connect
from infra.clickhouse.rows import Poison, Record, Rows
from infra.clickhouse.tables import Table, table_of
from schemas.topics import Topic

SETTINGS = {"async_insert": 0, "max_partitions_per_insert_block": 0}


def without_dataframes() -> None:
    """An insert makes the client import pandas, numpy and pyarrow where they are installed: 90 MB and a second for nothing."""
    for name in ("pd", "pd_time_test", "np", "arrow", "pl"):
        vars(options).setdefault(name, None)


class Unavailable(Exception):
    """The batch may or may not be there: send it again."""


class Writer:
    """Blocking, thread-safe. Connects when it is first needed, and again after an error."""

    def __init__(self, url: str, database: str, topics: Sequence[Topic]) -> None:
        self._url, self._database = url, database
        self._tables: Mapping[str, Table] = {topic.name: table_of(topic) for topic in topics}
        self._rows = {name: Rows(table) for name, table in self._tables.items()}
        self._types: dict[str, list[ClickHouseType]] = {
            name: [get_from_name(column.type) for column in table.columns] for name, table in self._tables.items()
        }
        self._client: Client | None = None
        self._lock = threading.Lock()

    def insert(self, topic: str, records: Sequence[Record], token: str) -> list[Poison]:
        """Returns the records that were no events (they have rows too). Raises Unavailable."""
        columns, poison = self._rows[topic].columns(records)
        table = self._tables[topic]
        try:
            self._connected().insert(
                table.name,
                columns,
                column_names=[column.name for column in table.columns],
                column_types=self._types[topic],
                column_oriented=True,
                settings=SETTINGS | {"insert_deduplication_token": token},
            )
        except (ClickHouseError, HTTPError, OSError) as error:
            raise Unavailable(f"{table.name}: {_first_line(error)}") from error
        return poison

    def check(self) -> None:
        """Raises Unavailable unless every table is there. Touches each: the first insert into a cold one is slow."""
        try:
            client = self._connected()
            for table in self._tables.values():
                client.command(f"SELECT {', '.join(f'`{column.name}`' for column in table.columns)} FROM {table.name} LIMIT 0")
        except (ClickHouseError, HTTPError, OSError) as error:
            raise Unavailable(_first_line(error)) from error

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = connect(self._url, self._database)
            return self._client


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
