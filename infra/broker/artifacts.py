"""Kafka's jars: pinned by checksum in `kafka.lock`, fetched once into the user's cache, used offline ever after.

The lock names no host. The public Maven repository's address comes from the `jgo` package; `QT_MAVEN_URL` replaces it
by a mirror (or by a `file://` folder laid out like one).
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from infra.errors import UserError
from infra.paths import cache_dir

LOCK_FILE = "kafka.lock"
THREADS = 6
ATTEMPTS = 3
TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Pin:
    """One jar of the lock: `org.apache.kafka:kafka-clients:4.4.0 <sha256>`."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def repository_path(self) -> str:
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.filename}"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version} {self.sha256}"


def parse_lock(text: str) -> tuple[Pin, ...]:
    """The pins of a lock file; empty lines and `#` comments are skipped. A malformed or doubled line is a ValueError."""
    pins: dict[str, Pin] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        coordinate, _, sha256 = line.partition(" ")
        parts = coordinate.split(":")
        digest = sha256.strip()
        if len(parts) != 3 or not all(parts) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ValueError(f"{LOCK_FILE} line {number}: expected `group:artifact:version sha256`, found {raw!r}")
        pin = Pin(parts[0], parts[1], parts[2], digest)
        if pin.filename in pins:
            raise ValueError(f"{LOCK_FILE} line {number}: {pin.filename} is named twice")
        pins[pin.filename] = pin
    if not pins:
        raise ValueError(f"{LOCK_FILE} names no jar")
    return tuple(pins.values())


def locked_pins() -> tuple[Pin, ...]:
    return parse_lock(resources.files("infra.broker").joinpath(LOCK_FILE).read_text(encoding="utf-8"))


def locked_kafka_version() -> str:
    """The version of the broker that the lock holds, e.g. `4.4.0`."""
    return next(pin.version for pin in locked_pins() if pin.group == "org.apache.kafka" and "_2." in pin.artifact)


def missing_pins(pins: Iterable[Pin] | None = None, folder: Path | None = None) -> list[Pin]:
    """What `ensure_jars` would download."""
    wanted = locked_pins() if pins is None else tuple(pins)
    target = folder or jar_dir()
    return [pin for pin in wanted if not _is_whole(target / pin.filename, pin.sha256)]


def jar_dir() -> Path:
    return cache_dir() / "jars"


def ensure_jars(pins: Iterable[Pin] | None = None, folder: Path | None = None, maven_url: str | None = None) -> list[Path]:
    """Paths of all jars, each with the pinned checksum; what is missing or damaged is fetched.

    Needs no network when the cache is whole. Several processes may do this at once: files appear atomically.
    """
    wanted = locked_pins() if pins is None else tuple(pins)
    target = folder or jar_dir()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk_error(error, target) from error
    missing = missing_pins(wanted, target)
    if missing:
        base = (maven_url or os.environ.get("QT_MAVEN_URL") or _public_maven_url()).rstrip("/")
        pool = ThreadPoolExecutor(THREADS)
        try:
            for done in as_completed([pool.submit(_fetch, base, pin, target) for pin in missing]):
                done.result()
        finally:
            # the first failure ends it all; what is already placed stays and is reused at the next try
            pool.shutdown(cancel_futures=True)
    return [target / pin.filename for pin in wanted]


def _public_maven_url() -> str:
    try:
        constants = importlib.import_module("jgo.constants")
    except ImportError as error:
        raise UserError(
            "Kafka's jars cannot be downloaded",
            "the package `jgo`, which knows where the public Maven repository is, is not installed",
            "install the extra `embedded`, or set QT_MAVEN_URL to a Maven mirror",
        ) from error
    return str(constants.MAVEN_CENTRAL_URL)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _fetch(base: str, pin: Pin, folder: Path) -> None:
    content = _download(f"{base}/{pin.repository_path}", pin)
    found = hashlib.sha256(content).hexdigest()
    if found != pin.sha256:
        raise UserError(
            f"{pin.filename} is not what was pinned",
            f"its SHA-256 is {found[:16]}..., the lock says {pin.sha256[:16]}...",
            "check the mirror in QT_MAVEN_URL or the proxy in between; nothing was stored",
        )
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{pin.filename}.", suffix=".part", delete=False) as part:
            try:
                part.write(content)
                part.flush()
                os.fsync(part.fileno())
                os.replace(part.name, folder / pin.filename)
            except OSError:
                os.unlink(part.name)
                raise
    except OSError as error:
        raise _disk_error(error, folder) from error


def _download(url: str, pin: Pin) -> bytes:
    """The bytes behind `url` (jars are at most a few MB). What may pass is tried again, a 404 is not."""
    why = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            why = f"the repository answered {error.code} {error.reason}"
            if error.code in (401, 403, 404):
                break
        except (urllib.error.URLError, OSError) as error:
            why = str(getattr(error, "reason", error))
            if isinstance(getattr(error, "reason", None), FileNotFoundError):
                break
    raise UserError(
        f"{pin.filename} cannot be downloaded",
        why,
        "check the network (needed once: later starts use the cache), or set QT_MAVEN_URL to a mirror, "
        "or QT_KAFKA_BOOTSTRAP to a Kafka of your own",
    )


def _disk_error(error: OSError, folder: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "Kafka's jars cannot be stored",
            f"no space is left for {folder}",
            "free about 60 MB there, or point QT_CACHE_DIR to another disk",
        )
    return UserError(
        "Kafka's jars cannot be stored",
        f"{error.strerror or error}: {folder}",
        "make the folder writable, or point QT_CACHE_DIR elsewhere",
    )
