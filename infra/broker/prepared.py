"""What is the same at every start of a broker, made once per machine and kept beside its jars.

    formatted/           an empty cluster, as Kafka's own tool formats it: each broker takes a copy under an id of its own
    classes-....jsa      Kafka's classes as the JVM loads them quickest (class data sharing), one per Java build

Both are JVM runs of seconds; without them a start costs twice the CPU.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from infra.broker.artifacts import locked_kafka_version
from infra.broker.java import Java
from infra.paths import cache_dir


def home() -> Path:
    folder = cache_dir() / f"kafka-{locked_kafka_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def formatted() -> Path:
    return home() / "formatted"


def classes(java: Java) -> Path:
    """An empty file: this Java cannot make one."""
    return home() / f"classes-{sha256(java.told.encode()).hexdigest()[:16]}.jsa"


def is_formatted() -> bool:
    """Whether the template can be copied; one whose identity is spoilt cannot."""
    try:
        told = (formatted() / "meta.properties").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return "cluster.id=" in told and "node.id=" in told


def is_whole(archive: Path) -> bool:
    """Whether an archive is as long as the one that was made: the JVM dies of a shorter one."""
    try:
        return archive.stat().st_size == int(_length(archive).read_text())
    except (OSError, ValueError):
        return False


def keep(made: Path, archive: Path) -> None:
    """Puts an archive (an empty file where none could be made) where brokers find it."""
    _length(archive).write_text(f"{made.stat().st_size}")
    os.replace(made, archive)


def forget(java: Java) -> None:
    """Both are made anew at the next start."""
    with alone():
        classes(java).unlink(missing_ok=True)
        shutil.rmtree(formatted(), ignore_errors=True)


def _length(archive: Path) -> Path:
    return archive.with_suffix(".length")


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time prepares; the others wait for it."""
    with (home() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def new_cluster_id() -> str:
    """22 characters of base64; none begins with `-`, which would read as an option."""
    return "Q" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def copy_formatted(target: Path) -> str:
    """A new cluster in `target`, in place of whatever is there. Returns its id."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(formatted(), target)
    cluster_id = new_cluster_id()
    meta = target / "meta.properties"
    lines = meta.read_text().splitlines(keepends=True)
    meta.write_text("".join(f"cluster.id={cluster_id}\n" if line.startswith("cluster.id=") else line for line in lines))
    return cluster_id
