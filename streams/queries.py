"""SQL for people: one query, its columns and rows; errors in words."""

from __future__ import annotations

import logging
from typing import Any

from clickhouse_connect import get_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.errors import UserError
from infra.settings import Settings


def connect(settings: Settings) -> Client:
    """Raises UserError when nothing answers."""
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it prints what we raise
    try:
        return get_client(dsn=settings.clickhouse, database=settings.clickhouse_database)
    except ClickHouseError as e:
        raise UserError(
            f"ClickHouse at {settings.clickhouse} does not answer",
            "connection refused" if "refused" in str(e) else str(e).splitlines()[0][:200],
            "start the stack (`make run`), or set QT_CLICKHOUSE_URL",
        ) from e


def ask(settings: Settings, query: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows. Raises UserError with ClickHouse's own word for a query that it refuses."""
    client = connect(settings)
    try:
        found = client.query(query)
    except ClickHouseError as e:
        raise UserError(
            "the query was refused", str(e).splitlines()[0][:500], "look at the tables with `quantum sql 'SHOW TABLES'`"
        ) from e
    finally:
        client.close()
    return list(found.column_names), [list(row) for row in found.result_rows]


def rows_of(settings: Settings, query: str) -> list[dict[str, Any]]:
    columns, rows = ask(settings, query)
    return [dict(zip(columns, row, strict=True)) for row in rows]
