"""What we ask of any Kafka, embedded or external: topics as declared, offsets, a sign of life.

All calls block (for threads and start-up code, never for an event loop). A broker that does not answer is a UserError.
The AdminClient must live until its futures are done: a temporary one creates nothing and says nothing.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from infra.broker.access import reach
from infra.broker.versions import broker_version
from infra.broker.writing import MAX_BYTES
from infra.errors import UserError

REQUEST_S = 20.0
POLL_S = 0.05
ANOTHER_S = 1.0
FRAME_BYTES = 65_536
"""What goes around a record that is sent alone."""
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NOT_YET = (
    KafkaError._NOENT,  # librdkafka's word when it finds no leader at all
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)

_HAS_MEMBERS = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
_COORDINATOR_STARTS = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
"""A broker that has just started reads its groups first."""

_idle: deque[AdminClient] = deque(maxlen=32)

# librdkafka reports every refused connection on stderr; we report the outcome instead
_quiet = logging.getLogger("infra.broker.librdkafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must exist. Replication is the broker's default; `config` values are Kafka's own strings."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """With what every topic has: it takes the largest record that we write, which is more than a broker takes by itself."""
        return {"max.message.bytes": str(MAX_BYTES + FRAME_BYTES)} | self.config


@dataclass(frozen=True)
class Broker:
    """Who answered."""

    id: int
    cluster_id: str
    version: str


def ping(bootstrap: str, timeout_s: float = 5.0) -> Broker:
    """The broker that answers an admin call. UserError if none does within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    client = _client(bootstrap)
    try:
        # librdkafka gives up a call at its own deadline; the future is bounded as well
        cluster = client.describe_cluster(request_timeout=timeout_s).result(timeout_s + 1)
    except (KafkaException, TimeoutError) as error:
        raise _unreachable(bootstrap, error) from error
    controller = cluster.controller
    return Broker(
        id=controller.id if controller is not None else -1,
        cluster_id=cluster.cluster_id or "",
        version=broker_version(bootstrap, max(0.5, deadline - time.monotonic())),
    )


def require(bootstrap: str, timeout_s: float = 2.0) -> None:
    """UserError at once when nobody listens there; the client would wait for minutes in hope."""
    error: Exception | None = None
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout_s).close()
            return
        except (OSError, ValueError) as e:
            error = e
    raise _unreachable(bootstrap, OSError(str(error)))


def answers(bootstrap: str, timeout_s: float) -> bool:
    """Whether an admin call is answered within `timeout_s`."""
    client = _client(bootstrap)
    try:
        client.describe_cluster(request_timeout=timeout_s).result(timeout_s + 1)
    except (KafkaException, TimeoutError):
        return False
    return True


def ensure_topics(bootstrap: str, specs: Iterable[TopicSpec], timeout_s: float = 30.0) -> list[str]:
    """Makes the broker's topics equal to `specs`; returns the names of those created.

    Missing topics are created. A topic with another number of partitions is a UserError: keys would move. A config
    value that differs is altered; values that `specs` does not name are left alone. When this returns, every partition
    has a leader, so that producing and consuming work at once.
    """
    wanted = {spec.name: spec for spec in specs}
    client = _client(bootstrap)
    present = _topics(client, bootstrap)
    missing = [spec for name, spec in wanted.items() if name not in present]
    existing = [spec for name, spec in wanted.items() if name in present]
    for spec in existing:
        found = len(present[spec.name].partitions)
        if found != spec.partitions:
            raise UserError(
                f"topic {spec.name} has {found} partitions instead of {spec.partitions}",
                "it was created by another version or by hand, and its keys would move if we changed it",
                "start with --fresh (embedded), or delete the topic on your Kafka after saving what you need",
            )
    created = _create(client, bootstrap, missing)
    _alter(client, bootstrap, existing)
    _wait_for_leaders(client, bootstrap, wanted, timeout_s)
    return created


def missing_topics(bootstrap: str, names: Iterable[str]) -> list[str]:
    """Those of the names that the broker does not know."""
    present = _topics(_client(bootstrap), bootstrap)
    return sorted(set(names) - set(present))


