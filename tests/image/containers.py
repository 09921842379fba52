"""The street with every worker in a container of the image, as hardened as the chart's pods; the exchange, and what the settings do
not name, are children of this process as ever.

    with ContainerStack(settings, image="quantum-trader:0.1.0", engine="podman") as stack:
        stack.start()

A container's process here is `podman run` in the foreground: it hands signals on, and ends with the code of what it ran.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

from infra.ports import free_port
from schemas import topics
from streams.launcher import Process, Stack, environment

HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "10001:10001", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", "1g", "--pids-limit", "256", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1024:1024"),
)
INSIDE = {"QT_RUN_DIR": "/tmp/quantum", "QT_MODEL_REGISTRY": "/models"}
POLICY = "/etc/quantum/policy.json"
LONGEST_S = 900
"""Whatever happens to this process, no container lives longer."""
PATIENCE_S = 300.0
GRACE_S = 30.0
"""As the chart gives between SIGTERM and SIGKILL."""


class Container(Process):
    def wait_ready(self, timeout_s: float = PATIENCE_S) -> None:
        super().wait_ready(timeout_s)

    def stop(self, timeout_s: float = GRACE_S) -> bool:
        """Waits: it has had its SIGTERM, and `podman run` itself dies of a second one that finds its container gone."""
        assert self.popen is not None
        try:
            self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return super().stop(0.0)
        return True


@dataclass
class ContainerStack(Stack):
    image: str = ""
    engine: str = "podman"
    made: dict[str, Process] = field(default_factory=dict)
    told: list[tuple[float, str]] = field(default_factory=list)
    """(seconds since the epoch, what the stack said)"""

    def __post_init__(self) -> None:
        self.say = lambda line: self.told.append((time.time(), line))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        left = [self.container(name) for name in self.made]
        subprocess.run([self.engine, "rm", "--force", "--ignore", *left], capture_output=True, check=False)

    def container(self, name: str) -> str:
        return f"quantum-test-{os.getpid()}-{name}"

    def _worker(self, name: str) -> Process:
        port = free_port()
        log = self.settings.run_dir / "logs" / f"{name}.jsonl"
        argv = [*self._run(name, QT_PROBE_PORT=str(port)), "worker", name]
        self.made[name] = Container(name, argv, dict(os.environ), log, f"http://127.0.0.1:{port}/readyz")
        return self.made[name]

    def _wait_for_workers(self, timeout_s: float = PATIENCE_S) -> None:
        super()._wait_for_workers(timeout_s)

    def _stop(self, names: Iterable[str], timeout_s: float = GRACE_S) -> None:
        super()._stop(names, timeout_s)

    def prepare(self, attempts: int = 5) -> None:
        """Topics and tables, by the image: a container that ends, begun again when it fails, as in the chart and in compose."""
        argv = [*self._run("bootstrap"), "bootstrap", "--patience", "120"]
        for _ in range(attempts):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
        raise AssertionError(done.stdout + done.stderr)

    def _run(self, name: str, **more: str) -> list[str]:
        """The command line up to what the image is asked to do. Variables stand in a file: everybody may read a command line."""
        values = environment(self.settings) | INSIDE | more
        mounted: list[str] = []
        if self.settings.policy_file is not None:
            mounted = ["--volume", f"{self.settings.policy_file.resolve()}:{POLICY}:ro"]
            values["QT_POLICY_FILE"] = POLICY
        (file := self.settings.run_dir / f"{name}.env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        run = [self.engine, "run", "--rm", "--replace", "--name", self.container(name), "--network", "host"]
        return [*run, "--timeout", str(LONGEST_S), *HARDENED, "--env-file", str(file), *mounted, self.image]

    def inspect(self, what: str, *names: str) -> list[str]:
        """A field of these workers' containers, as a Go template."""
        found = subprocess.run(
            [self.engine, "inspect", "--format", what, *map(self.container, names or topics.WORKERS)],
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout.split("\n")[:-1]
