"""A street to be disturbed: a broker of its own, the local exchange behind a wire that can be cut, and single workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from infra import children
from infra.broker.admin import TopicSpec, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.paths import CHECKOUT
from infra.ports import free_port, free_ports
from infra.probe import ask
from infra.settings import Settings
from infra.venue import by_hand
from schemas import topics
from streams.envelope import Undecodable, decode
from streams.nursery import Nursery
from streams.worker import state_topics

SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT"


class Wire:
    """A TCP relay in a thread of its own, between workers and the exchange."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target = target_port
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.mend()

    def cut(self) -> None:
        """Every connection ends at once; new ones are taken."""
        self._do(self._cut())

    def tear(self) -> None:
        """Every connection ends, and none is taken until `mend`."""
        self._do(self._tear())

    def mend(self) -> None:
        self._do(self._serve())

    def close(self) -> None:
        self.tear()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def _tear(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        self._open.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Worker:
    """A worker as the launcher starts it."""

    def __init__(self, nursery: Nursery, name: str, env: dict[str, str], log: Path) -> None:
        self.log = log
        self._probe = free_port()
        self.process = nursery.spawn(name, os.environ | env | {"QT_PROBE_PORT": str(self._probe)}, log)

    def ready(self) -> bool:
        return not ask(f"http://127.0.0.1:{self._probe}/readyz", 1.0)

    def wait_ready(self, timeout_s: float = 40) -> None:
        wait_until(lambda: self.ready() or self.process.poll() is not None, timeout_s)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        os.kill(self.process.pid, number)
        self.process.wait(20)
        return time.monotonic() - began


class Street:
    """Broker, exchange and wire. `settings` reach the exchange through the wire, `direct` past it."""

    def __init__(self, directory: Path, nursery: Nursery) -> None:
        kafka_port, controller_port, exchange_port, control_port = free_ports(4)
        self.directory = directory
        self.nursery = nursery
        self.kafka = EmbeddedKafka(directory / "kafka", kafka_port, controller_port)
        self.wire = Wire(exchange_port)
        self.env = {
            "QT_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "QT_EXCHANGE_PORT": str(self.wire.port),
            "QT_EXCHANGE_CONTROL_PORT": str(control_port),
            "QT_RUN_DIR": str(directory / "run"),
            "QT_SYMBOLS": SYMBOLS,
        }
        common: dict[str, Any] = {
            "kafka_bootstrap": self.kafka.bootstrap,
            "exchange_control_port": control_port,
            "symbols": SYMBOLS,
        }
        self.settings = Settings(exchange_port=self.wire.port, **common)
        self.direct = Settings(exchange_port=exchange_port, **common)
        self.workers: list[Worker] = []
        self._ready_for: set[str] = set()
        self._exchange: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.kafka.start()
        self._start_exchange()
        self.kafka.wait_ready()
        self._wait_for_exchange()

    def restart_exchange(self, *, fresh: bool) -> None:
        assert self._exchange is not None
        self._exchange.terminate()
        self._exchange.wait()
        self._start_exchange(*(["--fresh"] if fresh else []))
        self._wait_for_exchange()

    def _start_exchange(self, *extra: str) -> None:
        ports = ["--port", str(self.direct.exchange_port), "--control-port", str(self.direct.exchange_control_port)]
        options = [
            "--market",
            "synthetic",
            "--speed",
            "300",
            "--symbols",
            SYMBOLS,
            "--data-dir",
            str(self.directory / "exchange"),
            *extra,
        ]
        with (self.directory / "exchange.log").open("ab") as out:
            command = [sys.executable, "-m", "infra.venue.local", *ports, *options]
            self._exchange = subprocess.Popen(command, cwd=CHECKOUT, stdout=out, stderr=subprocess.STDOUT)

    def _wait_for_exchange(self) -> None:
        wait_until(lambda: self.control("state") is not None, 30)
        self.by_hand("limits", enforced=False)  # the tests themselves ask more than anyone may

    def stop(self) -> None:
        for worker in self.workers:
            children.kill(worker.process)
        self.wire.close()
        if self._exchange is not None:
            self._exchange.kill()
            self._exchange.wait()
        self.kafka.stop()

    def make_topics_of(self, name: str) -> None:
        """What it reads and writes: all topics together are 330 partitions, seconds of the broker's time."""
        if name not in self._ready_for:
            own = [t for t in topics.ALL if {name, "*"} & {*t.produced_by, *t.consumed_by} or t in topics.FOLLOWED]
            specs = [TopicSpec(t.name, t.partitions, t.config) for t in own]
            ensure_topics(self.kafka.bootstrap, specs + [spec for spec in state_topics() if spec.name == f"state.{name}"])
            self._ready_for.add(name)

    def worker(self, name: str, **env: str) -> Worker:
        self.make_topics_of(name)
        worker = Worker(self.nursery, name, self.env | env, self.directory / f"{name}.log")
        self.workers.append(worker)
        return worker

    def control(self, what: str) -> Any:
        """GET /control/WHAT, None while the exchange is away."""
        try:
            return by_hand.ask(self.direct.exchange_control_url, what)
        except OSError:
            return None

    def by_hand(self, act: str, **body: Any) -> None:
        """Something that no client of ours does (POST /control/ACT)."""
        by_hand.tell(self.direct.exchange_control_url, act, **body)

    def records(self, topic: topics.Topic) -> list[tuple[int, Any]]:
        """(partition, event) of the whole topic, each partition in its order."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": "test", "enable.auto.commit": False})
        found = []
        try:
            for partition, (low, high) in offsets(self.kafka.bootstrap, [topic.name])[topic.name].items():
                consumer.assign([TopicPartition(topic.name, partition, low)])
                left = high - low
                while left:
                    for message in consumer.consume(min(left, 1000), 1.0):
                        assert message.error() is None
                        left -= 1
                        with suppress(Undecodable):  # a test's poison
                            found.append((partition, decode(topic.name, message.value() or b"")))
        finally:
            consumer.close()
        return found


@pytest.fixture
def street(tmp_path: Path, nursery: Nursery) -> Iterator[Street]:
    found = Street(tmp_path, nursery)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, f"not so within {timeout_s} s"
        time.sleep(0.05)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], float], None]:
    """Waits until something is so, or fails."""
    return wait_until
