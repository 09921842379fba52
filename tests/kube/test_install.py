"""The chart on a real Kubernetes API: what it takes is installed and ready, what it refuses is refused in words, what goes is gone.

`make kube`. Pods are simulated (tests/kube/cluster.py says what that means).
"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.topics import WORKERS
from streams import chart
from tests.kube.cluster import Cluster
from tests.kube.release import Release
from tests.kube.values import BROKEN, DEFAULTS, EVERYTHING, SETS, merged, switches

pytestmark = [pytest.mark.kube, pytest.mark.timeout(900, func_only=True)]
"""Of the test alone: the first one's set-up builds the control plane where nobody has."""

FULL = "street-quantum-trader"
GOOD = SETS | {f"switch {name}": values for name, values in switches(DEFAULTS).items()}
CHANGED = {name: value for name, value in EVERYTHING.items() if name != "storageClassName"}
"""Of a volume that is there the class cannot be changed."""

REFUSED_BY_KUBERNETES: dict[str, tuple[dict[str, Any], str]] = {
    "a field that does not exist": (
        {"extraManifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "dato": {"a": "b"}}]},
        "dato",
    ),
    "a pod with privileges": (
        {
            "extraManifests": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "more"},
                    "spec": {"containers": [{"name": "a", "image": "b:1", "securityContext": {"privileged": True}}]},
                }
            ]
        },
        'violates PodSecurity "restricted:latest"',
    ),
    "more asked for than allowed": (
        {"workers": {"features": {"resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "1Gi"}}}}},
        "must be less than or equal to memory limit",
    ),
    "a variable without a name": ({"workers": {"exits": {"extraEnv": [{"value": "1"}]}}}, "env"),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_installs_is_ready_and_leaves_nothing_but_volumes(release: Release, cluster: Cluster, name: str) -> None:
    prepare(release)
    values = GOOD[name]
    before = set(release.objects())
    done = release.install(values)
    assert done.returncode == 0, done.stderr
    assert "is installed as street" in done.stdout
    running(release, merged(DEFAULTS, values))
    leaves_nothing_but_volumes(release, before)


def test_an_upgrade_and_the_way_back(release: Release, cluster: Cluster) -> None:
    prepare(release)
    before = set(release.objects())
    made = release.install({})
    assert made.returncode == 0, made.stderr
    first = release.objects()
    done = release.upgrade(CHANGED)
    assert done.returncode == 0, done.stderr
    running(release, merged(DEFAULTS, CHANGED))
    second = release.objects()
    jobs = [{each for each in found if each.startswith("Job/")} for found in (first, second)]
    assert not jobs[0] & jobs[1], "other settings, another Job"
    back = release.rollback(1)
    assert back.returncode == 0, back.stderr
    cluster.wait("what the upgrade brought is gone", lambda: names(volumes_aside(release)) == names(first))
    running(release, DEFAULTS)
    third = release.objects()
    for name, told in first.items():
        if told["kind"] in ("StatefulSet", "Deployment", "ConfigMap", "NetworkPolicy", "Service"):
            assert third[name].get("spec") == told.get("spec"), name
            assert third[name].get("data") == told.get("data"), name
    assert [line.split()[0] for line in release.run("history", release.name).stdout.splitlines()[1:]] == ["1", "2", "3"]
    leaves_nothing_but_volumes(release, before)


def test_its_own_test_runs_and_cleans_up(release: Release) -> None:
    assert release.install({}).returncode == 0
    done = release.run("test", release.name, "--timeout", "60s")
    assert done.returncode == 0, done.stderr
    assert "Phase:          Succeeded" in done.stdout
    assert f"Pod/{FULL}-test" not in release.objects()


def test_the_guardian_has_a_priority_and_no_member_of_two_goes_with_the_other(release: Release, cluster: Cluster) -> None:
    assert release.install({"workers": {"features": {"replicas": 2}}}).returncode == 0
    found = release.objects()
    guardian = next(pod for name, pod in found.items() if name.startswith(f"Pod/{FULL}-guardian"))
    assert guardian["spec"]["priority"] == DEFAULTS["guardianPriority"]["value"]
    budget = f"/apis/policy/v1/namespaces/{release.namespace}/poddisruptionbudgets/{FULL}-features"
    cluster.wait("the budget is counted", lambda: cluster.get(budget)["status"].get("expectedPods") == 2)
    assert cluster.get(budget)["status"]["disruptionsAllowed"] == 1


@pytest.mark.parametrize("name", BROKEN)
def test_broken_values_are_refused_before_anything_is_made(release: Release, name: str) -> None:
    values, where = BROKEN[name]
    done = release.install(values)
    assert done.returncode != 0
    told = done.stderr.replace("/", ".")
    assert "values don't meet the specifications of the schema" in told
    assert all(part in told for part in where.split(".")), told
    assert release.objects() == {}


@pytest.mark.parametrize("name", REFUSED_BY_KUBERNETES)
def test_what_only_kubernetes_can_know_is_refused_in_its_words(release: Release, cluster: Cluster, name: str) -> None:
    values, said = REFUSED_BY_KUBERNETES[name]
    done = release.install(values)
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
    release.uninstall()
    cluster.wait("what was made is gone", lambda: set(volumes_aside(release)) == set())


def test_an_install_that_fails_takes_itself_back_if_asked_to(release: Release, cluster: Cluster) -> None:
    values, said = REFUSED_BY_KUBERNETES["more asked for than allowed"]
    done = release.install(values, "--rollback-on-failure")
    assert done.returncode != 0
    assert said in done.stderr
    cluster.wait("what was made is gone", lambda: set(volumes_aside(release)) == set())
    assert cluster.cluster_wide(release.name) == set()


def test_a_refused_upgrade_leaves_the_members_that_run(release: Release) -> None:
    made = release.install({})
    assert made.returncode == 0, made.stderr
    pods = members(release)
    values, said = REFUSED_BY_KUBERNETES["more asked for than allowed"]
    done = release.upgrade(values)
    assert done.returncode != 0
    assert said in done.stderr
    running(release, DEFAULTS)
    assert members(release) == pods
    back = release.rollback(1)
    assert back.returncode == 0, back.stderr
    assert members(release) == pods


# -- what is there


def prepare(release: Release) -> None:
    """What an operator has made before: the claim with the models."""
    release.cluster.post(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": release.namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}},
        }
    )


def running(release: Release, values: dict[str, Any]) -> None:
    """Every worker of the registry has its members, all ready; every Job comes to its end."""
    found = release.objects()
    workers = chart.registry()["workers"]
    assert set(workers) == set(WORKERS)
    for worker, facts in workers.items():
        kind = "StatefulSet" if facts["group"] else "Deployment"
        wanted = (values["workerDefaults"] | values["workers"][worker]).get("replicas", 1)
        assert found[f"{kind}/{FULL}-{worker}"]["status"].get("readyReplicas", 0) == wanted, worker

    def done() -> bool:
        jobs = [each for each in release.objects().values() if each["kind"] == "Job"]
        return bool(jobs) and all(each["status"].get("succeeded") == 1 for each in jobs)

    release.cluster.wait("its Jobs are done", done)
    release.cluster.wait("every service reaches somebody", lambda: not unreached(release))
    nothing_that_pods_name_is_missing(release.objects())


def unreached(release: Release) -> set[str]:
    """Services whose selector and port find no member."""
    slices = release.cluster.get(f"/apis/discovery.k8s.io/v1/namespaces/{release.namespace}/endpointslices")["items"]
    reached = {each["metadata"]["labels"]["kubernetes.io/service-name"] for each in slices if each["endpoints"] and each["ports"]}
    return {each["metadata"]["name"] for each in release.objects().values() if each["kind"] == "Service"} - reached


def nothing_that_pods_name_is_missing(found: dict[str, dict[str, Any]]) -> None:
    """Asked here because a simulated pod runs without: configurations, its place among the members, the service that names it."""
    for pod in (each for each in found.values() if each["kind"] == "Pod"):
        spec, labels, name = pod["spec"], pod["metadata"]["labels"], pod["metadata"]["name"]
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        sources = [source for container in containers for source in container.get("envFrom", [])]
        named = {source["configMapRef"]["name"] for source in sources}
        named |= {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
        assert {f"ConfigMap/{each}" for each in named} <= set(found), name
        if pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet":
            assert labels["apps.kubernetes.io/pod-index"] == name.rpartition("-")[2]
            assert f"Service/{spec['subdomain']}" in found, name


def leaves_nothing_but_volumes(release: Release, before: set[str]) -> None:
    gone = release.uninstall()
    assert gone.returncode == 0, gone.stderr
    release.cluster.wait("pods and replica sets are collected", lambda: set(volumes_aside(release)) == before)
    assert release.cluster.cluster_wide(release.name) == set()


def members(release: Release) -> set[tuple[str, str]]:
    """(name, identity) of every worker's pods."""
    label = "app.kubernetes.io/component"
    found = (each["metadata"] for each in release.objects().values() if each["kind"] == "Pod")
    return {(told["name"], told["uid"]) for told in found if told["labels"][label] in WORKERS}


def volumes_aside(release: Release) -> dict[str, dict[str, Any]]:
    """Without the claims of stateful sets, which stay until somebody deletes them (docs/install.md)."""
    return {
        name: each
        for name, each in release.objects().items()
        if each["kind"] != "PersistentVolumeClaim" or name == "PersistentVolumeClaim/models"
    }


def names(found: dict[str, dict[str, Any]]) -> set[str]:
    """Without what controllers name by chance, releases, and claims."""
    by_chance = ("Pod/", "ReplicaSet/", "Secret/sh.helm.release", "PersistentVolumeClaim/")
    return {name for name in found if not name.startswith(by_chance)}
