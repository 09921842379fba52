"""A broker and workers of one's own: on free ports, in a temporary folder, gone at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra import children
from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.ports import free_port, free_ports
from infra.probe import ask, told_metrics
from schemas import topics


@contextmanager
def own_broker(more: Sequence[TopicSpec] = (), heap_max_mb: int = 384) -> Iterator[EmbeddedKafka]:
    """With the registry's topics and `more`."""
    with tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        port, controller_port = free_ports(2)
        broker = EmbeddedKafka(Path(folder) / "kafka", port, controller_port, heap_max_mb=heap_max_mb)
        broker.start()
        try:
            broker.wait_ready()
            ensure_topics(broker.bootstrap, [TopicSpec(t.name, t.partitions, t.config) for t in topics.ALL] + list(more))
            yield broker
        finally:
            broker.stop()


class Worker:
    """A process of ours with a probe."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._popen, self._port, self._log = popen, port, log

    def processed(self) -> int:
        """Records applied so far; 0 while it does not answer."""
        found = [line for line in told_metrics(self._port) if line.startswith("qt_processed_total")]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))

    def wait_ready(self, timeout_s: float = 180.0) -> None:
        """Until it says so. Raises UserError."""
        deadline = time.monotonic() + timeout_s
        while why := ask(f"http://127.0.0.1:{self._port}/readyz", 2.0):
            if self._popen.poll() is not None or time.monotonic() > deadline:
                raise UserError("the worker did not get ready", why, self._log.read_text()[-2000:])
            time.sleep(0.05)

    def wait_processed(self, n: int, timeout_s: float = 180.0) -> float:
        """Seconds from the first record to the n-th, to about 0.1 s: telling metrics costs the worker. Raises UserError when it
        dies or takes too long."""
        began: float | None = None
        at_first = 0
        deadline = time.monotonic() + timeout_s
        while True:
            now, done = time.monotonic(), self.processed()
            if done and began is None:
                began, at_first = now, done
            if done >= n:
                assert began is not None
                return (now - began) * n / max(1, n - at_first) if n > at_first else now - began
            if self._popen.poll() is not None or now > deadline:
                raise UserError("the worker did not get through", f"{done} of {n} records", self._log.read_text()[-2000:])
            time.sleep(0.1)


@contextmanager
def own_worker(argv: Sequence[str], bootstrap: str, folder: Path, more: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """`argv` behind `python -m`; `more`: of its environment."""
    port, log = free_port(), folder / f"{'-'.join(argv).replace('/', '_')}.jsonl"
    env = os.environ | {"QT_KAFKA_BOOTSTRAP": bootstrap, "QT_PROBE_PORT": str(port), "QT_RUN_DIR": str(folder)} | dict(more or {})
    with log.open("wb") as out:
        popen = children.spawn([sys.executable, "-P", "-m", *argv], stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        yield Worker(popen, port, log)
    finally:
        children.stop(popen, 8.0)
