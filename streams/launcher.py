"""The embedded stack as one thing: broker, ClickHouse, exchange and every worker; started in order, restarted, drained.

    stack = Stack(settings, fresh=True)
    with stack:                 # start ... stop, also on an exception
        stack.start()
        stack.watch(until)      # restarts what dies
        stack.drain()           # market first, then what it feeds; ends with everything in ClickHouse
        report.make(stack)

Crash-only: a worker that dies is started again with back-off and recovers by itself. Nothing outlives this process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from infra import children
from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.clickhouse.embedded import EmbeddedClickHouse
from infra.clickhouse.migrate import migrate
from infra.errors import UserError
from infra.ports import free_ports, is_taken
from infra.probe import ask
from infra.settings import Settings
from infra.venue import by_hand
from schemas import topics
from streams.commands import first_policy
from streams.lag import lags
from streams.nursery import ALONE, Nursery
from streams.worker import state_topics

BACK_OFF_S = (0.3, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 30.0
"""A child that lived this long starts its back-off anew."""
POLL_S = 0.1
DRAIN_S = 25.0
LEFT_BY_RUNS = ("kafka", "clickhouse", "exchange", "logs", "workers", "run.json")
OURS = "quantum-run"
"""An empty file that marks a run directory as ours."""
STOP_S = 7.0
"""A worker gives its drain 3 s and its end 3 s."""
LOOK_S, HUNG_S = 2.0, 30.0
"""A worker that once was alive and has not said so for that long hangs: it is killed, and started again like any dead one."""


class Server(Protocol):
    """What the broker, ClickHouse and a plain process have in common."""

    def start(self) -> None: ...
    def wait_ready(self, timeout_s: float = 60.0) -> None: ...
    def poll(self) -> int | None: ...
    def stop(self, timeout_s: float = STOP_S) -> bool: ...


@dataclass
class Process:
    """A child of our own code: a worker or the exchange. Logs are JSON lines in `log`."""

    name: str
    argv: list[str]
    env: dict[str, str]
    log: Path
    ready_url: str
    hung_s: float = HUNG_S
    nursery: Nursery | None = None
    popen: children.Child | None = None
    alive_at: float | None = None

    def start(self) -> None:
        self.alive_at = None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.nursery is not None:
            self.popen = self.nursery.spawn(self.name, self.env, self.log)
            return
        with self.log.open("ab") as out:
            self.popen = children.spawn(self.argv, stdout=out, stderr=subprocess.STDOUT, env=self.env)

    def poll(self) -> int | None:
        return self.popen.poll() if self.popen else -1

    @property
    def pid(self) -> int | None:
        return self.popen.pid if self.popen and self.popen.poll() is None else None

    def ready(self) -> bool:
        return not ask(self.ready_url, 1.0)

    def look(self) -> None:
        """Asks whether it is alive; blocks for a second at most."""
        asked = self.popen
        if not ask(self.ready_url.replace("/readyz", "/livez"), 1.0) and asked is self.popen:
            self.alive_at = time.monotonic()

    def end_if_hung(self) -> bool:
        """Kills a process that has stopped saying that it is alive."""
        if self.popen is None or self.alive_at is None or time.monotonic() - self.alive_at < self.hung_s:
            return False
        children.kill(self.popen)
        if self.nursery is not None and self.popen.poll() is None:
            self.nursery.abandon()  # nobody tells of that death: who should have reaped it hangs too
        return True

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if self.poll() is not None:
                raise self.failed(f"it ended with code {self.poll()}")
            if time.monotonic() > deadline:
                raise self.failed(f"it was not ready after {timeout_s:.0f} s")
            time.sleep(0.05)

    def failed(self, why: str) -> UserError:
        told = last_words(self.log)
        try:
            said = json.loads(told)
            return UserError(f"{self.name}: {said['what']}", said["why"], said["do"])
        except (ValueError, KeyError, TypeError):
            return UserError(f"{self.name} did not start", f"{why}. {told}".strip(), f"read {self.log}")

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and the word of it is on its way
                os.kill(self.pid, number)

    def stop(self, timeout_s: float = STOP_S) -> bool:
        return children.stop(self.popen, timeout_s) if self.popen else True


@dataclass
class Watched:
    """A server under supervision: when it died, how often, when it may start again."""

    name: str
    server: Server
    restarts: int = 0
    died_at: float | None = None
    started_at: float = 0.0
    ended_with: int | None = None
    strikes: int = 0

    def start(self) -> None:
        self.server.start()
        self.started_at = time.monotonic()

    def tend(self) -> str | None:
        """Starts a dead server again when its back-off is over. Says what happened, once."""
        now = time.monotonic()
        if self.died_at is None:
            code = self.server.poll()
            if code is None:
                if isinstance(self.server, Process) and self.server.end_if_hung():
                    return f"{self.name} has not said that it is alive for {self.server.hung_s:.0f} s and was killed"
                return None
            self.died_at, self.ended_with = now, code
            if now - self.started_at > STEADY_S:
                self.strikes = 0
            return f"{self.name} ended with code {code}, starting it again"
        if now - self.died_at < BACK_OFF_S[min(self.strikes, len(BACK_OFF_S) - 1)]:
            return None
        self.restarts, self.strikes, self.died_at = self.restarts + 1, self.strikes + 1, None
        try:
            self.start()
        except UserError as e:
            self.died_at = now
            return f"{self.name} could not start: {e.why}"
        return None


@dataclass
class Stack:
    """Everything that `quantum up` runs. `without`: stages that are left out, to see what notices (tests only)."""

    settings: Settings
    fresh: bool = False
    without: frozenset[str] = frozenset()
    say: Callable[[str], None] = lambda line: None
    interrupted: Callable[[], bool] = lambda: False
    watched: dict[str, Watched] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    opened: float | None = None
    peak_rss_mb: float = 0.0
    restarts: int = 0
    lock: IO[str] | None = None
    nursery: Nursery | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- start

    def start(self) -> None:
        """Returns when every worker is ready. Raises UserError: a port in use, no disk, a download missing, no answer."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # children inherit it: one that is not ready to hear it must not die of it
        self._check_ports()
        self._prepare_run_dir()
        if sys.platform == "linux":  # forking is not safe everywhere
            self.nursery = Nursery(python("streams.nursery"), self.settings.run_dir / "logs" / "nursery.log")
        servers: list[Watched] = []
        if not self.settings.kafka_bootstrap:
            servers.append(self._watch("kafka", self._kafka()))
        if not self.settings.clickhouse_url:
            servers.append(self._watch("clickhouse", self._clickhouse()))
        servers.append(self._watch("exchange", self._exchange()))
        for watched in servers:
            self.say(f"starting {watched.name}")
            watched.start()
        for watched in servers:
            watched.server.wait_ready()
            self.say(f"{watched.name} is ready")
        (self.settings.run_dir / "run.json").write_text(json.dumps(self._described()))  # the exchange has taken the market
        self._market("pause")  # nobody misses what happens while the workers start
        ensure_topics(self.settings.bootstrap, all_topics())
        migrate(self.settings.clickhouse, self.settings.clickhouse_database)
        self.say(f"{len(topics.ALL)} topics and their tables are there; starting the workers")
        if self.settings.policy_file is not None:
            self._first_policy(self.settings.policy_file)
        for name in sorted(topics.WORKERS, key=lambda name: name not in ALONE):  # what imports for itself begins first
            if name not in self.without and name not in self.watched:
                self._watch(name, self._worker(name)).start()
        self._wait_for_workers()
        threading.Thread(target=self._look_forever, name="alive", daemon=True).start()
        if not self.interrupted():
            self._market("resume")
            self.opened = time.time()

    def _look_forever(self) -> None:
        """Beside everything else: eleven hanging workers must not hold up who restarts them."""
        while self.watched:
            for watched in self.workers():
                if isinstance(watched.server, Process):
                    watched.server.look()
            time.sleep(LOOK_S)

    def _first_policy(self, path: Path) -> None:
        """Before anybody decides."""
        control = self._watch("control", self._worker("control"))
        control.start()
        control.server.wait_ready()
        first_policy(self.settings, path)

    def _wait_for_workers(self, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        waiting = {watched.name: watched.server for watched in self.workers()}
        while waiting and not self.interrupted():
            for name, server in list(waiting.items()):
                assert isinstance(server, Process)
                if server.ready():
                    self.say(f"{name} is ready")
                    del waiting[name]
            self.tend()
            if time.monotonic() > deadline:
                name, server = next(iter(waiting.items()))
                assert isinstance(server, Process)
                raise server.failed(f"it was not ready after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def _prepare_run_dir(self) -> None:
        run_dir = self.settings.run_dir
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._lock(run_dir)
            if self.fresh:
                self._wipe(run_dir)
            (run_dir / OURS).touch()
            self._check_market(run_dir / "run.json")
        except OSError as e:
            raise UserError(
                f"{run_dir} cannot be used", f"{e.strerror}: {e.filename}", "set QT_RUN_DIR to a folder that can be written"
            ) from e

    def _wipe(self, run_dir: Path) -> None:
        """What runs have left there, and nothing of anybody else."""
        there = [path for name in LEFT_BY_RUNS if (path := run_dir / name).exists()]
        if there and not (run_dir / OURS).exists() and not (run_dir / "run.json").exists():
            raise UserError(
                f"{there[0]} is not deleted",
                f"{run_dir} does not look like the directory of a run: it has no {OURS}",
                "set QT_RUN_DIR to another folder, or remove what is there yourself",
            )
        for path in there:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _described(self) -> dict[str, Any]:
        return {"market": self.settings.market, "seed": self.settings.seed, "symbols": self.settings.symbols}

    def _check_market(self, path: Path) -> None:
        """Raises UserError when the directory's log is of another market."""
        if not path.exists():
            return
        try:
            before = json.loads(path.read_text())
        except ValueError as e:
            raise UserError(f"{path} cannot be read", str(e), "add --fresh to begin anew, or remove the file") from e
        if before != (market := self._described()):
            raise UserError(
                f"{self.settings.run_dir} holds a run on {_words(before)}",
                f"this one is on {_words(market)}: one log cannot hold two markets under the same names",
                "add --fresh to begin anew, or set QT_RUN_DIR to another folder",
            )

    def _lock(self, run_dir: Path) -> None:
        """One stack a run directory. The lock goes with this process."""
        self.lock = (run_dir / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run_dir} is in use", "another `quantum up` runs on it", "stop that one, or set QT_RUN_DIR to another folder"
            ) from None

    def _check_ports(self) -> None:
        s = self.settings
        wanted = [(s.exchange_port, "QT_EXCHANGE_PORT"), (s.exchange_control_port, "QT_EXCHANGE_CONTROL_PORT")]
        if not s.kafka_bootstrap:
            wanted += [(s.kafka_port, "QT_KAFKA_PORT"), (s.kafka_controller_port, "QT_KAFKA_CONTROLLER_PORT")]
        if not s.clickhouse_url:
            wanted += [(s.clickhouse_port, "QT_CLICKHOUSE_PORT")]
        for port, name in wanted:
            if len(names := [other for at, other in wanted if at == port]) > 1:
                raise UserError(f"port {port} is named twice", " and ".join(names), "give each a port of its own")
            if is_taken(port, s.host):
                raise UserError(
                    f"port {port} is in use",
                    "another process listens there, perhaps another `quantum up`",
                    f"stop it (`ss -ltnp | grep {port}` names it) or set {name} to another port",
                )

    def _kafka(self) -> Server:
        s = self.settings
        log_dir = s.run_dir / "logs" / "kafka"
        return EmbeddedKafka(s.run_dir / "kafka", port=s.kafka_port, controller_port=s.kafka_controller_port, log_dir=log_dir)

    def _clickhouse(self) -> Server:
        s = self.settings
        return EmbeddedClickHouse(s.run_dir / "clickhouse", port=s.clickhouse_port, log_dir=s.run_dir / "logs" / "clickhouse")

    def _exchange(self) -> Process:
        s = self.settings
        argv = [
            *python("infra.venue.local"),
            *("--port", str(s.exchange_port), "--control-port", str(s.exchange_control_port)),
            *("--market", s.market, "--speed", str(s.speed), "--seed", str(s.seed)),
            *("--data-dir", str(s.run_dir / "exchange"), "--symbols", s.symbols),
        ]
        env = os.environ | {
            "QT_LOCAL_API_KEY": s.api_key.get_secret_value(),
            "QT_LOCAL_API_SECRET": s.api_secret.get_secret_value(),
        }
        return Process("exchange", argv, env, s.run_dir / "logs" / "exchange.jsonl", f"{s.exchange_url}/fapi/v1/time")

    def _worker(self, name: str) -> Process:
        s = self.settings
        if s.probe_port:
            port = s.probe_port + topics.WORKERS.index(name)
        else:
            port = free_ports(1)[0]
        env = os.environ | environment(s) | {"QT_PROBE_PORT": str(port)}
        if name != "control":  # who does not check signatures does not need the token
            env.pop("QT_ADMIN_TOKEN", None)
        argv = [*python("streams.cli"), "worker", name]
        nursery = None if name in ALONE else self.nursery
        return Process(name, argv, env, s.run_dir / "logs" / f"{name}.jsonl", f"http://{s.host}:{port}/readyz", nursery=nursery)

    def _watch(self, name: str, server: Server) -> Watched:
        self.watched[name] = Watched(name, server)
        return self.watched[name]

    # -- run

    def workers(self) -> list[Watched]:
        return [watched for name in topics.WORKERS if (watched := self.watched.get(name))]

    def watch(self, until: Callable[[], bool], look: Callable[[], None] = lambda: None) -> None:
        """Restarts what dies until `until()` says so; `look` is called between, for the status view."""
        measured = 0.0
        while not until():
            self.tend()
            look()
            if time.monotonic() - measured > 2.0:
                measured = time.monotonic()
                self.measure()
            time.sleep(POLL_S)

    def tend(self) -> None:
        for watched in self.watched.values():
            before = watched.restarts
            if told := watched.tend():
                self.say(told)
            self.restarts += watched.restarts - before

    def measure(self) -> None:
        """Memory of everything that we started, at its highest so far."""
        pids = [pid for watched in self.watched.values() if (pid := getattr(watched.server, "pid", None))]
        self.peak_rss_mb = max(self.peak_rss_mb, sum(map(rss_mb, pids)))

    # -- end

    def drain(self) -> None:
        """Market first; then everything in flight lands; then the stages stop; then history has it all.

        Leaves Kafka, ClickHouse and the exchange (its market standing still) up for the report.
        """
        deadline = time.monotonic() + DRAIN_S
        self.say("draining: the market stops, what is in flight lands")
        for watched in self.workers():  # no more heartbeats: whoever reads them would never be done
            assert isinstance(watched.server, Process)
            watched.server.signal(signal.SIGUSR1)
        self._market("pause")
        self._stop(["market"])
        stages = [w.name for w in self.workers() if w.name not in ("market", "history", "guardian")]
        self._settle(stages, deadline)
        self._stop([w.name for w in self.workers() if w.name not in ("market", "history")])
        if "history" in self.watched:
            self._settle(["history"], deadline)

    def _settle(self, groups: list[str], deadline: float, calm: int = 2) -> None:
        """Waits until these consumer groups have applied all that there is, twice in a row."""
        seen = 0
        behind: dict[str, int] = {}
        while seen < calm and time.monotonic() < deadline:
            self.tend()
            with contextlib.suppress(UserError):  # a coordinator that has just moved: the next look tells
                behind = {name: sum(by_topic.values()) for name, by_topic in lags(self.settings.bootstrap, groups).items()}
                seen = 0 if any(behind.values()) else seen + 1
            time.sleep(0.15)
        if seen < calm:
            told = ", ".join(f"{name} {n:,}" for name, n in behind.items() if n)
            self.say(f"not all has landed in time; records left: {told or 'none any more'} (they are taken at the next start)")

    def _market(self, word: str) -> None:
        """`pause`: the exchange's market stands still, time too; orders are taken all the same. `resume`: it goes on."""
        try:
            by_hand.tell(self.settings.exchange_control_url, word, 2.0)
        except OSError as e:
            self.say(f"the exchange did not {word}: {e}")

    def _stop(self, names: Iterable[str], timeout_s: float = STOP_S) -> None:
        """SIGTERM to all of them at once, then patience for each; what does not go is killed and told."""
        chosen = [self.watched.pop(name) for name in list(names) if name in self.watched]
        for watched in chosen:
            if isinstance(watched.server, Process):
                watched.server.signal(signal.SIGTERM)
        for watched in chosen:
            if not watched.server.stop(timeout_s):
                self.say(f"{watched.name} did not stop within {timeout_s:.0f} s and was killed")

    def stop(self) -> None:
        """Ends everything that is still there, workers before servers. Safe to call twice."""
        self._stop([name for name in list(self.watched) if name in topics.WORKERS])
        if self.nursery is not None:
            self.nursery.stop()
        self._stop(["exchange"])
        self._stop(["clickhouse"])
        self._stop(["kafka"])


def _words(market: Mapping[str, Any]) -> str:
    return f"market {market.get('market')!r}, seed {market.get('seed')}, symbols {market.get('symbols')}"


def all_topics() -> list[TopicSpec]:
    """The registry's topics and the state topics of the stages."""
    return [TopicSpec(t.name, t.partitions, t.config) for t in topics.ALL] + state_topics()


def python(module: str) -> list[str]:
    """-P: a folder named like one of our packages in the working directory must not shadow it."""
    return [sys.executable, "-P", "-m", module]


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a child reads them."""
    values: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is None:
            continue
        values["QT_" + name.upper()] = str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
    return values


def rss_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0.0


def last_words(log: Path, size: int = 4000) -> str:
    """The last error line of a log: one JSON object, mostly."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line for line in lines if "rror" in line] or lines
    return told[-1][:2000] if told else ""
