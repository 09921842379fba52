"""The policy as every stage reads it: a thread follows policy.versions to its end and stays there.

No consumer group: every member reads all of it. The first read to the end makes it ready; an empty topic means the default
policy, version 0.
"""

from __future__ import annotations

import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from infra import logs
from schemas import topics
from schemas.operations import PolicyVersion
from schemas.policy import Policy

log = logs.get(__name__)
POLL_S = 0.2


class PolicyReader:
    """`current()` is a plain read, safe from any thread."""

    def __init__(self, bootstrap: str, topic: str = topics.POLICY_VERSIONS.name) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._current: tuple[int, Policy] = (0, Policy())
        self._read_once = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="policy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def current(self) -> tuple[int, Policy]:
        return self._current

    @property
    def ready(self) -> bool:
        """Read to the end once, and the reader lives."""
        return self._read_once.is_set() and self._thread.is_alive()

    def _follow(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "none",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 500,
                "logger": logs.librdkafka,
            }
        )
        try:
            consumer.assign([TopicPartition(self._topic, 0, 0)])
            while not self._over.is_set():
                message = consumer.poll(POLL_S)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        self._read_once.set()
                    elif error.fatal():
                        raise KafkaException(error)
                    continue
                value = message.value()
                if value is not None:
                    self._take(value)
        finally:
            consumer.close()

    def _take(self, value: bytes) -> None:
        try:
            found = PolicyVersion.model_validate_json(value)
        except ValidationError as e:
            log.error("a policy version cannot be read and is left out", error=str(e))
            return
        if found.version >= self._current[0]:
            self._current = (found.version, found.policy)
            log.info("policy", version=found.version, changed=found.changed)
