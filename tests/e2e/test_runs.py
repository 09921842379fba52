"""Runs of `quantum up` that leave room for others: a raw capture, a street without one of its stages, a port in use."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.paths import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Up = Callable[..., Any]


def test_the_raw_capture_runs_through_the_same_street(up: Up, tmp_path: Path, shared_data: Path) -> None:
    """345 s of two symbols at twenty times their speed; levels of the policy `capture` lie inside its small range."""
    policy = str(CHECKOUT / "docs" / "policies" / "capture.json")
    arguments = ("--for", "25", "--market", f"ticks:{shared_data / 'ticks'}", "--speed", "20", "--policy", policy)
    run = up(tmp_path, *arguments, QT_SYMBOLS="BTCUSDT,ETHUSDT").go()
    run.assert_adds_up()
    assert run.report["positions"]["opened"] >= 1
    assert run.report["positions"]["closed"] >= 1


def test_a_street_without_one_of_its_stages_is_noticed(up: Up, tmp_path: Path) -> None:
    run = up(tmp_path, "--for", "5", "--without", "features", QT_SYMBOLS="BTCUSDT,ETHUSDT").go()
    assert run.code == 3, run.output[-3000:]
    assert any(failure.startswith("market.trades: lag") for failure in run.report["failures"]), run.report["failures"]


def test_a_port_in_use_is_said_in_three_lines(up: Up, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = up(tmp_path, "--for", "5", QT_EXCHANGE_PORT=str(taken.getsockname()[1])).go()
    assert run.code == 2
    assert "Traceback" not in run.output
    assert [line.split(":")[0] for line in run.output.splitlines()[-3:]] == ["what", "why", "do"]
