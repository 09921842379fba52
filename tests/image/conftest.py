"""The image that is tested (QUANTUM_IMAGE, else the one that `make image` has made), and its figures as the last lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from infra.paths import CHECKOUT

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def engine() -> str:
    if shutil.which("podman") is None:
        pytest.skip("NOT TESTED: the image was not run: there is no podman")
    return "podman"


@pytest.fixture(scope="session")
def image(engine: str) -> str:
    version = next(
        line.split('"')[1] for line in (CHECKOUT / "pyproject.toml").read_text().splitlines() if line.startswith("version = ")
    )
    name = os.environ.get("QUANTUM_IMAGE", f"quantum-trader:{version}")
    if subprocess.run([engine, "image", "exists", name], check=False).returncode:
        pytest.skip(f"NOT TESTED: there is no image {name}: `make image`")
    return name


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """figure("772 MB"): a line at the end."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"image: {line}")
