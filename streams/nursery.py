"""Workers by fork: one process imports everything once, and each worker of the embedded stack is its child.

A worker started by itself spends most of two CPU seconds on imports; forked it is there at once, and so is one that was killed.
The launcher speaks lines of JSON to the nursery's stdin and hears lines from its stdout:

    -> {"name": "features", "env": {...}, "log": "var/logs/features.jsonl"}
    <- {"pid": 4711}
    <- {"pid": 4711, "code": -9}                 code as subprocess tells it

Each child leads a process group and dies with the nursery, which dies with the launcher (infra/children.py). A nursery that
dies takes its workers with it; the next start makes a new one. The guardian is no child of it: it shares nobody's fate.

    python -m streams.nursery [MODULE]       MODULE.run_worker(name, settings) is a worker's life; by default streams.worker's
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

from infra import children
from infra.errors import UserError
from infra.settings import Settings, load

PRELOAD = ("streams.runner", "streams.watch", "streams.loop")
ALONE = ("guardian",)
BORN_S = 30.0
"""Its imports included; one that is frozen is killed then, and its workers start anew with the next."""
END = {signal.SIGTERM}
_PR_SET_PDEATHSIG = 1


class Child:
    """A worker, as subprocess.Popen shows a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the word of it is on its way
                os.kill(self.pid, signal.SIGTERM)


class Nursery:
    """The launcher's side. Begins to import at once; `spawn` waits for it."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self._argv, self._log = list(argv), log
        self._one_at_a_time = threading.Lock()
        self._open()

    def spawn(self, name: str, env: Mapping[str, str], log: Path) -> Child:
        """Raises UserError when no child comes."""
        request = json.dumps({"name": name, "env": dict(env), "log": str(log.absolute())}).encode() + b"\n"
        with self._one_at_a_time:
            if self._process.poll() is not None:
                self._open()
            pipe = self._process.stdin
            assert pipe is not None
            try:
                pipe.write(request)
                pipe.flush()
                return self._born.get(timeout=BORN_S)
            except (OSError, Empty) as e:
                children.kill(self._process)
                raise UserError(f"{name} did not start", "the process that starts workers is gone", f"read {self._log}") from e

    def stop(self) -> None:
        children.stop(self._process, 2.0)

    def abandon(self) -> None:
        """It hangs: it and all its children go, which tells their ends; the next start makes a new one."""
        children.kill(self._process)

    def _open(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as out:
            self._process = children.spawn(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out)
        self._born: SimpleQueue[Child] = SimpleQueue()
        threading.Thread(target=_hear, args=(self._process, self._born), name="nursery", daemon=True).start()


def _hear(process: subprocess.Popen[bytes], born: SimpleQueue[Child]) -> None:
    alive: dict[int, Child] = {}
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)
        if "code" in told:
            alive.pop(told["pid"]).end(told["code"])
        else:
            alive[told["pid"]] = child = Child(told["pid"])
            born.put(child)
    for child in alive.values():  # the kernel has killed them with their parent
        child.end(-signal.SIGKILL)


# -- the nursery's side


def main() -> None:
    """Serves until its stdin ends or SIGTERM."""
    from setproctitle import getproctitle

    from streams.app import end_at_once

    getproctitle()  # finds where the title stands, as long as the environment is where it was
    work = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else "streams.worker")
    known: dict[str, str] = getattr(work, "MODULES", {})
    for module in (*PRELOAD, *(module for name, module in known.items() if name not in ALONE)):
        importlib.import_module(module)
    signal.signal(signal.SIGTERM, end_at_once)  # a child knows what SIGTERM means from its birth
    gc.collect()
    gc.freeze()  # or every collection in a child would copy the pages that all share
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(answers)
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, requests = (requests + more).split(b"\n")
            for line in lines:
                request = json.loads(line)
                signal.pthread_sigmask(signal.SIG_BLOCK, END)  # until the child is where it can answer
                parent, pid = os.getpid(), os.fork()
                if not pid:
                    os.close(answers)
                    _live(request, parent, work.run_worker)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, END)
                with contextlib.suppress(OSError):
                    os.setpgid(pid, pid)  # it does so too; whoever is first: from here on its group can be killed
                _say(answers, pid=pid)


def _say(answers: int, **told: int) -> None:
    os.write(answers, json.dumps(told).encode() + b"\n")


def _reap(answers: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(answers, pid=pid, code=os.waitstatus_to_exitcode(status))


def _live(request: dict[str, Any], parent: int, run_worker: Callable[[str, Settings], None]) -> NoReturn:
    """The child's whole life."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END)
        _become(request, parent)
        run_worker(request["name"], load())
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except UserError as e:
        sys.stderr.write(f"{e}\n")
        code = 2
    except BaseException:  # the child's outermost frame: nothing may return into the nursery
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _become(request: dict[str, Any], parent: int) -> None:
    """A process of its own: group, environment, files, signals, name."""
    from setproctitle import setproctitle

    setproctitle(f"quantum worker {request['name']}")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before we asked
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    os.close(log)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(request["env"])


if __name__ == "__main__":
    main()
