"""The local exchange as a process: it starts by its command, ends quickly, goes on where it was, and says what it cannot do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from infra.paths import CHECKOUT
from infra.ports import free_ports


class Process:
    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port, self.control_port = free_ports(2)
        self.directory = directory
        self.arguments = arguments
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        ports = ["--port", str(self.port), "--control-port", str(self.control_port), "--data-dir", str(self.directory)]
        command = [sys.executable, "-m", "infra.venue.local", *ports, *self.arguments]
        self.child = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return self.child

    def get(self, path: str, *, control: bool = True) -> Any:
        port = self.control_port if control else self.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)

    def wait(self) -> dict[str, Any]:
        until = time.monotonic() + 30
        while True:
            try:
                state: dict[str, Any] = self.get("/control/state")
                return state
            except OSError:
                assert self.child is not None
                assert self.child.poll() is None, self.child.communicate()
                assert time.monotonic() < until
                time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        assert self.child is not None
        self.child.send_signal(number)
        out, err = self.child.communicate(timeout=10)
        return self.child.returncode, out.decode(), err.decode()


@pytest.fixture
def exchange(tmp_path: Path) -> Any:
    process = Process(tmp_path / "data", "--symbols", "BTCUSDT,ETHUSDT", "--seed", "3")
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.kill()
        process.child.communicate()


def rows(exchange: Process, limit: int = 40) -> list[list[Any]]:
    found: list[list[Any]] = exchange.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit={limit}", control=False)
    return found


def test_it_starts_ends_quickly_and_goes_on_where_it_was(exchange: Process) -> None:
    exchange.start()
    first = exchange.wait()
    assert first["label"] == "synthetic"
    assert len(rows(exchange, 1500)) >= 1000
    time.sleep(1.2)
    begun = time.monotonic()
    code, out, err = exchange.end()
    assert time.monotonic() - begun < 2
    assert (code, out) == (0, "")
    assert all(json.loads(line)["event"] for line in err.splitlines())

    exchange.start()
    again = exchange.wait()
    assert again["market_t"] > first["market_t"] + 200_000
    time.sleep(1.0)
    before, ids = rows(exchange), exchange.get("/control/state")["last_trade_ids"]["BTCUSDT"]
    code, *_ = exchange.end(signal.SIGKILL)
    assert code == -signal.SIGKILL

    exchange.start()
    after = exchange.wait()
    assert after["last_trade_ids"]["BTCUSDT"] >= ids
    known = {row[0]: row for row in rows(exchange)}
    for row in before[:-1]:  # all that was closed
        assert known.get(row[0], row) == row


def test_mistakes_are_told_and_end_with_2(exchange: Process, tmp_path: Path) -> None:
    exchange.start()
    exchange.wait()
    assert exchange.child is not None
    second = Process(tmp_path / "other", "--fresh")
    second.port = exchange.port
    child = second.start()
    _, err = child.communicate(timeout=20)
    assert child.returncode == 2
    told = json.loads(err.decode().splitlines()[-1])
    assert told["why"] == f"port {exchange.port} is in use"
    assert "--port" in told["do"]
    assert "Traceback" not in err.decode()
    assert not (tmp_path / "other").exists()

    same = Process(exchange.directory, *exchange.arguments)
    child = same.start()
    _, err = child.communicate(timeout=20)
    assert child.returncode == 2
    assert "another exchange is using it" in err.decode()
