"""What the writer of history does beside a bare insert loop, how soon a row can be asked for, and how long the desk's views take.

rows      full frames of market.trades: from Kafka through `history` to ClickHouse, aggregates too
raw       the same rows, ready in memory as columns, by clickhouse-connect into a copy of the table without aggregates
single    frames of one trade, as a quiet market has them, through the same worker
visible   from the send of a frame until a query sees its row, at a pace of the wall
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from infra import logs
from infra.broker.embedded import EmbeddedKafka
from infra.clickhouse import views
from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import connect, migrate
from infra.clickhouse.rows import Record, Rows
from infra.clickhouse.tables import table_of
from infra.clickhouse.writer import SETTINGS, without_dataframes
from infra.ports import free_port
from schemas import hot, topics
from streams.bench.desk_rows import FILL
from streams.bench.frames import full_frames
from streams.bench.own import Worker, own_broker, own_worker
from streams.envelope import seal
from streams.lanes import BATCH_ROWS

DATABASE = "quantum"
TABLE = topics.MARKET_TRADES.table
POLL_S = 0.01
ROUNDS = 3
"""A view is asked so often; the quickest counts."""


class Kept(NamedTuple):
    clickhouse: EmbeddedClickHouse
    kafka: EmbeddedKafka
    folder: Path


def run(frames: int = 16_000, singles: int = 60_000, per_s: int = 200, paced_s: float = 20.0) -> dict[str, Any]:
    """Starts and stops a broker, a ClickHouse and history of its own."""
    began = time.monotonic()
    without_dataframes()
    full = [event for event in full_frames(frames * 100) if isinstance(event, hot.TradeFrame)]
    single = [event for event in full_frames(singles, 1) if isinstance(event, hot.TradeFrame)]
    with _street() as kept, connect(kept.clickhouse.url, DATABASE) as client:
        rows_per_s = _through_history(kept, full)
        raw_rows_per_s = _raw(client, full)
        single_rows_per_s = _through_history(kept, single)
        seen = sorted(_visible(kept, client, full[: int(per_s * paced_s)], per_s))
        query_ms = _queries(client)
    return {
        "rows_per_s": round(rows_per_s),
        "raw_rows_per_s": round(raw_rows_per_s),
        "ratio": round(rows_per_s / raw_rows_per_s, 2),
        "visible_p50_ms": round(seen[len(seen) // 2] * 1e3),
        "visible_p99_ms": round(seen[int(len(seen) * 0.99)] * 1e3),
        "query_ms": query_ms,
        "single_rows_per_s": round(single_rows_per_s),
        "trades_per_s": round(rows_per_s * 100),
        "frames": len(full),
        "singles": len(single),
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": round(time.monotonic() - began, 1),
    }


@contextmanager
def _street() -> Iterator[Kept]:
    with own_broker() as kafka, tempfile.TemporaryDirectory(prefix="quantum-bench-") as name:
        clickhouse = EmbeddedClickHouse(Path(name) / "clickhouse", free_port())
        clickhouse.start()
        try:
            clickhouse.wait_ready()
            migrate(clickhouse.url, DATABASE)
            yield Kept(clickhouse, kafka, Path(name))
        finally:
            clickhouse.stop()


# -- throughput


def _through_history(kept: Kept, events: Sequence[Any]) -> float:
    """Rows a second, of records that all stand in Kafka when the worker is ready, until the last is in ClickHouse."""
    _send(kept, events)
    with _history(kept) as worker:
        worker.wait_ready()
        began = time.monotonic()
        worker.wait_processed(len(events), 600.0)
        return len(events) / (time.monotonic() - began)


def _history(kept: Kept) -> AbstractContextManager[Worker]:
    env = {"QT_CLICKHOUSE_URL": kept.clickhouse.url, "QT_HEARTBEAT_S": "3600"}
    return own_worker(["streams.cli", "worker", "history"], kept.kafka.bootstrap, kept.folder, env)


def _send(kept: Kept, events: Sequence[Any]) -> None:
    producer = _producer(kept)
    for event in events:
        _put(producer, event)
    producer.flush()


def _producer(kept: Kept) -> Producer:
    return Producer(
        {"bootstrap.servers": kept.kafka.bootstrap, "compression.type": "lz4", "linger.ms": 2, "logger": logs.librdkafka}
    )


def _place(message: Any) -> tuple[int, int]:
    return message.partition(), message.offset()


def _put(producer: Producer, event: Any, told: Callable[..., None] | None = None) -> None:
    topic, key, value, partition, headers = seal(event, "market")
    while True:
        try:
            producer.produce(topic, value, key, partition, headers=list(headers), on_delivery=told)
            return
        except BufferError:
            producer.poll(0.1)


def _raw(client: Client, events: Sequence[Any]) -> float:
    """The best that the driver does: columns that stand ready, their types known, batches as large as history's at most."""
    client.command(f"CREATE TABLE raw_loop AS {TABLE}")
    table = table_of(topics.MARKET_TRADES)
    rows = Rows(table)
    names = [column.name for column in table.columns]
    types = [column.type for column in table.columns]
    batches = []
    for first in range(0, len(events), BATCH_ROWS):
        sealed = [seal(event, "market") for event in events[first : first + BATCH_ROWS]]
        records = [Record(s.partition, first + n, 1_000, s.key, s.value, s.headers) for n, s in enumerate(sealed)]
        batches.append(rows.columns(records)[0])
    began = time.monotonic()
    for batch in batches:
        client.insert("raw_loop", batch, column_names=names, column_type_names=types, column_oriented=True, settings=SETTINGS)
    seconds = time.monotonic() - began
    client.command("DROP TABLE raw_loop")
    return len(events) / seconds


# -- how soon it can be asked for


def _visible(kept: Kept, client: Client, events: Sequence[Any], per_s: int) -> list[float]:
    """Seconds from send to sight, of each event."""
    query = f"SELECT k_partition, max(k_offset) FROM {TABLE} GROUP BY k_partition"
    before = {int(p): int(last) for p, last in client.query(query).result_rows}
    sent: dict[tuple[int, int], float] = {}
    seen: dict[tuple[int, int], float] = {}
    done = threading.Event()

    def look() -> None:
        """Offsets of a partition become visible in order."""
        at = dict(before)
        with connect(kept.clickhouse.url, DATABASE) as own:
            while not done.wait(POLL_S):
                found = own.query(query).result_rows
                now = time.monotonic()
                for p, last in found:
                    seen.update({(int(p), offset): now for offset in range(at.get(int(p), -1) + 1, int(last) + 1)})
                    at[int(p)] = int(last)

    with _history(kept) as worker:
        producer = _producer(kept)
        worker.wait_ready()
        looker = threading.Thread(target=look)
        looker.start()
        began = time.monotonic()
        for n, event in enumerate(events):
            if (wait := began + n / per_s - time.monotonic()) > 0:
                producer.poll(wait)
            moment = time.monotonic()
            _put(producer, event, lambda _error, message, moment=moment: sent.update({_place(message): moment}))
        producer.flush()
        deadline = time.monotonic() + 60
        while not sent.keys() <= seen.keys() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        done.set()
        looker.join()
    return [seen[place] - moment for place, moment in sent.items()]


# -- queries


def _queries(client: Client) -> dict[str, float]:
    """Milliseconds of every view's example, over what the bench has written and some months of a desk."""
    for statement in FILL:
        client.command(statement)
    found = {}
    for view in views.declared():
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.monotonic()
            client.query(view.example)
            best = min(best, time.monotonic() - began)
        found[view.name] = round(best * 1e3, 1)
    return found
