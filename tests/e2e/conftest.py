"""`quantum up` as a person runs it, in a run directory of its own, and what its report must say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.ports import free_ports
from schemas import topics
from streams.bench.scenarios.street import LiveStreet

QUANTUM = (sys.executable, "-P", "-m", "streams.cli")
PORTS = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "CLICKHOUSE_PORT", "EXCHANGE_PORT", "EXCHANGE_CONTROL_PORT")


@dataclass
class Run:
    """One `quantum up` in a run directory of its own; `report` when it has ended."""

    run_dir: Path
    environment: dict[str, str]
    argv: list[str]
    code: int = -1
    output: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, run_dir: Path, *arguments: str, **environment: str) -> Run:
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        env = {"QT_RUN_DIR": str(run_dir), "QT_PROBE_PORT": "0"} | {f"QT_{name}": port for name, port in ports.items()}
        report = ["--report", str(run_dir / "report.json")]
        return cls(run_dir, env | environment, [*QUANTUM, "up", "--fresh", *arguments, *report])

    def go(self, during: Callable[[Run], None] | None = None) -> Run:
        process = subprocess.Popen(
            self.argv, env=os.environ | self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        watcher = threading.Thread(target=during, args=(self,), daemon=True) if during else None
        if watcher:
            watcher.start()
        self.output, _ = process.communicate(timeout=380)
        self.code = process.returncode
        found = self.run_dir / "report.json"
        self.report = json.loads(found.read_text()) if found.exists() else {}
        return self

    def assert_adds_up(self) -> None:
        assert self.code == 0, self.output[-3000:]
        report = self.report
        assert report["failures"] == []
        assert report["dead_letters"] == 0
        assert set(report["topics"]) == set(report["history"]) == {topic.name for topic in topics.ALL}
        for name, seen in report["topics"].items():
            assert seen["lag"] == 0, name
        for name, seen in report["history"].items():
            assert seen == {"records": seen["records"], "rows": seen["records"], "holes": 0, "doubles": 0}, name
        assert len(set(report["trades"].values())) == 1, report["trades"]
        assert len(set(report["fills"].values())) == 1, report["fills"]
        assert report["orders_by_client_id_max"] <= 1

    def ask(self, *command: str) -> str:
        """What a command of the same run directory prints, while it runs."""
        found = subprocess.run([*QUANTUM, *command], env=os.environ | self.environment, capture_output=True, text=True, timeout=60)
        return found.stdout + found.stderr

    def url(self, name: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.environment[f'QT_{name}']}{path}"

    def logs(self) -> list[Path]:
        return [path for path in (self.run_dir / "logs").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStreet]:
    """Broker, local exchange and the workers that protect, on a market that stands until somebody moves it."""
    with LiveStreet(tmp_path_factory.mktemp("street") / "run") as found:
        yield found


@pytest.fixture(scope="session")
def up() -> Callable[..., Run]:
    """up(run_dir, *arguments, **environment): a Run that has not begun."""
    return Run.make
