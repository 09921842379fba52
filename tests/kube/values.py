"""Values that the chart takes, and values that it refuses: for rendering (`make chart`) and for a cluster (`make kube`)."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from streams import chart

DEFAULTS: dict[str, Any] = yaml.safe_load((chart.CHART / "values.yaml").read_text())

EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example/quantum-trader", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "settings": {"speed": 60, "seed": 7, "log_level": "debug", "snapshot_s": 2.5},
    "secrets": {name: {"name": "binance", "key": name} for name in chart.secrets()},
    "policy": {"risk": {"leverage": 2}},
    "kafka": {"bundled": {"enabled": True}},
    "clickhouse": {"bundled": {"enabled": True}},
    "kafkaUi": {"enabled": True},
    "models": {"existingClaim": "models"},
    "workers": {"features": {"autoscaling": {"enabled": True}}, "history": {"replicas": 2, "nodeSelector": {"disk": "ssd"}}},
    "networkPolicy": {"uiFrom": [{"namespaceSelector": {}}]},
    "monitoring": {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboards")},
    "storageClassName": "fast",
    "extraManifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"a": "b"}}],
}
OUTSIDE: dict[str, Any] = {
    "kafka": {
        "bootstrap": "k1.example:9093,k2.example:9093",
        "security": "SASL_SSL",
        "mechanism": "SCRAM-SHA-256",
        "username": "desk",
        "caSecret": "kafka-ca",
    },
    "secrets": {"kafka_password": {"name": "kafka", "key": "password"}},
    "kafkaUi": {"enabled": True},
    "workers": {"positions": {"autoscaling": {"enabled": True}}},
    "clickhouse": {"existingSecret": "clickhouse", "url": ""},
    "exchange": {"bundled": {"enabled": False}, "url": "https://venue.example", "streamUrl": "wss://streams.example"},
    "networkPolicy": {"kafkaTo": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "kafkaPorts": [9093]},
}
SETS = {"default": {}, "everything": EVERYTHING, "outside": OUTSIDE}

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a word that is none": ({"kafak": {}}, "kafak"),
    "a worker that is none": ({"workers": {"trader": {}}}, "trader"),
    "two of what there is one of": ({"workers": {"risk": {"replicas": 2}}}, "workers.risk.replicas"),
    "scaling what there is one of": ({"workers": {"exits": {"autoscaling": {"enabled": True}}}}, "workers.exits"),
    "fewer than none": ({"workers": {"features": {"replicas": -1}}}, "workers.features.replicas"),
    "a setting that is none": ({"settings": {"speeed": 1}}, "settings"),
    "a setting that the chart decides": ({"settings": {"kafka_bootstrap": "x:1"}}, "settings"),
    "a setting out of its range": ({"settings": {"speed": 0}}, "settings.speed"),
    "a mode that is none": ({"settings": {"mode": "yolo"}}, "settings.mode"),
    "a secret in the values": ({"secrets": {"api_key": "k3y"}}, "secrets.api_key"),
    "the tag latest": ({"image": {"tag": "latest"}}, "image.tag"),
    "a digest that is none": ({"image": {"digest": "sha256:beef"}}, "image.digest"),
    "a broker without a port": ({"kafka": {"bootstrap": "kafka"}}, "kafka.bootstrap"),
    "a Kafka that asks for a user, and none": ({"kafka": {"security": "SASL_SSL"}}, "kafka.username"),
    "no exchange at all": ({"exchange": {"bundled": {"enabled": False}}}, "exchange.url"),
    "no ClickHouse at all": ({"clickhouse": {"url": ""}}, "clickhouse.url"),
    "a password in an address": ({"clickhouse": {"url": "http://me:secret@clickhouse:8123"}}, "clickhouse.url"),
    "an address that is none": ({"clickhouse": {"url": "clickhouse"}}, "clickhouse.url"),
    "a name that is none": ({"fullnameOverride": "Not_A_Name"}, "fullnameOverride"),
    "an amount that is none": ({"bootstrap": {"resources": {"limits": {"memory": "much"}}}}, "bootstrap.resources.limits.memory"),
    "a limit of no kind": ({"workers": {"features": {"resources": {"limit": {"memory": "1Gi"}}}}}, "workers.features.resources"),
    "the image of others, latest": ({"kafkaUi": {"image": "ghcr.io/kafbat/kafka-ui:latest"}}, "kafkaUi.image"),
    "more members than partitions": ({"workers": {"features": {"replicas": 13}}}, "workers.features.replicas"),
}  # fmt: skip


def merged(into: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(into)
    for name, value in over.items():
        found[name] = merged(found[name], value) if isinstance(value, dict) and isinstance(found.get(name), dict) else value
    return found


def switches(values: dict[str, Any], before: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Dotted name -> values in which this one switch stands the other way, for every switch that the chart has."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        path = (*before, name)
        if isinstance(value, dict):
            found |= switches(value, path)
        elif isinstance(value, bool):
            turned: dict[str, Any] = {path[-1]: not value}
            for part in reversed(path[:-1]):
                turned = {part: turned}
            found[".".join(path)] = merged(turned, WITH_SWITCH.get(".".join(path), {}))
    return found


WITH_SWITCH: dict[str, dict[str, Any]] = {
    "exchange.bundled.enabled": {"exchange": {"url": "https://venue.example"}},
    "podDisruptionBudget.enabled": {"workers": {"features": {"replicas": 2}}},
    "workerDefaults.autoscaling.enabled": {
        "workerDefaults": {"autoscaling": {"enabled": False}},
        "workers": {name: {"autoscaling": {"enabled": True}} for name in ("features", "positions", "history")},
    },
}
"""What a switch needs beside it."""
