"""The whole street as a person runs it: `quantum up ...`, judged by its report, which is taken from outside the workers.

These take the whole machine, one after the other; runs that leave room for others are in test_runs.py.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.paths import CHECKOUT

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

CANARY = "canary-7f3a9c51d2-secret"
TOKEN = "canary-0b6d2e84f1-token"
Up = Callable[..., Any]


def look_inside(run: Any) -> None:
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
        "resume": ["resume", "--reason", "nothing stops it", "--json"],
    }.items():
        run.asked[name] = run.ask(*command)


@pytest.fixture(scope="module")
def synthetic(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = up(tmp_path_factory.mktemp("street"), "--for", "80", QT_API_SECRET=CANARY, QT_ADMIN_TOKEN=TOKEN)
    return run.go(look_inside)


def test_a_run_adds_up_from_the_exchange_to_the_last_row(synthetic: Any) -> None:
    synthetic.assert_adds_up()
    assert synthetic.report["restarts"] == 0


def test_a_position_is_opened_and_protected_within_a_minute(synthetic: Any) -> None:
    assert synthetic.report["positions"]["opened"] >= 1
    assert synthetic.report["first_protected_s"] <= 60
    assert synthetic.report["unprotected_worst_s"] <= 2


def test_sql_answers_during_the_run(synthetic: Any) -> None:
    assert re.search(r"binance\.usdm\.[A-Z]+\t\d+", synthetic.asked["sql"])


def test_the_command_line_tells_the_truth_during_the_run(synthetic: Any) -> None:
    status = json.loads(synthetic.asked["status"])
    assert status["topics"]["market.trades"] > 0
    assert json.loads(synthetic.asked["doctor"])["ok"] is True
    assert json.loads(synthetic.asked["policy"])["accepted"] is True
    refused = json.loads(synthetic.asked["refused"])
    assert refused["accepted"] is False
    assert "leverage" in refused["detail"]
    assert isinstance(json.loads(synthetic.asked["positions"])["positions"], list)
    resumed = json.loads(synthetic.asked["resume"])
    assert (resumed["accepted"], resumed["stopped"], resumed["alarms"]) == (True, False, [])


def test_a_secret_appears_nowhere(synthetic: Any) -> None:
    """Not in logs, topics, tables, config output or the report: everything that the run left behind is read."""
    assert "**********" in synthetic.asked["config"]
    for text in (synthetic.output, json.dumps(synthetic.report), *synthetic.asked.values()):
        assert CANARY not in text
        assert TOKEN not in text
    left = [path for path in synthetic.run_dir.rglob("*") if path.is_file()]
    assert left
    for path in left:
        found = path.read_bytes()
        assert CANARY.encode() not in found, path
        assert TOKEN.encode() not in found, path


def test_logs_are_one_json_object_a_line(synthetic: Any) -> None:
    for path in synthetic.logs():
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                assert isinstance(json.loads(line), dict), f"{path}: {line}"


def test_nothing_is_left_running(synthetic: Any) -> None:
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


def test_real_candles_run_through_the_same_street(up: Up, tmp_path: Path, shared_data: Path) -> None:
    market = f"candles:{shared_data / 'klines' / 'usdm_5m.parquet'}"
    policy = str(CHECKOUT / "docs" / "policies" / "scripted.json")
    run = up(tmp_path, "--for", "60", "--market", market, "--speed", "300", "--policy", policy).go()
    run.assert_adds_up()
    assert run.report["positions"]["opened"] >= 1
