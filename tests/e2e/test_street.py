"""The whole street as a person runs it: `quantum up ...`, judged by its report, which is taken from outside the workers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.paths import CHECKOUT
from infra.ports import free_ports
from schemas import topics

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

CANARY = "canary-7f3a9c51d2-secret"
PORTS = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "CLICKHOUSE_PORT", "EXCHANGE_PORT", "EXCHANGE_CONTROL_PORT")


@dataclass
class Run:
    """One `quantum up` in a run directory of its own; `report` when it has ended."""

    run_dir: Path
    environment: dict[str, str]
    argv: list[str]
    code: int = -1
    output: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, run_dir: Path, *arguments: str, **environment: str) -> Run:
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        env = {"QT_RUN_DIR": str(run_dir), "QT_PROBE_PORT": "0"} | {f"QT_{name}": port for name, port in ports.items()}
        report = ["--report", str(run_dir / "report.json")]
        return cls(run_dir, env | environment, [*quantum(), "up", "--fresh", *arguments, *report])

    def go(self, during: Callable[[Run], None] | None = None) -> Run:
        process = subprocess.Popen(
            self.argv, env=os.environ | self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        watcher = threading.Thread(target=during, args=(self,), daemon=True) if during else None
        if watcher:
            watcher.start()
        self.output, _ = process.communicate(timeout=380)
        self.code = process.returncode
        found = self.run_dir / "report.json"
        self.report = json.loads(found.read_text()) if found.exists() else {}
        return self

    def url(self, name: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.environment[f'QT_{name}']}{path}"

    def logs(self) -> list[Path]:
        return [path for path in (self.run_dir / "logs").rglob("*") if path.is_file()]


def quantum() -> list[str]:
    return [sys.executable, "-P", "-m", "streams.cli"]


def look_inside(run: Run) -> None:
    """While it runs, ask as a person would: SQL over HTTP, kcat's view of a topic, the command line."""
    deadline = time.monotonic() + 60
    query = b"SELECT instrument, count() FROM trade_fills GROUP BY instrument ORDER BY instrument"
    while time.monotonic() < deadline and not run.asked.get("sql"):
        time.sleep(1)
        try:
            with urllib.request.urlopen(run.url("CLICKHOUSE_PORT", "/"), data=query, timeout=5) as answer:
                run.asked["sql"] = answer.read().decode()
        except OSError:
            continue
    for name, command in {
        "status": ["status", "--json"],
        "positions": ["positions", "--json"],
        "config": ["config", "show", "--origin"],
        "doctor": ["doctor", "--json"],
        "policy": ["policy", "set", "risk.max_positions=7", "--reason", "a smaller book", "--json"],
        "refused": ["policy", "set", "risk.leverage=30", "--json"],
    }.items():
        done = subprocess.run([*quantum(), *command], env=os.environ | run.environment, capture_output=True, text=True, timeout=60)
        run.asked[name] = done.stdout + done.stderr


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.make(tmp_path_factory.mktemp("street"), "--for", "60", QT_API_SECRET=CANARY)
    return run.go(look_inside)


def assert_adds_up(run: Run) -> None:
    assert run.code == 0, run.output[-3000:]
    report = run.report
    assert report["failures"] == []
    assert report["dead_letters"] == 0
    assert set(report["topics"]) == set(report["history"]) == {topic.name for topic in topics.ALL}
    for name, seen in report["topics"].items():
        assert seen["lag"] == 0, name
    for name, seen in report["history"].items():
        assert seen == {"records": seen["records"], "rows": seen["records"], "holes": 0, "doubles": 0}, name
    assert len(set(report["trades"].values())) == 1, report["trades"]
    assert len(set(report["fills"].values())) == 1, report["fills"]
    assert report["orders_by_client_id_max"] <= 1


def test_a_run_adds_up_from_the_exchange_to_the_last_row(synthetic: Run) -> None:
    assert_adds_up(synthetic)
    assert synthetic.report["restarts"] == 0