def offsets(bootstrap: str, names: Iterable[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """`{topic: {partition: (low, high)}}`: the first offset that is kept, and the one that the next record will get."""
    client = _client(bootstrap)
    present = _topics(client, bootstrap)
    topics = sorted(set(names))
    unknown = [name for name in topics if name not in present]
    if unknown:
        raise UserError("offsets cannot be read", f"no topic {', '.join(unknown)} on {bootstrap}", "create it first")
    where = [(name, partition) for name in topics for partition in sorted(present[name].partitions)]
    low = _list_offsets(client, bootstrap, where, EARLIEST)
    high = _list_offsets(client, bootstrap, where, LATEST)
    found: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in topics}
    for name, partition in where:
        found[name][partition] = (low[name, partition], high[name, partition])
    return found


def committed(bootstrap: str, group: str, where: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """`{(topic, partition): offset}` that a consumer group has committed, of those asked for; others are left out.

    Asked by a consumer that never joins. The admin client's own question crashes the process when the group's coordinator
    is still loading or has moved: librdkafka 2.16 then looks for a consumer's group where there is none.
    """
    asked = [TopicPartition(topic, partition) for topic, partition in where]
    if not asked:
        return {}
    consumer = Consumer({**_settings(bootstrap), "group.id": group, "enable.auto.commit": False})
    deadline = time.monotonic() + REQUEST_S
    try:
        while True:
            try:
                answer = consumer.committed(asked, timeout=REQUEST_S)
                return {(tp.topic, tp.partition): tp.offset for tp in answer if tp.offset >= 0}
            except KafkaException as error:
                if error.args[0].code() not in _COORDINATOR_STARTS or time.monotonic() > deadline:
                    raise _unreachable(bootstrap, error) from error
            time.sleep(POLL_S)
    finally:
        consumer.close()


def set_offsets(bootstrap: str, group: str, to: Mapping[tuple[str, int], int]) -> None:
    """Where a group goes on, told by somebody who is no member. UserError while it has members: they would know better."""
    consumer = Consumer({**_settings(bootstrap), "group.id": group, "enable.auto.commit": False})
    try:
        told = [TopicPartition(topic, partition, offset) for (topic, partition), offset in to.items()]
        done = consumer.commit(offsets=told, asynchronous=False) or []
        failed = next((tp.error for tp in done if tp.error), None)
        if failed is not None:
            raise KafkaException(failed)
    except KafkaException as error:
        if error.args[0].code() not in _HAS_MEMBERS:
            raise _unreachable(bootstrap, error) from error
        raise UserError(
            f"the offsets of {group} are not set",
            "the group has members: they are running, or ended less than a session (some seconds) ago",
            "stop them first, and wait a moment",
        ) from error
    finally:
        consumer.close()


# -- helpers


def _client(bootstrap: str) -> AdminClient:
    """Torn down some calls later, when nothing of it is under way: librdkafka 2.16 was seen to crash otherwise."""
    client = AdminClient(_settings(bootstrap))
    _idle.append(client)
    return client


def _settings(bootstrap: str) -> dict[str, Any]:
    return {
        **reach(bootstrap),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "logger": _quiet,
        "error_cb": lambda _error: None,
    }


def _topics(client: AdminClient, bootstrap: str) -> dict[str, TopicMetadata]:
    try:
        return dict(client.list_topics(timeout=REQUEST_S).topics)
    except KafkaException as error:
        raise _unreachable(bootstrap, error) from error


def _create(client: AdminClient, bootstrap: str, specs: Sequence[TopicSpec]) -> list[str]:
    if not specs:
        return []
    # -1: the broker's default replication, 1 on the embedded one
    new = [NewTopic(s.name, num_partitions=s.partitions, replication_factor=-1, config=s.settings) for s in specs]
    created = []
    for name, future in client.create_topics(new, operation_timeout=REQUEST_S).items():
        try:
            _result(future, bootstrap)
            created.append(name)
        except KafkaException as error:
            kafka_error = error.args[0]
            if kafka_error.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker: fine
                raise UserError(
                    f"topic {name} cannot be created", kafka_error.str(), "correct its declaration or the broker"
                ) from error
    return created


def _alter(client: AdminClient, bootstrap: str, specs: Sequence[TopicSpec]) -> None:
    if not specs:
        return
    asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs])
    present = {resource.name: _result(future, bootstrap) for resource, future in asked.items()}
    changes = [
        ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries)
        for spec in specs
        if (entries := _differing(spec.settings, present[spec.name]))
    ]
    if changes:
        for resource, future in client.incremental_alter_configs(changes).items():
            try:
                _result(future, bootstrap)
            except KafkaException as error:
                raise UserError(
                    f"topic {resource.name} cannot be configured",
                    error.args[0].str(),
                    "correct its declaration, or give this user the right to alter configs",
                ) from error


