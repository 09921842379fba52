"""What contract tests of ClickHouse share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import connect, migrate
from infra.clickhouse.writer import Writer
from infra.ports import free_port
from schemas import topics


@pytest.fixture(scope="module")
def sql(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A ClickHouse with all tables and views, and in it what the module's own `write(writer)` has written."""
    folder: Path = tmp_path_factory.mktemp("clickhouse")
    server = EmbeddedClickHouse(folder / "data", free_port())
    server.start()
    try:
        server.wait_ready()
        migrate(server.url, "quantum")
        request.module.write(Writer(server.url, "quantum", topics.ALL))
        with connect(server.url, "quantum") as client:
            yield client
    finally:
        server.stop()
