"""`quantum doctor` on a real log: which workers are silent, and which only wait."""

from __future__ import annotations

import time

import pytest

from infra.broker.admin import TopicSpec, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.settings import load
from schemas import topics
from schemas.ids import event_id
from schemas.operations import Heartbeat
from streams import doctor
from streams.commands import send

pytestmark = pytest.mark.broker
BEATS = topics.HEALTH_HEARTBEATS


def beat(worker: str, *, ready: bool = True, age_s: float = 0.0, member: int = 0) -> Heartbeat:
    at = int((time.time() - age_s) * 1000)
    return Heartbeat(
        event_id=event_id(Heartbeat.type_name(), worker, member, at),
        at=at,
        worker=worker,
        member=f"{worker}-{member}",
        pid=1,
        started_at=at,
        ready=ready,
        status="ready" if ready else "the policy is not read yet",
        processed=0,
        recovered_gaps=0,
        dead_letters=0,
        rss_mb=0.0,
    )


def test_a_silent_worker_is_named_and_one_that_waits_is_told(kafka: EmbeddedKafka) -> None:
    settings = load(kafka_bootstrap=kafka.bootstrap)
    ensure_topics(kafka.bootstrap, [TopicSpec(BEATS.name, BEATS.partitions, BEATS.config)])
    first, *others = topics.WORKERS
    for worker in others:
        send(settings, beat(worker))
    send(settings, beat(first, age_s=60))
    with pytest.raises(UserError, match=f"1 of {len(topics.WORKERS)} workers are silent: {first}"):
        doctor.workers(settings)
    send(settings, beat(first, ready=False))
    assert doctor.workers(settings) == f"all {len(topics.WORKERS)} live; not ready: {first}-0 (the policy is not read yet)"
    send(settings, beat(first))
    assert doctor.workers(settings).endswith("all are ready")
