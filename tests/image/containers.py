"""The street with every worker in a container of the image, as hardened as the chart's pods; broker, ClickHouse and exchange are
children of this process as ever.

    with ContainerStack(settings, image="quantum-trader:0.1.0", engine="podman") as stack:
        stack.start()

A container's process here is `podman run` in the foreground: it hands signals on, and ends with the code of what it ran.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
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
        made = environment(self.settings) | INSIDE | {"QT_PROBE_PORT": str(port)}
        mounted: list[str] = []
        if self.settings.policy_file is not None:
            mounted = ["--volume", f"{self.settings.policy_file.resolve()}:{POLICY}:ro"]
            made["QT_POLICY_FILE"] = POLICY
        variables = self._variables(name, made)
        run = [self.engine, "run", "--rm", "--replace", "--name", self.container(name), "--network", "host"]
        run += ["--timeout", str(LONGEST_S), *HARDENED, "--env-file", str(variables), *mounted]
        log = self.settings.run_dir / "logs" / f"{name}.jsonl"
        url = f"http://127.0.0.1:{port}/readyz"
        self.made[name] = Process(name, [*run, self.image, "worker", name], dict(os.environ), log, url)
        return self.made[name]

    def _variables(self, name: str, values: dict[str, str]) -> Path:
        """In a file, not on the command line, which everybody on a machine may read."""
        (file := self.settings.run_dir / f"{name}.env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return file

    def inspect(self, what: str, *names: str) -> list[str]:
        """A field of these workers' containers, as a Go template."""
        found = subprocess.run(
            [self.engine, "inspect", "--format", what, *map(self.container, names or topics.WORKERS)],
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout.split("\n")[:-1]
