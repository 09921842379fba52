"""Numbered SQL files -> a database. Each is applied once; a file that changed after that is refused.

    migrate("http://127.0.0.1:18123", "quantum")      # -> names of the migrations applied now

Statements are idempotent (IF NOT EXISTS, CREATE OR REPLACE), so that a run that was cut off is simply repeated.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from infra.clickhouse.ddl import MIGRATIONS
from infra.errors import UserError
from infra.settings import shown

LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    sha256 String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version
"""


def migrate(url: str, database: str, folder: Path = MIGRATIONS) -> list[str]:
    """Blocks. Raises UserError: no answer, a changed file, a database of a newer version, a statement that fails."""
    try:
        with connect(url) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        with connect(url, database) as client:
            return _apply(client, files(folder), f"{shown(url)} {database}")
    except (ClickHouseError, OSError) as error:
        raise _unreachable(url, "be prepared", error) from error


def pending(url: str, database: str, folder: Path = MIGRATIONS) -> list[str]:
    """Names of the migrations that a database has not had; all of them when there is no such database. UserError: no answer."""
    try:
        with connect(url) as client:
            there = client.query(
                "SELECT count() FROM system.tables WHERE database = {db:String} AND name = 'schema_migrations'", {"db": database}
            ).result_rows[0][0]
            rows = client.query(f"SELECT name FROM `{database}`.schema_migrations FINAL").result_rows if there else []
    except (ClickHouseError, OSError) as error:
        raise _unreachable(url, "be asked", error) from error
    done = {str(name) for (name,) in rows}
    return [path.name for path in files(folder) if path.name not in done]


def _unreachable(url: str, what: str, error: Exception) -> UserError:
    return UserError(
        f"ClickHouse at {shown(url)} cannot {what}",
        str(error).splitlines()[0][:500],
        "start it (`make run` brings its own), or correct QT_CLICKHOUSE_URL",
    )


def connect(url: str, database: str | None = None) -> Client:
    """A client without a session, so that threads may share it. Raises ClickHouseError when nobody answers."""
    client: Client = clickhouse_connect.get_client(
        dsn=url,
        database=database or "__default__",
        autogenerate_session_id=False,
        compress=False,
        tz_mode="aware",
        connect_timeout=5,
        send_receive_timeout=60,
    )
    return client


def files(folder: Path = MIGRATIONS) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _apply(client: Client, paths: list[Path], where: str) -> list[str]:
    client.command(LEDGER)
    rows = client.query("SELECT version, name, sha256 FROM schema_migrations FINAL ORDER BY version").result_rows
    done = {int(version): (str(name), str(digest)) for version, name, digest in rows}
    known = {int(path.name[:4]): path for path in paths}
    newer = [name for version, (name, _) in done.items() if version not in known]
    if newer:
        raise UserError(
            f"{where} was made by a newer version",
            f"it has the migration {newer[0]}, which this version does not know",
            "use the version that made it, or another database (QT_CLICKHOUSE_DATABASE)",
        )
    applied = []
    for version, path in known.items():
        text = path.read_text()
        digest = hashlib.sha256(text.encode()).hexdigest()
        if version in done:
            if done[version][1] != digest:
                raise UserError(
                    f"migration {path.name} has changed since it was applied to {where}",
                    f"its sha256 was {done[version][1][:12]}.. and is {digest[:12]}..",
                    "restore the file and write a new migration; a throw-away store starts anew with --fresh",
                )
            continue
        for statement in statements(text):
            client.command(statement)
        client.insert("schema_migrations", [[version, path.name, digest]], column_names=["version", "name", "sha256"])
        applied.append(path.name)
    return applied


def statements(text: str) -> list[str]:
    """Split at `;` before a line's end; comment lines are dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [part.strip(" \n;") for part in "\n".join(lines).split(";\n") if part.strip(" \n;")]
