"""The values of the Helm chart, typed: from here come values.yaml, values.schema.json and the table in the chart's README.

Every field has a default and a description. Settings of our own program are not repeated: `settings` takes its fields from the
settings tree, `workers` its names from the registry.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema, create_model

from infra.settings import KafkaSecurity, Settings
from schemas.topics import WORKERS

Free = dict[str, Any]
"""An object of Kubernetes' own, passed on as it is."""


def _never(what: dict[str, Any], but: str) -> dict[str, Any]:
    """Refuses what fits `what` in words for what belongs there: `not` has none, and a pattern repeats what may be a password."""
    return {"if": what, "then": {"const": but}}


Pinned = Annotated[
    str,
    Field(
        pattern=r"^.+(:[^:/]+|@sha256:[0-9a-f]{64})$",
        json_schema_extra=_never({"pattern": ":latest$"}, "an image by version or digest, not latest"),
    ),
]
"""An image by tag or digest, and not one that changes under us."""
Name = Annotated[str, Field(pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$", max_length=40)]
"""Of what Kubernetes makes names of."""
_AMOUNTS = {
    "type": "object",
    "additionalProperties": {
        "type": ["string", "number"],
        "minimum": 0,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
    },
}
Resources = Annotated[
    Free,
    WithJsonSchema({"type": "object", "properties": {"requests": _AMOUNTS, "limits": _AMOUNTS}, "additionalProperties": False}),
]
"""Of a container, in amounts as Kubernetes writes them: 100m, 1.5, 256Mi."""
DERIVED = frozenset(
    "host run_dir probe_port worker_index kafka_bootstrap kafka_port kafka_controller_port kafka_security kafka_mechanism "
    "kafka_username kafka_ca_file clickhouse_url clickhouse_port venue_url venue_stream_url exchange_port exchange_control_port "
    "policy_file model_dir model_registry".split()
)
"""Settings that the chart decides itself, from what it installs."""


class Values(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Image(Values):
    repository: str = Field(default="quantum-trader", min_length=1)
    """Where the image is, without tag."""
    tag: str = Field(default="", json_schema_extra=_never({"const": "latest"}, "a version, not latest"))
    """Its tag; empty: the chart's appVersion. `latest` is refused: a rollback must find what it rolls back to."""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """`sha256:...` goes before the tag."""
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the node fetches it."""


class BundledKafka(Values):
    enabled: bool = False
    """A Kafka of one node, to try things out: no replica, no TLS."""
    image: Pinned = "docker.io/apache/kafka:4.1.0"
    """Its image."""
    storage: str = Field(default="10Gi", pattern=r"^[0-9]+(Mi|Gi|Ti)$")
    """Size of its volume."""
    resources: Resources = {"requests": {"cpu": "250m", "memory": "768Mi"}, "limits": {"memory": "1536Mi"}}
    """Requests and limits."""


class Kafka(Values):
    bootstrap: str = Field(default="kafka:9092", pattern=r"^([A-Za-z0-9._-]+:[0-9]{1,5})(,[A-Za-z0-9._-]+:[0-9]{1,5})*$")
    """Brokers of your Kafka, `host:port` with commas between. Not looked at when the bundled one is on."""
    security: KafkaSecurity = KafkaSecurity.PLAINTEXT
    """How it is reached; with SASL_* also `username` and `secrets.kafka_password`."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Of a Kafka that asks for a user."""
    username: str = ""
    """The user."""
    caSecret: str = ""
    """A secret with the authority of its certificate, key `ca.crt`; empty: the image's own list."""
    bundled: BundledKafka = BundledKafka()


class BundledClickHouse(Values):
    enabled: bool = False
    """A ClickHouse of one node, to try things out."""
    image: Pinned = "docker.io/clickhouse/clickhouse-server:25.8"
    """Its image."""
    storage: str = Field(default="20Gi", pattern=r"^[0-9]+(Mi|Gi|Ti)$")
    """Size of its volume."""
    resources: Resources = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    """Requests and limits."""


class ClickHouse(Values):
    url: str = Field(
        default="http://clickhouse:8123",
        json_schema_extra=_never({"pattern": "@"}, "an address without user and password, which stand in clickhouse.existingSecret")
        | {"else": {"pattern": r"^(https?://\S+)?$"}},
    )
    """HTTP interface of your ClickHouse, without user and password. Not looked at when the bundled one is on, or with a secret."""
    existingSecret: str = ""
    """A secret that holds the whole URL, `https://user:password@host:8443`."""
    existingSecretKey: str = "url"
    """The key in it."""
    bundled: BundledClickHouse = BundledClickHouse()


class BundledExchange(Values):
    enabled: bool = True
    """The local exchange, which mode `sim` trades on."""
    storage: str = Field(default="1Gi", pattern=r"^[0-9]+(Mi|Gi|Ti)$")
    """Size of the volume for its books."""
    resources: Resources = {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    """Requests and limits."""


class Exchange(Values):
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """REST of the venue when the local exchange is off."""
    streamUrl: str = Field(default="", pattern=r"^(wss?://.+)?$")
    """Sockets of the venue; empty: where its REST is."""
    bundled: BundledExchange = BundledExchange()


class Secret(Values):
    name: str = ""
    """Name of a secret that you made; empty: the program's default, good for the local exchange only."""
    key: str = ""
    """The key in it; empty: the field's own name."""


class Models(Values):
    existingClaim: str = ""
    """A volume claim with the registry of models, read by `signals` and `control`; empty: the built-in model only."""


class Autoscaling(Values):
    enabled: bool = False
    """A KEDA ScaledObject on the lag of its consumer group; only for workers that can be more than one."""
    minReplicas: int = Field(default=1, ge=1)
    """Never to zero: trading does not begin with a cold start."""
    maxReplicas: int = Field(default=3, ge=1, le=12)
    """At most one a partition."""
    lagThreshold: int = Field(default=20000, ge=1)
    """Records of lag a replica is good for."""


class WorkerDefaults(Values):
    replicas: int = Field(default=1, ge=0, le=12)
    """Members of the worker; 0 stops it."""
    resources: Resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    """Requests and limits. No CPU limit: throttled, a worker misses its session."""
    extraEnv: list[Free] = []
    """More environment, as Kubernetes writes it."""
    podAnnotations: dict[str, str] = {}
    """Annotations of its pods."""
    nodeSelector: dict[str, str] = {}
    """Which nodes."""
    tolerations: list[Free] = []
    """Which taints it bears."""
    affinity: Free = {}
    """In the place of the chart's own."""
    priorityClassName: str = ""
    """An existing class; `guardian` has one of its own."""
    terminationGracePeriodSeconds: int = Field(default=30, ge=10)
    """A drain takes 6 s at most; nothing else may cut it short."""
    autoscaling: Autoscaling = Autoscaling()


class PriorityClass(Values):
    create: bool = True
    """A priority class for the guardian: when nodes are full, it stays. It is the cluster's, so its name holds the namespace."""
    value: int = Field(default=1_000_000, ge=0, le=1_000_000_000)
    """Higher stays longer."""


class KafkaUi(Values):
    enabled: bool = False
    """kafbat's UI, read only, on our cluster."""
    image: Pinned = "ghcr.io/kafbat/kafka-ui:v1.5.0"
    """Its image."""
    resources: Resources = {"requests": {"cpu": "100m", "memory": "384Mi"}, "limits": {"memory": "768Mi"}}
    """Requests and limits."""


class NetworkPolicy(Values):
    enabled: bool = True
    """Nothing in or out but what a component needs."""
    metricsFrom: list[Free] = [{"namespaceSelector": {}}]
    """Who may scrape the probes' port."""
    uiFrom: list[Free] = []
    """Who may open the Kafka UI beside `kubectl port-forward`."""
    kafkaTo: list[Free] = []
    """Where your Kafka is, as peers of a network policy; empty: anywhere, on `kafkaPorts`."""
    kafkaPorts: list[int] = [9092]
    """Ports of your brokers."""
    clickhouseTo: list[Free] = []
    """Where your ClickHouse is; empty: anywhere, on `clickhousePorts`."""
    clickhousePorts: list[int] = [8123, 8443]
    """Ports of your ClickHouse."""
    exchangeTo: list[Free] = []
    """Where the venue is; empty: anywhere, on port 443. Only workers that talk to it get there."""


class PodMonitor(Values):
    enabled: bool = False
    """A PodMonitor of the Prometheus operator over all workers."""
    interval: str = Field(default="15s", pattern=r"^[0-9]+(ms|s|m)$")
    """Between two scrapes."""
    labels: dict[str, str] = {}
    """Labels by which your Prometheus picks it."""


class PrometheusRule(Values):
    enabled: bool = False
    """Our alerts, as a PrometheusRule."""
    labels: dict[str, str] = {}
    """Labels by which your Prometheus picks it."""


class Dashboards(Values):
    enabled: bool = False
    """Our Grafana dashboards as ConfigMaps, for Grafana's side-car."""
    labels: dict[str, str] = {"grafana_dashboard": "1"}
    """Labels by which the side-car picks them."""


class Monitoring(Values):
    podMonitor: PodMonitor = PodMonitor()
    prometheusRule: PrometheusRule = PrometheusRule()
    dashboards: Dashboards = Dashboards()


class Bootstrap(Values):
    patienceSeconds: int = Field(default=600, ge=30)
    """How long the Job waits for Kafka and ClickHouse, and a worker for the Job."""
    resources: Resources = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}}
    """Requests and limits of the Jobs and of the waiting."""


class PodDisruptionBudget(Values):
    enabled: bool = True
    """For workers with more than one member: at most one away at a time."""


def _settings() -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in Settings.model_fields.items()
        if name not in DERIVED and field.annotation is not SecretStr
    }
    return create_model("SettingsValues", __config__=ConfigDict(extra="forbid", title="Settings"), **fields)


def _secrets() -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (Secret, Field(default=Secret(), description=field.description or f"QT_{name.upper()}"))
        for name, field in Settings.model_fields.items()
        if field.annotation is SecretStr
    }
    return create_model("Secrets", __config__=ConfigDict(extra="forbid"), **fields)


