"""The chart is the program: the same workers, settings, topics; what it refuses, what it renders, and under which rules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from infra.paths import CHECKOUT
from infra.settings import Settings
from schemas import topics
from schemas.topics import WORKERS
from streams import chart
from streams.launcher import all_topics
from tests.kube import built
from tests.kube.values import BROKEN, DEFAULTS, EVERYTHING, SETS, merged

VERSIONS = ("1.29", "1.33", "1.37")
OURS = ("worker", "wait", "bootstrap", "policy", "exchange", "doctor")

SCHEMA = Draft202012Validator(json.loads((chart.CHART / "values.schema.json").read_text()))


def test_what_the_chart_knows_of_the_program_is_what_the_program_is() -> None:
    differing = [path.name for path, text in chart.generated().items() if not path.exists() or path.read_text() != text]
    assert not differing, "run: python -m streams.chart --write"
    there = {path.stem for path in (chart.CHART / "files" / "dashboards").iterdir()}
    assert there == set(chart.dashboards()), "a dashboard that nothing generates"


def test_its_version_is_the_programs() -> None:
    told = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert f'version = "{told["version"]}"' in project
    assert told["appVersion"] == told["version"]


@pytest.mark.parametrize("name", SETS)
def test_good_values_fit_the_schema(name: str) -> None:
    assert not [error.message for error in SCHEMA.iter_errors(merged(DEFAULTS, SETS[name]))]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_values_are_refused_where_they_are_broken(name: str) -> None:
    values, where = BROKEN[name]
    told = [f"{'.'.join(map(str, e.absolute_path))} {e.message}" for e in SCHEMA.iter_errors(merged(DEFAULTS, values))]
    assert any(where in line for line in told), told


def test_every_part_of_the_values_is_described() -> None:
    bare = [
        f"{name}.{field}"
        for name, part in SCHEMA.schema["$defs"].items()
        for field, told in part.get("properties", {}).items()
        if "description" not in told and "$ref" not in told and name != "SettingsValues"
    ]
    assert not bare


def test_a_worker_is_given_the_exchange_and_secrets_only_where_its_code_asks_for_them() -> None:
    told = chart.registry()["workers"]
    assert {name for name, facts in told.items() if facts["clickhouse"]} == {"history"}
    assert {name for name, facts in told.items() if facts["venue"]} >= {"market", "account", "execution", "guardian"}
    assert "api_secret" not in told["features"]["secrets"] + told["history"]["secrets"] + told["positions"]["secrets"]
    assert not told["guardian"]["waits"]
    assert {name for name, facts in told.items() if not facts["group"]} == {"market", "guardian"}


# -- rendered


@pytest.fixture(scope="module")
def helm() -> str:
    try:
        return built.helm()
    except built.NotBuilt as why:
        pytest.skip(f"NOT TESTED: the chart is not rendered, because there is no helm: {why}")


@pytest.fixture(scope="module")
def rendered(helm: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return {name: list(render(helm, values, tmp_path_factory.mktemp(name))) for name, values in SETS.items()}


def render(helm: str, values: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    apis = ["-a", "monitoring.coreos.com/v1", "-a", "keda.sh/v1alpha1"]
    done = run(helm, "template", "street", str(chart.CHART), "-n", "desk", "-f", str(file), "--kube-version", "v1.33.0", *apis)
    assert done.returncode == 0, done.stderr
    yield from filter(None, yaml.safe_load_all(done.stdout))


def run(helm: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *args], capture_output=True, text=True, check=False)


def rendering(test: Any) -> Any:
    """By helm, which is built first where there is none: `make chart`."""
    return pytest.mark.helm(pytest.mark.timeout(1800)(test))


@rendering
def test_helm_lints_it_strictly_and_refuses_broken_values_in_words(helm: str, tmp_path: Path) -> None:
    (file := tmp_path / "values.yaml").write_text(yaml.safe_dump(EVERYTHING))
    done = run(helm, "lint", "--strict", str(chart.CHART), "-f", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    file.write_text(yaml.safe_dump(BROKEN["two of what there is one of"][0]))
    refused = run(helm, "template", "street", str(chart.CHART), "-f", str(file))
    assert refused.returncode != 0
    assert "replicas" in refused.stderr


@rendering
@pytest.mark.parametrize("name", SETS)
def test_every_object_fits_three_versions_of_kubernetes(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    custom = ("monitoring.coreos.com", "keda.sh")
    plain = [found for found in rendered[name] if not found["apiVersion"].startswith(custom)]
    assert len({(found["kind"], found["metadata"]["name"]) for found in rendered[name]}) == len(rendered[name])
    for version in VERSIONS if name == "everything" else VERSIONS[-1:]:
        for found in plain:
            kubernetes_validate.validate(found, version, strict=True)


@rendering
@pytest.mark.parametrize("name", SETS)
def test_every_worker_of_the_registry_runs_in_the_chart_and_no_other(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    started = [c["args"][1] for _, spec in pods(rendered[name]) for c in spec["containers"] if c["name"] == "worker"]
    assert sorted(started) == sorted(WORKERS)
    kinds = {f["metadata"]["name"].removeprefix("street-quantum-trader-"): f for f in rendered[name] if f["kind"] in RUN}
    assert kinds["guardian"]["kind"] == "Deployment"
    assert kinds["guardian"]["spec"]["strategy"] == {"type": "Recreate"}
    assert kinds["execution"]["kind"] == "StatefulSet"
    assert kinds["execution"]["spec"]["replicas"] == 1


@rendering
@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_restricted_and_bounded(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    for found, spec in pods(rendered[name]):
        assert spec["securityContext"]["runAsNonRoot"], found
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, found
        assert spec["automountServiceAccountToken"] is False, found
        assert spec["enableServiceLinks"] is False, found
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            rules = container["securityContext"]
            assert rules["allowPrivilegeEscalation"] is False, found
            assert rules["capabilities"] == {"drop": ["ALL"]}, found
            assert rules.get("readOnlyRootFilesystem") or container["name"] in ("kafka", "clickhouse"), found
            assert container["resources"]["limits"]["memory"], found
            assert not container["image"].endswith(":latest"), found
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claims = {claim["metadata"]["name"] for claim in found["spec"].get("volumeClaimTemplates", [])}
            assert mounted <= {volume["name"] for volume in spec.get("volumes", [])} | claims, found
            if found["kind"] in RUN and container in spec["containers"]:
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), found


@rendering
@pytest.mark.parametrize("name", SETS)
def test_the_environment_holds_settings_that_exist_and_no_secret(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    known = {f"QT_{field.upper()}": field for field in Settings.model_fields}
    config = next(f for f in rendered[name] if f["kind"] == "ConfigMap" and f["metadata"]["name"] == "street-quantum-trader")
    values = {known[key]: value for key, value in config["data"].items()}
    Settings(**values, kafka_password="of the secret")
    assert not set(values) & set(chart.secrets())
    for _, spec in pods(rendered[name]):
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            for variable in container.get("env", []):
                assert variable["name"] in known or not variable["name"].startswith("QT_"), variable
                if variable["name"].startswith("QT_") and known[variable["name"]] in chart.secrets():
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}


@rendering
def test_waiting_is_no_hook_and_secrets_go_where_they_are_used(rendered: dict[str, list[dict[str, Any]]]) -> None:
    hooks = {f["metadata"]["name"] for f in rendered["everything"] if "helm.sh/hook" in f["metadata"].get("annotations", {})}
    assert hooks == {"street-quantum-trader-test"}
    for found, spec in pods(rendered["everything"]):
        name = found["metadata"]["labels"]["app.kubernetes.io/component"]
        if name in WORKERS:
            facts = chart.registry()["workers"][name]
            given = {v["name"] for v in spec["containers"][0]["env"] if "secretKeyRef" in v.get("valueFrom", {})}
            assert given == {f"QT_{secret.upper()}" for secret in facts["secrets"]}, name
            assert bool(spec.get("initContainers")) == facts["waits"], name


@rendering
def test_the_rules_and_boards_of_the_cluster_are_the_files(rendered: dict[str, list[dict[str, Any]]]) -> None:
    rule = next(found for found in rendered["everything"] if found["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((chart.CHART / "files" / "alerts.yaml").read_text())
    boards = [
        json.loads(text) for f in rendered["everything"] if "-dashboard-" in f["metadata"]["name"] for text in f["data"].values()
    ]
    assert {board["uid"] for board in boards} == {f"quantum-{name}" for name in chart.dashboards()}
    scaled = [found for found in rendered["everything"] if found["kind"] == "ScaledObject"]
    assert [found["spec"]["triggers"][0]["metadata"]["consumerGroup"] for found in scaled] == ["quantum-features"]


@rendering
def test_the_kafka_ui_of_both_hides_what_is_no_event(rendered: dict[str, list[dict[str, Any]]]) -> None:
    name = "street-quantum-trader-kafka-ui"
    config = next(f for f in rendered["everything"] if f["kind"] == "ConfigMap" and f["metadata"]["name"] == name)
    kafka = yaml.safe_load(config["data"]["application.yml"])["kafka"]
    events = {topic.name for topic in topics.ALL}
    hidden = {spec.name for spec in all_topics() if spec.name.startswith(kafka["internalTopicPrefix"])}
    assert hidden == {spec.name for spec in all_topics()} - events
    composed = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]["kafka-ui"]["environment"]
    assert composed["KAFKA_INTERNALTOPICPREFIX"] == kafka["internalTopicPrefix"]
    cluster = {f"KAFKA_CLUSTERS_0_{key.upper()}": str(value).lower() for key, value in kafka["clusters"][0].items()}
    assert {key: value.lower() for key, value in composed.items() if "_0_" in key}.items() - cluster.items() == {
        ("KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS", "kafka:9092")
    }


RUN = ("Deployment", "StatefulSet")


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every object that runs something, with its pod's specification."""
    for each in found:
        if each["kind"] in (*RUN, "Job"):
            yield each, each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield each, each["spec"]


# -- compose


def test_compose_runs_every_worker_and_prometheus_scrapes_each() -> None:
    compose = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
    started = [c["command"][1] for c in compose["services"].values() if c.get("command", [""])[0] == "worker"]
    assert sorted(started) == sorted(WORKERS)
    assert {name for name, c in compose["services"].items() if c.get("command", [""])[0] == "worker"} == set(WORKERS)
    scraped = yaml.safe_load((CHECKOUT / "compose" / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scraped["job_name"] == "quantum-trader"
    assert sorted(scraped["static_configs"][0]["targets"]) == sorted(f"{name}:18100" for name in WORKERS)
    for service in compose["services"].values():
        assert not service["image"].endswith(":latest")
        known = {f"QT_{field.upper()}" for field in Settings.model_fields}
        assert not [name for name in service.get("environment", {}) if name.startswith("QT_") and name not in known]


def test_compose_and_the_chart_take_the_same_images() -> None:
    compose = {service["image"] for service in yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"].values()}
    bundled = (DEFAULTS["kafka"]["bundled"], DEFAULTS["clickhouse"]["bundled"], DEFAULTS["kafkaUi"])
    assert {part["image"] for part in bundled} <= compose