def _differing(wanted: Mapping[str, str], present: Mapping[str, ConfigEntry]) -> list[ConfigEntry]:
    return [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in wanted.items()
        if key not in present or present[key].value != value
    ]


def _wait_for_leaders(client: AdminClient, bootstrap: str, wanted: Mapping[str, TopicSpec], timeout_s: float) -> None:
    """Metadata names a leader a moment before that leader serves the partition: so each is asked for an offset."""
    where = [(spec.name, partition) for spec in wanted.values() for partition in range(spec.partitions)]
    _list_offsets(client, bootstrap, where, LATEST, timeout_s)
    deadline = time.monotonic() + timeout_s
    while not set(wanted) <= set(_topics(client, bootstrap)):
        if time.monotonic() > deadline:
            raise _unreachable(bootstrap, TimeoutError("topics that exist do not appear in its metadata"))
        time.sleep(POLL_S)


def _list_offsets(
    client: AdminClient, bootstrap: str, where: Iterable[tuple[str, int]], which: OffsetSpec, timeout_s: float = 10.0
) -> dict[tuple[str, int], int]:
    """Asks again for partitions whose leader is elected but has not opened its log yet; by another client now and then: one that
    has read the metadata a moment too early was seen to believe for good that there is no leader."""
    request = {TopicPartition(name, partition): which for name, partition in where}
    if not request:
        return {}
    asked = time.monotonic()
    deadline = asked + timeout_s
    found: dict[tuple[str, int], int] = {}
    while True:
        for tp, future in client.list_offsets(request, request_timeout=REQUEST_S).items():
            try:
                found[tp.topic, tp.partition] = _result(future, bootstrap).offset
            except KafkaException as error:
                if error.args[0].code() not in _NOT_YET:
                    raise
        request = {tp: which for tp in request if (tp.topic, tp.partition) not in found}
        if not request:
            return found
        now = time.monotonic()
        if now - asked > ANOTHER_S:
            client, asked = _client(bootstrap), now
        if now > deadline:
            some = next(iter(request))
            raise UserError(
                f"{len(request)} partitions are not ready, {some.topic}/{some.partition} among them",
                f"no leader answers for them on {bootstrap} after {timeout_s:.0f} s",
                "look at the broker's log: a broker that is down or has no disk left leads no partition",
            )
        time.sleep(POLL_S)


def _result(future: Future[Any], bootstrap: str) -> Any:
    """The answer; transport failures become a UserError, the broker's own refusals stay a KafkaException."""
    try:
        return future.result(REQUEST_S + 5)
    except TimeoutError as error:
        raise _unreachable(bootstrap, error) from error
    except KafkaException as error:
        if error.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise _unreachable(bootstrap, error) from error
        raise


def _unreachable(bootstrap: str, error: Exception) -> UserError:
    told = error.args[0] if error.args else error
    why = told.str() if isinstance(told, KafkaError) else str(told) or "no answer in time"
    return UserError(
        f"Kafka at {bootstrap} does not answer",
        why,
        "start it (`make run` brings its own), or correct QT_KAFKA_BOOTSTRAP",
    )
