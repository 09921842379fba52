"""Every worker from the image, hardened, against a broker, a ClickHouse and an exchange outside of containers: a whole trade."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.broker.embedded import EmbeddedKafka
from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.settings import load
from schemas import topics
from streams import report
from streams.cli import any_ports
from tests.image.containers import PATIENCE_S, ContainerStack

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]

TRADE_WITHIN_S, LANDED_WITHIN_S = 300.0, 120.0
KILLED = "exits"
TABLES = ("signal_decisions", "risk_verdicts", "trade_orders", "trade_fills", "trade_positions", "trade_exit_plans", "trade_closed")


@pytest.fixture(scope="module")
def stack(image: str, engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerStack]:
    run_dir, ports = tmp_path_factory.mktemp("containers"), any_ports()
    kafka = EmbeddedKafka(run_dir / "kafka", ports["kafka_port"], ports["kafka_controller_port"])
    clickhouse = EmbeddedClickHouse(run_dir / "clickhouse", ports["clickhouse_port"])
    settings = load(
        run_dir=run_dir,
        speed=60.0,
        symbols="BTCUSDT,ETHUSDT,SOLUSDT",
        policy_file=CHECKOUT / "docs" / "policies" / "scripted.json",
        kafka_bootstrap=kafka.bootstrap,
        clickhouse_url=f"http://127.0.0.1:{ports['clickhouse_port']}",
        **ports,
    )
    servers = (kafka, clickhouse)
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_ready(PATIENCE_S)
        with ContainerStack(settings, image=image, engine=engine) as found:
            found.prepare()
            found.start()
            yield found
    finally:
        for server in servers:
            server.stop()


def test_all_workers_turn_ready_under_the_flags_of_the_chart(
    stack: ContainerStack, image: str, engine: str, figure: Callable[[str], None]
) -> None:
    assert set(stack.made) == set(topics.WORKERS)
    assert all(process.ready() for process in stack.made.values())
    count = len(topics.WORKERS)
    assert stack.inspect("{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}") == ["true 10001:10001"] * count
    assert set(stack.inspect("{{.EffectiveCaps}} {{.HostConfig.Memory}}")) == {f"[] {1 << 30}"}
    size = subprocess.run([engine, "image", "inspect", "--format", "{{.Size}}", image], capture_output=True, text=True, check=True)
    figure(f"{int(size.stdout) / 1e6:.0f} MB ({image})")
    began = next(at for at, line in stack.told if line.endswith("starting the workers"))
    ready = max(at for at, line in stack.told if line.endswith("is ready"))
    figure(f"{count} workers ready {ready - began:.1f} s after the first was started")


def test_a_killed_container_comes_back_with_its_state(stack: ContainerStack, figure: Callable[[str], None]) -> None:
    before, began = stack.restarts, time.monotonic()
    subprocess.run([stack.engine, "kill", "--signal", "KILL", stack.container(KILLED)], check=True, capture_output=True)
    stack.watch(lambda: (stack.restarts > before and stack.made[KILLED].ready()) or time.monotonic() - began > 60)
    assert stack.made[KILLED].ready()
    figure(f"one worker ready {time.monotonic() - began:.1f} s after kill -9 of its container, 0.3 s of back-off among them")


def test_a_whole_trade_flows_and_everything_adds_up(stack: ContainerStack, figure: Callable[[str], None]) -> None:
    sql = report.client(stack.settings)
    began, looked, closed = time.monotonic(), 0.0, 0

    def traded() -> bool:
        nonlocal looked, closed
        if time.monotonic() - looked > 2.0:
            looked = time.monotonic()
            closed = int(sql.query("SELECT count() FROM trade_closed").result_rows[0][0])
        return closed > 0 or time.monotonic() - began > TRADE_WITHIN_S

    stack.watch(traded)
    assert closed, "no position was closed"
    rows = {table: int(sql.query(f"SELECT count() FROM {table}").result_rows[0][0]) for table in TABLES}
    assert all(rows.values()), rows
    drained = time.monotonic()
    stack.drain()
    figure(f"the street was drained {time.monotonic() - drained:.1f} s after SIGTERM of the first")
    found = landed(stack)
    assert found["failures"] == []
    assert found["dead_letters"] == 0
    assert found["fills"]["exchange"] == found["fills"]["log"] == found["fills"]["history"] > 1
    figure(f"{found['positions']}, rows {json.dumps(rows)}")
    stack.stop()  # history too
    codes = {name: process.poll() for name, process in stack.made.items()}
    assert codes == dict.fromkeys(topics.WORKERS, 0), [last_line(p.log) for n, p in stack.made.items() if codes[n]]
    assert not [line for _, line in stack.told if "was killed" in line]


def landed(stack: ContainerStack) -> dict[str, Any]:
    """The report once it adds up: history may have the rest to write, a busy broker is asked again."""
    deadline = time.monotonic() + LANDED_WITHIN_S
    while True:
        last = time.monotonic() > deadline
        try:
            if not (found := report.make(stack))["failures"] or last:
                return found
        except UserError:
            if last:
                raise
        time.sleep(2.0)


def last_line(log: Path) -> str:
    return log.read_text().splitlines()[-1]
