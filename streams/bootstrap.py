"""Topics and tables on a Kafka and a ClickHouse that are not ours: one makes them, everybody else waits for them.

The launcher does the same for what it has started itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from infra.broker.admin import ensure_topics, missing_topics, require
from infra.clickhouse.migrate import migrate, pending
from infra.errors import UserError
from infra.settings import Settings
from streams.launcher import all_topics

T = TypeVar("T")
AGAIN_S = 1.0


def make(settings: Settings, patience_s: float) -> dict[str, Any]:
    """Creates what is missing; may be repeated. Raises UserError when Kafka or ClickHouse does not answer in time, or refuses."""
    patiently(lambda: require(settings.bootstrap), patience_s)
    created = ensure_topics(settings.bootstrap, all_topics())
    applied = patiently(lambda: migrate(settings.clickhouse, settings.clickhouse_database), patience_s)
    return {"topics": len(all_topics()), "created": created, "applied": applied}


def wait(settings: Settings, patience_s: float, *, tables: bool = True) -> dict[str, Any]:
    """Returns when another has made them; `tables` False: the topics, for whoever must start while ClickHouse is away.

    Raises UserError with what is missing at the end of the patience.
    """
    patiently(lambda: _complete(settings, tables), patience_s)
    return {"topics": len(all_topics()), "created": [], "applied": []}


def _complete(settings: Settings, tables: bool) -> None:
    require(settings.bootstrap)
    topics = missing_topics(settings.bootstrap, [spec.name for spec in all_topics()])
    migrations = pending(settings.clickhouse, settings.clickhouse_database) if tables else []
    if topics or migrations:
        lacks = [f"{len(topics)} topics, {topics[0]} among them"] if topics else []
        lacks += [f"the migrations {', '.join(migrations)}"] if migrations else []
        raise UserError("the street is not prepared", f"it lacks {' and '.join(lacks)}", "run `quantum bootstrap` once")


def patiently(attempt: Callable[[], T], patience_s: float) -> T:
    """The first answer that is no UserError; after the patience, that error."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except UserError:
            if time.monotonic() + AGAIN_S > deadline:
                raise
        time.sleep(AGAIN_S)