def _workers() -> type[BaseModel]:
    """Each takes what differs from `workerDefaults`."""
    optional: dict[str, Any] = {
        name: (field.annotation, Field(default=None, description=field.description))
        for name, field in WorkerDefaults.model_fields.items()
    }
    one = create_model("Worker", __config__=ConfigDict(extra="forbid"), **optional)
    fields: dict[str, Any] = {
        name: (one, Field(default_factory=one, description=f"What is different for `{name}`.")) for name in WORKERS
    }
    return create_model("Workers", __config__=ConfigDict(extra="forbid"), **fields)


def chart_values() -> type[BaseModel]:
    """The model of all values."""
    fields: dict[str, Any] = {
        "nameOverride": (Name, Field(default="", description="In the place of the chart's name.")),
        "fullnameOverride": (Name, Field(default="", description="In the place of release and chart name together.")),
        "image": (Image, Image()),
        "imagePullSecrets": (list[Free], Field(default=[], description="Names of secrets for the registry of images.")),
        "settings": (
            _settings(),
            Field(default={}, description="Settings of the program: docs/settings.md. What is left out keeps its default."),
        ),
        "secrets": (_secrets(), Field(default_factory=_secrets(), description="Secrets, only ever by reference.")),
        "policy": (
            Free,
            Field(default={}, description="First policy of a fresh log, and the guardian's; empty: the default policy."),
        ),
        "kafka": (Kafka, Kafka()),
        "clickhouse": (ClickHouse, ClickHouse()),
        "exchange": (Exchange, Exchange()),
        "models": (Models, Models()),
        "bootstrap": (Bootstrap, Bootstrap()),
        "workerDefaults": (WorkerDefaults, WorkerDefaults()),
        "workers": (_workers(), Field(default_factory=_workers(), description="What differs from workerDefaults, by worker.")),
        "guardianPriority": (PriorityClass, PriorityClass()),
        "kafkaUi": (KafkaUi, KafkaUi()),
        "networkPolicy": (NetworkPolicy, NetworkPolicy()),
        "podDisruptionBudget": (PodDisruptionBudget, PodDisruptionBudget()),
        "monitoring": (Monitoring, Monitoring()),
        "storageClassName": (str, Field(default="", description="Of every volume; empty: the cluster's default.")),
        "extraManifests": (list[Free], Field(default=[], description="More objects to install with it.")),
        "global": (Free, Field(default={}, description="Helm's own; not used.")),
    }
    return create_model("ChartValues", __config__=ConfigDict(extra="forbid"), **fields)
