"""SQL for people: one query, its columns and rows; errors in words."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from clickhouse_connect import get_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.clickhouse.views import declared as views
from infra.errors import UserError
from infra.settings import Settings, shown

ANSWER_S = 60
ROWS = 20
"""Of a view, where nobody says how many."""
NO_CODE = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`|--[^\n]*|/\*.*?\*/"
"""Strings, quoted names, comments."""
QUESTIONS = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS")


def connect(settings: Settings) -> Client:
    """Raises UserError when nothing answers."""
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it prints what we raise
    try:
        return get_client(
            dsn=settings.clickhouse, database=settings.clickhouse_database, connect_timeout=5, send_receive_timeout=ANSWER_S
        )
    except ClickHouseError as e:
        raise UserError(
            f"ClickHouse at {shown(settings.clickhouse)} does not answer",
            "connection refused" if "refused" in str(e) else str(e).splitlines()[0][:200],
            "start the stack (`make run`), or set QT_CLICKHOUSE_URL",
        ) from e


def question(text: str, where: str = "", limit: int | None = None) -> str:
    """The query that a person means: SQL as it is; a view's name alone its example, with a filter its rows. Raises UserError."""
    by_name = {view.name: view for view in views()}
    view = by_name.get(text.strip())
    if view is None and (where or limit):
        raise UserError(
            f"{text.strip()[:60]!r} is not asked", "--where and --limit belong to a view", "name one of `quantum sql --list`"
        )
    if view is None and re.fullmatch(r"\s*\w*\s*", text):
        near = get_close_matches(text.strip(), by_name, 3)
        do = f"did you mean {', '.join(near)}? `quantum sql --list` names them" if near else "`quantum sql --list` names them"
        raise UserError(
            f"there is no view {text.strip()!r}" if text.strip() else "nothing is asked",
            "a question in SQL, or the name of a view is wanted",
            do,
        )
    if view is None:
        return text
    if where or limit:
        return f"SELECT * FROM {view.name}{f' WHERE {where}' if where else ''} LIMIT {limit or ROWS}"
    return view.example


def ask(settings: Settings, query: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows. Raises UserError for what is no question, and with ClickHouse's own word for a query that it refuses."""
    found = _answer(settings, query, lambda client: client.query(query))
    return list(found.column_names), [list(row) for row in found.result_rows]


def has_format(query: str) -> bool:
    """Whether a query names the form of its answer itself: `... FORMAT Vertical`."""
    return re.search(r"\bFORMAT\s+\w+\s*;?\s*$", re.sub(NO_CODE, " ", query, flags=re.S), re.IGNORECASE) is not None


def ask_as(settings: Settings, query: str) -> str:
    """The answer in the form that the query names. Raises as `ask`."""
    found: bytes = _answer(settings, query, lambda client: client.raw_query(query))
    return found.decode(errors="replace")


def _answer(settings: Settings, query: str, call: Callable[[Client], Any]) -> Any:
    bare = re.sub(NO_CODE, " ", query, flags=re.S).strip(" \t\n(;")
    if bare.partition(" ")[0].split("\n")[0].upper() not in QUESTIONS or ";" in bare:
        raise UserError(
            f"{query.strip()[:60]!r} is not run",
            f"the history is only read here: one query, which begins with {', '.join(QUESTIONS)}",
            "write with ClickHouse's own tools, on tables of your own",
        )
    client = connect(settings)
    try:
        return call(client)
    except ClickHouseError as e:
        raise UserError(
            "the query was refused",
            str(e).splitlines()[0][:500],
            "`quantum sql 'SHOW TABLES'` names the tables, `DESCRIBE TABLE name` their columns",
        ) from e
    finally:
        client.close()


def rows_of(settings: Settings, query: str) -> list[dict[str, Any]]:
    columns, rows = ask(settings, query)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table for people: a header, then a line a row; numbers to the right."""
    texts = [list(columns), *([text(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    right = [bool(rows) and isinstance(rows[0][i], int | float | Decimal) for i in range(len(columns))]
    return [
        "  ".join(
            f"{cell:>{width}}" if to_right else f"{cell:<{width}}" for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    ]


def text(value: Any) -> str:
    """As ClickHouse's own client would write it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case Decimal():
            return format(value.normalize(), "f")
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S") + (f".{value.microsecond // 1000:03}" if value.microsecond else "")
        case list() | tuple() | dict():
            return json.dumps(value, default=text)
    return str(value)
