"""A process under the launcher's eyes: what dies and what hangs is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra import children
from infra.ports import free_port
from streams.launcher import Process, Watched, python
from streams.nursery import Child, Nursery

SERVES = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    port = free_port()
    process = Process(
        "one",
        [sys.executable, "-c", SERVES, str(port)],
        dict(os.environ),
        tmp_path / "log",
        f"http://127.0.0.1:{port}/readyz",
        hung_s=0.5,
    )
    watched = Watched("one", process)
    watched.start()
    yield watched
    process.stop()


def serving(watched: Watched) -> Process:
    process = watched.server
    assert isinstance(process, Process)
    process.wait_ready()
    process.look()
    return process


def tended(watched: Watched) -> str:
    """What the launcher says next."""
    process = watched.server
    assert isinstance(process, Process)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if told := watched.tend():
            return told
        process.look()
        time.sleep(0.05)
    raise AssertionError("nothing was said")


def test_a_process_that_dies_is_started_again(watched: Watched) -> None:
    first = serving(watched).pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert "ended with code -9" in tended(watched)
    while watched.restarts == 0:
        watched.tend()
    assert serving(watched).pid != first


def test_a_process_that_hangs_is_killed_and_started_again(watched: Watched) -> None:
    first = serving(watched).pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    assert "has not said that it is alive" in tended(watched)
    assert "ended with code -9" in tended(watched)
    while watched.restarts == 0:
        watched.tend()
    assert serving(watched).pid != first


def test_a_process_that_is_still_starting_does_not_hang(watched: Watched) -> None:
    """One that was never alive has all the time that the launcher gives a start."""
    process = watched.server
    assert isinstance(process, Process)
    time.sleep(0.8)
    assert watched.tend() is None


def test_a_nursery_bears_workers_and_tells_their_end(tmp_path: Path, nursery: Nursery) -> None:
    """A worker that cannot run ends with its code and its word in its own log; one that is killed is told as killed; one that is
    told to end before it has begun ends well."""
    env = dict(os.environ) | {"QT_RUN_DIR": str(tmp_path), "QT_PROBE_PORT": "0", "QT_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    unknown = nursery.spawn("nobody", env, tmp_path / "nobody.jsonl")
    assert unknown.wait(60) == 2
    assert "no worker 'nobody'" in (tmp_path / "nobody.jsonl").read_text()
    waiting = nursery.spawn("positions", env, tmp_path / "positions.jsonl")
    assert "quantum worker positions" in titled(waiting.pid)
    children.kill(waiting)
    assert waiting.poll() == -signal.SIGKILL
    young = nursery.spawn("positions", env, tmp_path / "positions.jsonl")
    assert children.stop(young, 10.0)
    assert young.poll() == 0


def test_workers_die_with_their_nursery_and_the_next_start_makes_a_new_one(tmp_path: Path) -> None:
    nursery = Nursery(python("streams.nursery"), tmp_path / "nursery.log")
    try:
        env = dict(os.environ) | {"QT_RUN_DIR": str(tmp_path), "QT_PROBE_PORT": "0", "QT_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
        one = nursery.spawn("positions", env, tmp_path / "positions.jsonl")
        titled(one.pid)
        os.kill(psutil.Process(one.pid).ppid(), signal.SIGKILL)
        assert one.wait(20) == -signal.SIGKILL
        assert gone(one.pid)
        two = nursery.spawn("positions", env, tmp_path / "positions.jsonl")
        assert "quantum worker" in titled(two.pid)
    finally:
        nursery.stop()


def test_a_nursery_that_hangs_goes_with_the_worker_whose_death_it_does_not_tell(tmp_path: Path) -> None:
    nursery = Nursery(python("streams.nursery"), tmp_path / "nursery.log")
    try:
        env = dict(os.environ) | {"QT_RUN_DIR": str(tmp_path), "QT_PROBE_PORT": "0", "QT_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
        process = Process("positions", [], env, tmp_path / "positions.jsonl", "http://127.0.0.1:1/readyz", 0.1, nursery)
        worker = Watched("positions", process)
        worker.start()
        first = process.pid
        assert first is not None
        titled(first)
        os.kill(psutil.Process(first).ppid(), signal.SIGSTOP)
        process.alive_at = time.monotonic() - 1.0  # it was alive, and has not said so since
        assert "was killed" in str(worker.tend())
        deadline = time.monotonic() + 60
        while worker.restarts == 0 and time.monotonic() < deadline:
            worker.tend()
            time.sleep(0.05)
        assert process.pid not in (None, first)
    finally:
        nursery.stop()


def test_a_worker_whose_end_is_not_told_yet_is_stopped_in_peace() -> None:
    """It ends, and before the nursery's word comes the launcher says SIGTERM."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended = Child(gone.pid)
    ended.terminate()
    ended.end(0)
    assert children.stop(ended, 1.0)


def titled(pid: int) -> str:
    """Its name as `ps` shows it, once it has one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        name = " ".join(psutil.Process(pid).cmdline())
        if name.startswith("quantum"):
            return name
        time.sleep(0.02)
    raise AssertionError("it took no name")


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)
