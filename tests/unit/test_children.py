"""Children live as long as we do: not shorter because a thread ended, not longer because we were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from infra import children

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_child_has_its_own_group_and_outlives_the_thread_that_asked_for_it() -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(children.spawn(SLEEP)))
    thread.start()
    thread.join()
    (child,) = started
    try:
        assert os.getpgid(child.pid) == child.pid
        time.sleep(0.3)
        assert child.poll() is None
    finally:
        children.kill(child)
    assert child.returncode == -signal.SIGKILL


@ON_LINUX
def test_kill_9_of_the_parent_leaves_no_child() -> None:
    program = f"from infra import children; import time; print(children.spawn({SLEEP!r}).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as us:
        assert us.stdout is not None
        pid = int(us.stdout.readline())
        time.sleep(0.2)
        assert psutil.pid_exists(pid)
        us.kill()
    assert gone(pid)


def test_stop_is_gentle_first_and_firm_after_the_timeout() -> None:
    gentle = children.spawn(SLEEP)
    stubborn = children.spawn(
        [sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    assert children.stop(gentle, 5)
    assert not children.stop(stubborn, 0.3)
    assert stubborn.returncode == -signal.SIGKILL
    assert children.stop(stubborn, 0.3), "stopping what has ended is no error"
    stubborn.stdout.close()


@ON_LINUX
def test_a_program_that_does_not_exist_ends_with_127() -> None:
    assert children.spawn(["/no/such/program"], stdout=subprocess.DEVNULL).wait(10) == 127
