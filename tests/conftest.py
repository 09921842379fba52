"""What tests share: one embedded broker a session, the real recordings, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.broker.embedded import EmbeddedKafka
from infra.paths import shared_data_dir
from infra.ports import free_ports
from streams.launcher import python
from streams.nursery import Nursery


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker for the whole session (one a worker under xdist) on free ports; `.bootstrap` is its address.

    It is shared: give your topics names of their own (`unique`). Whoever kills a broker starts one for itself.
    """
    port, controller_port = free_ports(2)
    broker = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), port, controller_port)
    broker.start()
    try:
        broker.wait_ready()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Bears workers as the launcher's does: `nursery.spawn(name, env, log)`."""
    found = Nursery(python("streams.nursery"), tmp_path_factory.mktemp("nursery") / "nursery.log")
    try:
        yield found
    finally:
        found.stop()


_counter = itertools.count(1)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name for topics and groups of this test alone, e.g. `history-writes-each-row-once-3`."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_")).strip("-")
    return f"{name[:80]}-{next(_counter)}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings (`QT_SHARED_DATA`, else `../shared/data`); tests skip where it is absent."""
    folder = shared_data_dir()
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set QT_SHARED_DATA to run this test")
    return folder
