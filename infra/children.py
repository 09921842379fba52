"""Child processes that cannot outlive us: own process group, and killed by the kernel when this process dies.

- Own group: Ctrl-C in a terminal reaches only the launcher, which then stops its children in order.
- Killed with the parent (Linux): even `kill -9` of the launcher leaves nothing running. Elsewhere there is no such
  call, and a child must be stopped by its owner.

The kernel ties a child to the *thread* that started it, not to the process. So all children are started by one thread
that lives as long as this process does; whoever calls `spawn` may come and go.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol

# Runs in the child before the program: no code of ours between fork and exec in a process with threads.
_SHIM = """\
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)  # the parent died before we asked
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    os.write(2, f"{sys.argv[2]}: {error.strerror}\\n".encode())
    os._exit(127)
"""

KILLED_S = 2.0

_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="children")


def spawn(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = subprocess.DEVNULL,
    stderr: IO[bytes] | int | None = subprocess.STDOUT,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `argv`; the returned pid is the program's own. A program that does not exist exits with 127."""
    command = list(argv)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, process_group=0)

    return _starter.submit(start).result()


class Child(Protocol):
    """What of a subprocess.Popen is needed to end it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...


def stop(child: Child, timeout_s: float) -> bool:
    """SIGTERM, and after `timeout_s` SIGKILL to its whole group. True if it went by itself."""
    if child.poll() is not None:
        return True
    child.terminate()
    try:
        child.wait(timeout_s)
        return True
    except subprocess.TimeoutExpired:
        kill(child)
        return False


def kill(child: Child) -> None:
    """SIGKILL to the child's group; waits until the child is gone, or for a while where nobody reaps it."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(KILLED_S)
