"""One cluster a session, a restricted namespace a test, and a last line with how many of how many."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube import built
from tests.kube.cluster import Cluster, Refused
from tests.kube.release import Release

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
PREFIX = "desk-"
VOLUMES = {"": 4, "fast": 4}
"""Class -> volumes that wait for a claim of the namespace."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: nothing was installed on Kubernetes: there is no openssl")
    with contextlib.ExitStack() as ending:
        try:
            built.helm()
            found = ending.enter_context(Cluster(tmp_path_factory.mktemp("cluster")))
        except built.NotBuilt as why:
            pytest.skip(f"NOT TESTED: nothing was installed on Kubernetes: {why}")
        yield found
        found.wait("all namespaces of releases are gone, nothing holds one", lambda: not _namespaces(found), 120)


_counter = itertools.count(1)


@pytest.fixture
def release(cluster: Cluster, tmp_path: Path) -> Iterator[Release]:
    """Not installed yet, in a namespace that enforces pod security `restricted`; afterwards both go, the namespace
    while the next test runs: Kubernetes takes ten seconds or more to see that one is empty."""
    namespace = f"{PREFIX}{next(_counter)}"
    cluster.post({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}})
    volumes = [f"{namespace}-{name or 'plain'}-{n}" for name, amount in VOLUMES.items() for n in range(amount)]
    for volume in volumes:
        cluster.post(_volume(volume, "fast" if "-fast-" in volume else ""))
    cluster.wait(
        "the namespace has its account", lambda: _there(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
    )
    yield (found := Release(cluster, namespace, tmp_path, built.helm()))
    found.run("uninstall", found.name, "--ignore-not-found")  # what it has outside of its namespace, the next would find
    cluster.delete(f"/api/v1/namespaces/{namespace}")
    for volume in volumes:
        cluster.delete(f"/api/v1/persistentvolumes/{volume}")


def _volume(name: str, storage_class: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "hostPath": {"path": f"/nowhere/{name}"},
        },
    }


def _namespaces(cluster: Cluster) -> list[str]:
    found = (each["metadata"]["name"] for each in cluster.get("/api/v1/namespaces")["items"])
    return [name for name in found if name.startswith(PREFIX)]


def _there(cluster: Cluster, path: str) -> bool:
    try:
        cluster.get(path)
    except Refused:
        return False
    return True


# -- the last line


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = {
        outcome: len([r for r in terminalreporter.stats.get(outcome, []) if "tests/kube/" in getattr(r, "nodeid", "")])
        for outcome in ("passed", "failed", "error", "skipped")
    }
    if all_of_them := sum(counts.values()):
        terminalreporter.write_line(f"kube: {counts['passed']} of {all_of_them}")
        terminalreporter.write_line("kwok simulates the pods: what the image does was not shown here, `make image-test` shows that")