def test_a_position_is_opened_and_protected_within_a_minute(synthetic: Run) -> None:
    assert synthetic.report["positions"]["opened"] >= 1
    assert synthetic.report["first_protected_s"] <= 60
    assert synthetic.report["unprotected_worst_s"] <= 2


def test_sql_answers_during_the_run(synthetic: Run) -> None:
    assert re.search(r"binance\.usdm\.[A-Z]+\t\d+", synthetic.asked["sql"])


def test_the_command_line_tells_the_truth_during_the_run(synthetic: Run) -> None:
    status = json.loads(synthetic.asked["status"])
    assert status["topics"]["market.trades"] > 0
    assert json.loads(synthetic.asked["doctor"])["ok"] is True
    assert json.loads(synthetic.asked["policy"])["accepted"] is True
    refused = json.loads(synthetic.asked["refused"])
    assert refused["accepted"] is False
    assert "leverage" in refused["detail"]
    assert isinstance(json.loads(synthetic.asked["positions"])["positions"], list)


def test_a_secret_appears_nowhere(synthetic: Run) -> None:
    """Not in logs, topics, tables, config output or the report: everything that the run left behind is read."""
    assert "**********" in synthetic.asked["config"]
    for text in (synthetic.output, json.dumps(synthetic.report), *synthetic.asked.values()):
        assert CANARY not in text
    left = [path for path in synthetic.run_dir.rglob("*") if path.is_file()]
    assert left
    for path in left:
        assert CANARY.encode() not in path.read_bytes(), path


def test_logs_are_one_json_object_a_line(synthetic: Run) -> None:
    for path in synthetic.logs():
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                assert isinstance(json.loads(line), dict), f"{path}: {line}"


def test_nothing_is_left_running(synthetic: Run) -> None:
    left = []
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            try:
                environment = (proc / "environ").read_bytes()
            except OSError:
                continue
            if str(synthetic.run_dir).encode() in environment and int(proc.name) != os.getpid():
                left.append(proc.name)
    assert not left


def test_a_street_without_one_of_its_stages_is_noticed(tmp_path: Path) -> None:
    run = Run.make(tmp_path, "--for", "5", "--without", "features").go()
    assert run.code == 3, run.output[-3000:]
    assert any(failure.startswith("market.trades: lag") for failure in run.report["failures"]), run.report["failures"]


def test_real_candles_run_through_the_same_street(tmp_path: Path, shared_data: Path) -> None:
    market = f"candles:{shared_data / 'klines' / 'usdm_5m.parquet'}"
    policy = str(CHECKOUT / "docs" / "policies" / "scripted.json")
    run = Run.make(tmp_path, "--for", "60", "--market", market, "--speed", "300", "--policy", policy).go()
    assert_adds_up(run)
    assert run.report["positions"]["opened"] >= 1


def test_the_raw_capture_runs_through_the_same_street(tmp_path: Path, shared_data: Path) -> None:
    """345 s of two symbols at twenty times their speed; levels of the policy `capture` lie inside its small range."""
    policy = str(CHECKOUT / "docs" / "policies" / "capture.json")
    arguments = ("--for", "25", "--market", f"ticks:{shared_data / 'ticks'}", "--speed", "20", "--policy", policy)
    run = Run.make(tmp_path, *arguments, QT_SYMBOLS="BTCUSDT,ETHUSDT").go()
    assert_adds_up(run)
    assert run.report["positions"]["opened"] >= 1
    assert run.report["positions"]["closed"] >= 1


def test_a_port_in_use_is_said_in_three_lines(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = Run.make(tmp_path, "--for", "5", QT_EXCHANGE_PORT=str(taken.getsockname()[1])).go()
    assert run.code == 2
    assert "Traceback" not in run.output
    assert [line.split(":")[0] for line in run.output.splitlines()[-3:]] == ["what", "why", "do"]
