"""The embedded ClickHouse as a child process: start, wait, stop. It dies with the process that started it.

clickhouse = EmbeddedClickHouse(run_dir() / "clickhouse")
clickhouse.start()
clickhouse.wait_ready()
...
clickhouse.stop()
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from infra import children
from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.ports import is_taken

HOST = "127.0.0.1"
PATIENCE_S = 3.0


class EmbeddedClickHouse:
    """`start()` returns at once; `wait_ready()` blocks until it answers (about 1 s). `poll()` is None while it runs."""

    def __init__(self, data_dir: Path, port: int = 18123, log_dir: Path | None = None, fresh: bool = False) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.port = port
        self.log_dir = Path(log_dir).resolve() if log_dir else self.data_dir.parent / "logs"
        self.fresh = fresh
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def log_file(self) -> Path:
        return self.log_dir / "clickhouse.log"

    def start(self) -> None:
        """Starts the process. UserError: the port is in use, the log cannot be written."""
        if self.pid is not None:
            return
        deadline = time.monotonic() + PATIENCE_S  # a predecessor that is just dying holds the port for a moment
        while is_taken(self.port):
            if time.monotonic() > deadline:
                raise UserError(
                    "ClickHouse cannot start",
                    f"port {self.port} on {HOST} is in use",
                    "stop what listens there (`ss -ltnp` names it), set QT_CLICKHOUSE_PORT to another port, "
                    "or QT_CLICKHOUSE_URL to a ClickHouse that runs already",
                )
            time.sleep(0.05)
        command = [sys.executable, "-P", "-m", "infra.clickhouse", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        if self.fresh:
            command.append("--fresh")
            self.fresh = False  # a restart of this object keeps what it has written
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("wb") as out:
                self.process = children.spawn(command, stdout=out, cwd=CHECKOUT)
        except OSError as error:
            why = f"{error.strerror or error}: {error.filename or self.log_dir}"
            raise UserError("ClickHouse cannot start", why, "free space there, or set QT_RUN_DIR to another folder") from error

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Blocks until it answers. UserError with the reason if it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.poll() is not None:
                raise self.why_ended()
            if answers(self.url):
                return
            time.sleep(0.03)
        self.stop(timeout_s=2)
        raise UserError("ClickHouse is not running", f"it did not answer within {timeout_s:.0f} s", f"read {self.log_file}")

    def poll(self) -> int | None:
        """None while the process runs, else its exit code (negative: the signal). -1 if it was never started."""
        return self.process.poll() if self.process else -1

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Clean stop by SIGTERM; SIGKILL after `timeout_s`. True if it was clean. Safe to call twice."""
        return children.stop(self.process, timeout_s) if self.process else True

    def kill(self) -> None:
        """`kill -9`, as the tests do it."""
        if self.process:
            children.kill(self.process)

    def why_ended(self) -> UserError:
        """What a person should know about the end of a process that ended by itself: its own three lines if it wrote them."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        told = {line[:5]: line[6:].strip() for line in lines if line[:5] in ("what:", "why: ", "do:  ")}
        if len(told) == 3:
            return UserError(told["what:"], told["why: "], told["do:  "])
        last = lines[-1] if lines else ""
        return UserError("ClickHouse is not running", f"it ended with code {self.poll()}. {last}".strip(), f"read {self.log_file}")


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a ClickHouse answers there."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ping", timeout=timeout_s) as answer:
            return bool(answer.read() == b"Ok.\n")
    except (OSError, ValueError):
        return False
