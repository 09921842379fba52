"""`python -m infra.clickhouse.ddl --write`: the next numbered migration, from what the registry, aggregates.sql and views/ changed.

`migrations/registry.json` remembers what the migrations so far add up to. Columns are added and retyped, never dropped: rows that
were written keep what they said. A column that the registry no longer knows simply stays at its default from then on. An aggregate
never changes either: what is to be added up otherwise gets a new name. A new one begins with the rows that are there. A view is
made anew when its text changes, and when what it reads does: it has the columns of what it reads from when it was made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.clickhouse import aggregates
from infra.clickhouse import views as desk
from infra.clickhouse.aggregates import Aggregate
from infra.clickhouse.tables import Table, registry
from infra.clickhouse.views import View
from infra.errors import UserError

HERE = Path(__file__).resolve().parent
MIGRATIONS = HERE / "migrations"
Snapshot = dict[str, Any]


def snapshot(tables: Sequence[Table], views: Sequence[View], sums: Sequence[Aggregate] = ()) -> Snapshot:
    """What the registry wants, as plain JSON: columns with types, order, retention; fingerprints of views and aggregates."""
    return {
        "tables": {
            table.name: {
                "columns": {column.name: column.type for column in table.columns},
                "order_by": [*table.order_by, "k_partition", "k_offset"],
                "daily": table.daily,
                "keep_days": table.keep.days if table.keep else None,
            }
            for table in tables
        },
        "views": {view.name: _digest(view.statement) for view in views},
        "aggregates": {one.name: _digest("\n".join(one.statements)) for one in sums},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(folder: Path = MIGRATIONS) -> Snapshot:
    path = folder / "registry.json"
    found: Snapshot = json.loads(path.read_text()) if path.exists() else {"tables": {}, "views": {}}
    return {"aggregates": {}} | found


def changes(before: Snapshot, tables: Sequence[Table], views: Sequence[View], sums: Sequence[Aggregate] = ()) -> list[str]:
    """Statements that lead from a recorded state to the registry; empty when they agree. UserError for what cannot be altered."""
    after = snapshot(tables, views, sums)
    statements: list[str] = []
    anew: set[str] = set()
    for table in tables:
        old = before["tables"].get(table.name)
        new = after["tables"][table.name]
        if old is None:
            statements.append(table.create)
            anew.add(table.name)
            continue
        if old["columns"] | new["columns"] != old["columns"]:
            anew.add(table.name)
        for what in ("order_by", "daily"):
            if old[what] != new[what]:
                raise UserError(
                    f"table {table.name} cannot follow the registry",
                    f"its {what} was {old[what]} and would be {new[what]}: rows that exist cannot be sorted anew",
                    "give the topic a new name ending in .v2, or write the migration by hand",
                )
        place = "k_error"
        for column in table.columns:
            if column.name not in old["columns"]:
                statements.append(f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {column.sql} AFTER `{place}`")
            elif old["columns"][column.name] != column.type:
                statements.append(f"ALTER TABLE {table.name} MODIFY COLUMN {column.sql}")
            place = column.name
        if old["keep_days"] != new["keep_days"]:
            ttl = f"MODIFY TTL toDateTime(k_time) + INTERVAL {new['keep_days']} DAY" if table.keep else "REMOVE TTL"
            statements.append(f"ALTER TABLE {table.name} {ttl}")
    for one in sums:
        known = before["aggregates"].get(one.name)
        if known is None:
            statements += [*one.statements, *one.refill]
            anew.add(one.name)
        elif known != after["aggregates"][one.name]:
            raise UserError(
                f"the aggregate {one.name} cannot follow aggregates.sql",
                "what it has added up cannot be added up otherwise",
                "give what is new another name, as candles_1m.v2 would be candles_1m_v2",
            )
    for view in desk.in_order(views):
        if before["views"].get(view.name) != after["views"][view.name] or view.reads & anew:
            statements.append(view.statement)
            anew.add(view.name)
    return statements


def write(folder: Path, tables: Sequence[Table], views: Sequence[View], sums: Sequence[Aggregate] = ()) -> Path | None:
    """Writes the next migration and what it leads to; None when nothing changed."""
    before = recorded(folder)
    statements = changes(before, tables, views, sums)
    if not statements:
        return None
    number = 1 + max((int(path.name[:4]) for path in folder.glob("[0-9]*.sql")), default=0)
    name = "begin" if number == 1 else "follow_the_registry"
    path = folder / f"{number:04d}_{name}.sql"
    path.write_text(
        "-- Generated by `python -m infra.clickhouse.ddl --write`. Never edited: its checksum is kept.\n\n"
        + ";\n\n".join(statements)
        + ";\n"
    )
    merged = snapshot(tables, views, sums)
    merged["aggregates"] = before["aggregates"] | merged["aggregates"]
    for name, old in before["tables"].items():
        kept = merged["tables"].setdefault(name, old)
        kept["columns"] = old["columns"] | kept["columns"]
    (folder / "registry.json").write_text(json.dumps(merged, indent=1) + "\n")
    return path


def wanted() -> tuple[Sequence[Table], Sequence[View], Sequence[Aggregate]]:
    """What `changes` and `write` take: the program's own."""
    return registry(), desk.declared(), aggregates.declared()


def main(argv: list[str]) -> int:
    try:
        if "--write" in argv:
            path = write(MIGRATIONS, *wanted())
            sys.stdout.write(f"wrote {path}\n" if path else "the migrations already equal the registry\n")
            return 0
        statements = changes(recorded(), *wanted())
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(";\n\n".join(statements) + ";\n" if statements else "the migrations equal the registry\n")
    return 1 if statements else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
