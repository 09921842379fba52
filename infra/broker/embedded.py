"""A real Apache Kafka as a child process: one node (KRaft), loopback only, small memory, data kept between runs.

    kafka = EmbeddedKafka(run_dir() / "kafka")
    kafka.start()
    kafka.wait_ready()
    ...
    kafka.stop()

Crash-only: after `kill -9` the same data directory starts again. The broker dies with the process that started it.
What is the same at every start is prepared once per machine (infra/broker/prepared.py).
Ready means that an admin call was answered; an open port does not mean that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from infra import children, logs
from infra.broker import prepared
from infra.broker.admin import TopicSpec, answers, ensure_topics
from infra.broker.artifacts import ensure_jars, locked_kafka_version
from infra.broker.config import LOG4J2, server_properties
from infra.broker.java import Java, find_java
from infra.errors import UserError
from infra.ports import free_ports, is_taken

HOST = "127.0.0.1"
LOCK_PATIENCE_S = 5.0
STARTED = "Kafka Server started"
# what the broker's log says -> what a person should know
log = logs.get(__name__)
_KNOWN_ENDS = (
    ("No space left on device", "no space is left for {data}", "free space there, or set QT_RUN_DIR to another disk"),
    ("Address already in use", "port {port} or {controller_port} is in use", "stop what listens there, or choose ports"),
    ("OutOfMemoryError", "its heap of {heap_mb} MB was not enough", "give the broker a larger heap"),
    ("Failed to acquire lock", "another broker uses {data}", "stop that broker"),
)


class EmbeddedKafka:
    """One broker. `data_dir` holds everything that must survive, `log_dir` what a person reads when it does not start.

    `start()` returns at once after the process is started (the very first time on a machine after a download and some
    preparations, 10-20 s); `wait_ready()` blocks until it answers. `poll()` is None while it runs. Not thread-safe.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 19092,
        controller_port: int = 19093,
        log_dir: Path | None = None,
        heap_min_mb: int = 64,
        heap_max_mb: int = 384,
        fresh: bool = False,
        archive_to: Path | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.port = port
        self.controller_port = controller_port
        self.log_dir = Path(log_dir).resolve() if log_dir else self.data_dir / "logs"
        self.heap_min_mb = heap_min_mb
        self.heap_max_mb = heap_max_mb
        self.fresh = fresh
        self._archive_to = archive_to
        self._started_again = False
        self._has_run = False
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def version(self) -> str:
        return locked_kafka_version()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def log_file(self) -> Path:
        return self.log_dir / "kafka.log"

    def start(self) -> None:
        """Starts the process. UserError: a port or the data directory is in use, no Java, no jars, no disk."""
        if self.pid is not None:
            return
        self._wait_for_data_dir()
        for port in (self.port, self.controller_port):
            if is_taken(port):
                raise UserError(
                    "Kafka cannot start",
                    f"port {port} on {HOST} is in use",
                    "stop what listens there (`ss -ltnp` names it), or choose other ports, "
                    "or set QT_KAFKA_BOOTSTRAP to use a Kafka that runs already",
                )
        java = find_java()
        class_path = os.pathsep.join(map(str, ensure_jars()))
        try:
            if self._archive_to is None:
                self._prepare(java, class_path)
            command = [str(java.path), *self._jvm_options(), *self._class_options(java), "-cp", class_path]
            if self.fresh:
                self._formatted.unlink(missing_ok=True)
                self.fresh = False  # a restart of this object keeps what it has written
            self._write_files()
            if not (self._formatted.exists() and (self._kafka_dir / "meta.properties").exists()):
                self._formatted.write_text(f"{prepared.copy_formatted(self._kafka_dir)} {self.version}\n")
            else:
                self._has_run = True  # its records are never given up for a spoilt template
            with self._out.open("wb") as out:
                run = [*command, "kafka.Kafka", str(self._properties)]
                self.process = children.spawn(run, stdout=out, env=_environment())
        except OSError as error:
            raise self._disk_error(error) from error

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Blocks until an admin call is answered. UserError with the reason if the broker ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.poll() is not None:
                if not self._start_again():
                    raise self.why_ended()
                continue
            # the log's word first: a client that comes too early only backs off, and the open port says too little
            if STARTED in _tail(self._out) and answers(self.bootstrap, min(5.0, deadline - time.monotonic())):
                return
            time.sleep(0.05)
        self.stop(timeout_s=2)
        raise self._failure(f"it did not answer within {timeout_s:.0f} s")

    def _start_again(self) -> bool:
        """Once, with what is prepared made anew: a broker that ends at its start may have been given something spoilt."""
        told = _tail(self._out)
        if self._archive_to is not None or self._started_again or any(sign in told for sign, _, _ in _KNOWN_ENDS):
            return False
        self._started_again = True
        log.warning("Kafka ended at its start: what is prepared for it is made anew", code=self.poll())
        prepared.forget(find_java())
        if not self._has_run:
            self._formatted.unlink(missing_ok=True)
        self.start()
        return True

    def poll(self) -> int | None:
        """None while the process runs, else its exit code (negative: the signal). -1 if it was never started."""
        return self.process.poll() if self.process else -1

    def stop(self, timeout_s: float = 8.0) -> bool:
        """Clean stop by SIGTERM; SIGKILL after `timeout_s`. True if it was clean. Safe to call twice."""
        return children.stop(self.process, timeout_s) if self.process else True

    def kill(self) -> None:
        """`kill -9`, as the tests do it."""
        if self.process:
            children.kill(self.process)

    def why_ended(self) -> UserError:
        """What a person should know about the end of a broker that ended by itself."""
        return self._failure(f"it ended with code {self.poll()}")

    # -- files

    @property
    def _kafka_dir(self) -> Path:
        return self.data_dir / "topics"

    @property
    def _formatted(self) -> Path:
        return self.data_dir / "formatted"

    @property
    def _out(self) -> Path:
        return self.log_dir / "kafka.out"

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def _log4j2(self) -> Path:
        return self.data_dir / "log4j2.properties"

    def _write_files(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(server_properties(HOST, self.port, self.controller_port, self._kafka_dir))
        self._log4j2.write_text(LOG4J2)

    def _prepare(self, java: Java, class_path: str) -> None:
        """Once per machine (infra/broker/prepared.py)."""
        if prepared.is_formatted() and prepared.is_whole(prepared.classes(java)):
            return
        with prepared.alone():
            if not prepared.is_formatted():
                self._format([str(java.path), *self._jvm_options(), "-cp", class_path])
            if not prepared.is_whole(prepared.classes(java)):
                self._archive_classes(prepared.classes(java))

    def _format(self, command: list[str]) -> None:
        with tempfile.TemporaryDirectory(dir=prepared.home()) as there:
            target, properties = Path(there) / "topics", Path(there) / "server.properties"
            properties.write_text(server_properties(HOST, self.port, self.controller_port, target))
            identity = ["-t", prepared.new_cluster_id(), "-c", str(properties)]
            with (Path(there) / "format.out").open("w+b") as out:
                tool = [*command, "kafka.tools.StorageTool", "format", *identity]
                if children.spawn(tool, stdout=out, env=_environment()).wait() != 0:
                    out.seek(0)
                    raise self._failure("formatting failed", out.read().decode(errors="replace"))
            shutil.rmtree(prepared.formatted(), ignore_errors=True)
            os.replace(target, prepared.formatted())

    def _archive_classes(self, archive: Path) -> None:
        """By a first broker that starts and ends. What stands in its way is told; brokers start without until one succeeds."""
        with tempfile.TemporaryDirectory(dir=prepared.home()) as there:
            made = Path(there) / "classes.jsa"
            port, controller_port = free_ports(2)
            first = EmbeddedKafka(Path(there) / "kafka", port, controller_port, archive_to=made)
            try:
                first.start()
                first.wait_ready()
                ensure_topics(first.bootstrap, [TopicSpec("classes", 2, {"cleanup.policy": "compact"})])
            except UserError as e:
                log.warning("no archive of Kafka's classes was made: starts take longer", why=f"{e.what}: {e.why}")
                return
            finally:
                clean = first.stop(60.0)
            if clean:
                made.touch()  # empty: this Java makes none
                prepared.keep(made, archive)

    def _class_options(self, java: Java) -> list[str]:
        if self._archive_to is not None:
            return [f"-XX:ArchiveClassesAtExit={self._archive_to}"]
        archive = prepared.classes(java)
        if not prepared.is_whole(archive) or not archive.stat().st_size:
            return []
        return [f"-XX:SharedArchiveFile={archive}", "-XX:+IgnoreUnrecognizedVMOptions", "-XX:+VerifySharedSpaces"]

    def _wait_for_data_dir(self) -> None:
        """Kafka holds a file lock while it lives; a predecessor that is just dying gets a few seconds."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while self._data_dir_is_locked():
            if time.monotonic() > deadline:
                raise UserError(
                    "Kafka cannot start",
                    f"another broker uses {self.data_dir}",
                    "stop it (is another `quantum up` running?), or set QT_RUN_DIR to another folder",
                )
            time.sleep(0.1)

    def _data_dir_is_locked(self) -> bool:
        try:
            with (self._kafka_dir / ".lock").open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return True
            raise self._disk_error(error) from error
        return False

    def _jvm_options(self) -> list[str]:
        return [
            f"-Xms{self.heap_min_mb}m",
            f"-Xmx{self.heap_max_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Xshare:auto",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self._log4j2.as_uri()}",
            f"-Dquantum.log={self.log_file}",
        ]

    # -- errors

    def _failure(self, why: str, told: str | None = None) -> UserError:
        told = _tail(self._out) if told is None else told
        facts = {
            "data": self.data_dir,
            "port": self.port,
            "controller_port": self.controller_port,
            "heap_mb": self.heap_max_mb,
        }
        for sign, meaning, do in _KNOWN_ENDS:
            if sign in told:
                return UserError("Kafka is not running", meaning.format(**facts), do.format(**facts))
        last = next((line for line in reversed(told.splitlines()) if "ERROR" in line or "Exception" in line), "")
        return UserError("Kafka is not running", f"{why}. {last}".strip(), f"read {self.log_dir}; --fresh starts anew")

    def _disk_error(self, error: OSError) -> UserError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return UserError(
            "Kafka cannot start",
            f"{error.strerror or error}: {error.filename or self.data_dir}",
            "free space there, or set QT_RUN_DIR to another disk" if full else "set QT_RUN_DIR to a writable folder",
        )


def _environment() -> dict[str, str]:
    """Ours, with a character set in which Java can name every path."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _tail(path: Path, size: int = 20_000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
