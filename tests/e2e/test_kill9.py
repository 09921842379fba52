"""kill -9 of any part at seeded moments: the run ends with the same equalities, no order twice, no position long without a stop."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from infra import children
from infra.settings import load
from infra.venue.by_hand import tell
from schemas import topics
from streams import report as reports
from streams.cli import any_ports
from streams.launcher import Process, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]


def kill(stack: Stack, name: str) -> None:
    """kill -9, as the machine does it when it is out of memory."""
    server = stack.watched[name].server
    if isinstance(server, Process):
        assert server.popen is not None
        children.kill(server.popen)
    else:
        server.kill()  # type: ignore[attr-defined]


def run_for(stack: Stack, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    stack.watch(lambda: time.monotonic() > deadline)


def wait_all_ready(stack: Stack, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not all(isinstance(w.server, Process) and w.server.ready() for w in stack.workers()):
        assert time.monotonic() < deadline, [w.name for w in stack.workers() if not w.server.ready()]  # type: ignore[attr-defined]
        run_for(stack, 0.5)


def test_killed_parts_come_back_and_everything_adds_up(tmp_path: Path) -> None:
    chance = random.Random(20)
    victims = [*topics.WORKERS, "kafka", "clickhouse"]
    chance.shuffle(victims)
    with Stack(load(run_dir=tmp_path, **any_ports()), fresh=True) as stack:
        stack.start()
        run_for(stack, 6)
        for name in victims:
            kill(stack, name)
            run_for(stack, chance.uniform(1, 2.5))
        # between SENDING and the answer: the exchange takes the next order and never answers; then its sender dies
        tell(stack.settings.exchange_control_url, "faults", route="POST /fapi/v1/order", kind="accept-then-hang", count=1)
        run_for(stack, 6)
        kill(stack, "execution")
        wait_all_ready(stack)
        run_for(stack, 6)
        stack.drain()
        report = reports.make(stack)
    assert report["failures"] == []
    assert report["positions"]["opened"] >= 1
    assert report["orders_by_client_id_max"] <= 1
    assert report["unprotected_worst_s"] <= 15
    assert report["restarts"] >= len(victims)
