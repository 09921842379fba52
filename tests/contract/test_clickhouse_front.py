"""What clickhouse-connect, curl and a SQL tool ask of a ClickHouse: the embedded one, and a given one (QT_CLICKHOUSE_URL)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import connect, files, migrate, pending
from infra.clickhouse.tables import registry
from infra.errors import UserError
from infra.ports import free_port

GIVEN = os.environ.get("QT_CLICKHOUSE_URL", "")
NOW = datetime(2024, 8, 1, 0, 0, 0, 123000, tzinfo=UTC)
COLUMNS = "a UInt64, b LowCardinality(String), d Decimal(38, 12), t DateTime64(3, 'UTC'), x Nullable(Float64), l Array(Float64)"
NAMES = ["a", "b", "d", "t", "x", "l"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedClickHouse(tmp_path_factory.mktemp("clickhouse") / "data", free_port())
    server.start()
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(params=["embedded", "given"] if GIVEN else ["embedded"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = GIVEN if request.param == "given" else request.getfixturevalue("embedded")
    return found


@pytest.fixture
def table(url: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    with connect(url) as client:
        client.command(
            f"CREATE TABLE {name} ({COLUMNS}) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100"
        )
        yield name
        client.command(f"DROP TABLE {name}")


def rows(n: int) -> list[list[Any]]:
    return [[i, "word", Decimal("1.5"), NOW, None if i % 2 else 0.5, [1.0, 2.0]] for i in range(n)]


def ask(
    url: str, body: bytes | None = None, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"{url}/{query}", data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


# -- on any ClickHouse


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", True, False])
def test_rows_come_back_as_they_went_in_whatever_the_compression(url: str, table: str, compress: Any) -> None:
    with clickhouse_connect.get_client(dsn=url, compress=compress, tz_mode="aware") as client:
        written = client.insert(table, rows(70_000), column_names=NAMES)  # more than one block: more than one compressed frame
        assert written.written_rows == 70_000
        assert client.query(f"SELECT count(), uniqExact(a), sum(d) FROM {table}").result_rows == [
            (70_000, 70_000, Decimal(105_000))
        ]
        found = client.query(f"SELECT * FROM {table} ORDER BY a LIMIT 2").result_rows
        assert [list(row) for row in found] == rows(2)


def test_an_insert_with_a_token_that_was_seen_counts_once(url: str, table: str) -> None:
    with connect(url) as client:
        for _ in range(3):
            client.insert(table, rows(500), column_names=NAMES, settings={"insert_deduplication_token": "0-499", "async_insert": 0})
        client.insert(table, rows(500), column_names=NAMES, settings={"insert_deduplication_token": "500-999", "async_insert": 0})
        assert client.query(f"SELECT count() FROM {table}").result_rows == [(1000,)]


def test_text_with_empty_lines_and_quotes_survives(url: str, table: str) -> None:
    text = "a\n\n'b';\n\n\\c\x00{}"
    with connect(url) as client:
        client.insert(table, [[1, text]], column_names=["a", "b"])
        assert client.query(f"SELECT b FROM {table} WHERE b = {{text:String}}", parameters={"text": text}).result_rows == [(text,)]


def test_a_column_may_be_named_like_a_keyword_and_its_bytes_be_anything(url: str, table: str) -> None:
    """Bytes that read as an empty line, behind a column called `values`."""
    sent = [[0x0A0A0A0A0A0A0A0A, 0x0A0D0A0D], "a\n\nb"], [[0x3B0A0A], "\n\n"]
    with connect(url) as client:
        client.command(f"CREATE TABLE {table}_words (`values` Array(Int64), `select` String) ENGINE = MergeTree ORDER BY tuple()")
        client.insert(f"{table}_words", sent, column_names=["values", "select"])
        found = client.query(f"SELECT `values`, `select` FROM {table}_words ORDER BY length(`values`) DESC").result_rows
        client.command(f"DROP TABLE {table}_words")
    assert [list(row) for row in found] == list(sent)


def test_the_async_client_asks_many_things_at_once(url: str, table: str) -> None:
    async def several() -> list[int]:
        async with await clickhouse_connect.get_async_client(dsn=url, autogenerate_session_id=False) as client:
            await client.insert(table, rows(10), column_names=NAMES)
            found = await asyncio.gather(*(client.query(f"SELECT count() + {n} FROM {table}") for n in range(8)))
        return [int(result.result_rows[0][0]) for result in found]

    assert asyncio.run(several()) == [10 + n for n in range(8)]


def test_a_session_keeps_its_temporary_table_and_its_settings(url: str) -> None:
    with clickhouse_connect.get_client(dsn=url, session_id=f"s{uuid.uuid4().hex}") as client:
        client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
        client.insert("mine", [[7]], column_names=["a"])
        client.command("SET max_threads = 1")
        assert client.query("SELECT a, getSetting('max_threads') FROM mine").result_rows == [(7, 1)]
    with connect(url) as other, pytest.raises(DatabaseError, match="mine"):
        other.query("SELECT * FROM mine")


def test_settings_of_one_request_end_with_it(url: str) -> None:
    with connect(url) as client:
        assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 7}).result_rows == [(7,)]
        assert client.query("SELECT getSetting('max_threads')").result_rows != [(7,)]


@pytest.mark.parametrize(
    ("statement", "code"), [("SELECT * FROM nowhere", 60), ("SELEC 1", 62), ("SELECT throwIf(1)", 395), ("SELECT nothing", 47)]
)
def test_a_refusal_has_clickhouses_own_code(url: str, statement: str, code: int) -> None:
    status, headers, body = ask(url, statement.encode())
    assert status >= 400
    assert headers["X-ClickHouse-Exception-Code"] == str(code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    with connect(url) as client, pytest.raises(DatabaseError) as told:
        client.query(statement)
    assert told.value.code == code


def test_a_get_can_only_read(url: str, table: str) -> None:
    assert ask(url, query="?query=SELECT%201")[::2] == (200, b"1\n")
    status, headers, _ = ask(url, query=f"?query=TRUNCATE%20TABLE%20{table}")
    assert (status >= 400, headers["X-ClickHouse-Exception-Code"]) == (True, "164")


def test_ping_and_formats(url: str) -> None:
    assert ask(url, query="ping")[::2] == (200, b"Ok.\n")
    _, headers, body = ask(url, b"SELECT 1 AS n FORMAT JSONEachRow")
    assert (headers["X-ClickHouse-Format"], body) == ("JSONEachRow", b'{"n":1}\n')
    assert ask(url, b"SELECT 1 AS n", query="?default_format=CSVWithNames")[2] == b'"n"\n1\n'


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("more", [[], ["--compressed"], ["--http1.0"]])
def test_curl_asks_as_the_documentation_says(url: str, more: list[str]) -> None:
    told = subprocess.run(
        ["curl", "-sS", *more, url, "--data", "SELECT number FROM numbers(2000)"], capture_output=True, timeout=20
    )
    assert told.stdout.split() == [str(n).encode() for n in range(2000)]


def test_the_migrations_replayed_are_the_registry(url: str) -> None:
    database = f"m_{uuid.uuid4().hex}"
    try:
        assert pending(url, database) == [path.name for path in files()]
        assert migrate(url, database) == [path.name for path in files()]
        assert migrate(url, database) == pending(url, database) == []
        with connect(url, database) as client:
            found: dict[str, dict[str, str]] = {}
            query = "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY table, position"
            for name, column, kind in client.query(query).result_rows:
                found.setdefault(name, {})[column] = kind
            for wanted in registry():
                assert found[wanted.name] == {column.name: column.type for column in wanted.columns}
            for view in ("market_trades_flat", "market_marks_flat", "positions_open", "protection", "round_trips", "funnel"):
                assert client.query(f"SELECT * FROM {view}").result_rows == []
    finally:
        with connect(url) as client:
            client.command(f"DROP DATABASE IF EXISTS {database}")


def test_a_migration_that_changed_after_it_was_applied_is_refused(url: str, tmp_path: Path) -> None:
    database = f"m_{uuid.uuid4().hex}"
    file = tmp_path / "0001_begin.sql"
    file.write_text("CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = MergeTree ORDER BY x;\n")
    try:
        assert migrate(url, database, tmp_path) == ["0001_begin.sql"]
        file.write_text(file.read_text().replace("UInt8", "UInt16"))
        with pytest.raises(UserError, match="has changed since it was applied"):
            migrate(url, database, tmp_path)
        file.unlink()
        with pytest.raises(UserError, match="newer version"):
            migrate(url, database, tmp_path)
    finally:
        with connect(url) as client:
            client.command(f"DROP DATABASE IF EXISTS {database}")


# -- on the embedded one only


def test_its_own_database_is_the_default(embedded: str) -> None:
    with clickhouse_connect.get_client(dsn=embedded) as client:
        assert client.command("SELECT currentDatabase()") == "quantum"


def test_a_web_page_may_not_ask(embedded: str) -> None:
    assert ask(embedded, b"SELECT 1", headers={"Origin": "https://elsewhere.example"})[0] == 403
    assert ask(embedded, b"SELECT 1", headers={"Origin": "http://127.0.0.1:3000"})[0] == 200


def test_a_body_that_was_cut_off_is_refused_and_not_half_inserted(embedded: str) -> None:
    import lz4.frame

    body = lz4.frame.compress(b"INSERT INTO FUNCTION null('a UInt8') FORMAT JSONEachRow\n" + b'{"a":1}\n' * 5000)
    assert ask(embedded, body, headers={"Content-Encoding": "lz4"})[0] == 200
    assert ask(embedded, body[: len(body) // 2], headers={"Content-Encoding": "lz4"})[1]["X-ClickHouse-Exception-Code"] == "271"
    for length in (b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n2b\r\n"):
        with socket.create_connection(("127.0.0.1", int(embedded.rsplit(":", 1)[1]))) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + length + b"CREATE TABLE half (a UInt8) ENGINE = Memory")
    time.sleep(0.2)
    with connect(embedded) as client:
        assert client.command("EXISTS TABLE half") == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedClickHouse]:
    server = EmbeddedClickHouse(tmp_path / "data", free_port(), log_dir=tmp_path / "logs")
    try:
        yield server
    finally:
        server.kill()


def started(server: EmbeddedClickHouse) -> Client:
    server.start()
    server.wait_ready()
    return connect(server.url)


def test_acknowledged_rows_survive_kill_9(own: EmbeddedClickHouse) -> None:
    client = started(own)
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100")
    sent = 0
    for round_ in range(3):
        deadline = time.monotonic() + 0.4
        while time.monotonic() < deadline:
            client.insert("t", [[sent]], column_names=["a"], settings={"insert_deduplication_token": str(sent)})
            sent += 1
        own.kill()
        with pytest.raises((ClickHouseError, OSError)):
            client.insert("t", [[sent]], column_names=["a"], settings={"insert_deduplication_token": str(sent)})
        client = started(own)
        assert client.query("SELECT count(), uniqExact(a) FROM t").result_rows == [(sent, sent)], round_
    client.insert("t", [[0]], column_names=["a"], settings={"insert_deduplication_token": str(sent - 1)})
    assert client.query("SELECT count() FROM t").result_rows == [(sent,)], "tokens survive too"


def test_it_stops_at_once_and_fresh_forgets(own: EmbeddedClickHouse, tmp_path: Path) -> None:
    started(own).command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    began = time.monotonic()
    assert own.stop()
    assert time.monotonic() - began < 3
    assert own.poll() == 0
    again = EmbeddedClickHouse(own.data_dir, own.port, log_dir=own.log_dir, fresh=True)
    try:
        assert started(again).command("EXISTS TABLE t") == 0
    finally:
        again.kill()


def test_what_is_in_the_way_is_named(own: EmbeddedClickHouse, tmp_path: Path) -> None:
    client = started(own)
    with pytest.raises(UserError, match=f"port {own.port} on 127.0.0.1 is in use"):
        EmbeddedClickHouse(tmp_path / "other", own.port).start()
    second = EmbeddedClickHouse(own.data_dir, free_port(), log_dir=tmp_path / "second")
    second.start()
    with pytest.raises(UserError, match="another ClickHouse uses"):
        second.wait_ready()
    assert second.poll() == 2
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    third = EmbeddedClickHouse(foreign, free_port(), log_dir=tmp_path / "third", fresh=True)
    third.start()
    with pytest.raises(UserError, match="holds something else"):
        third.wait_ready()
    assert (foreign / "letter.txt").read_text() == "mine"
    assert client.command("SELECT 1") == 1
