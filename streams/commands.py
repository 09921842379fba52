"""Wishes of people: commands onto the log, their answers from it. The policy as the log has it.

A command is one record on `control.commands`; `control` answers on `control.audit` and, for a change, on `policy.versions`.
"""

from __future__ import annotations

import getpass
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from infra.broker.admin import offsets
from infra.errors import UserError
from infra.settings import Settings
from schemas import topics
from schemas.events import Event
from schemas.ids import event_id
from schemas.operations import Audit, Command, CommandKind, PolicyVersion
from schemas.policy import Policy

ANSWER_S = 10.0


def set_policy(settings: Settings, assignments: list[str], reason: str, expect: int | None) -> dict[str, Any]:
    """Sends one POLICY_SET and waits for its audit. Raises UserError for a text that is no assignment, or for silence."""
    wanted: dict[str, Any] = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or "." not in name:
            raise UserError(
                f"{text!r} is no assignment", "want section.field=value", "for example: quantum policy set risk.leverage=2"
            )
        wanted[name.strip()] = _value(value.strip())
    command = Command(
        event_id=event_id("control.command", uuid.uuid4().hex),
        at=int(time.time() * 1000),
        kind=CommandKind.POLICY_SET,
        actor=getpass.getuser(),
        reason=reason,
        body=json.dumps({"set": wanted}),
        expected_version=expect,
    )
    answer = _ask(settings, command)
    return {"accepted": answer.accepted, "detail": answer.detail, "version": answer.policy_version, "command": command.event_id}


def _value(text: str) -> Any:
    """JSON where it is JSON (numbers stay text: money keeps its digits), else the text itself."""
    try:
        return json.loads(text, parse_float=str)
    except json.JSONDecodeError:
        return text


def _ask(settings: Settings, command: Command) -> Audit:
    """The audit that answers a command."""
    start = offsets(settings.bootstrap, [topics.CONTROL_AUDIT.name])[topics.CONTROL_AUDIT.name][0][1]
    send(settings, command)
    consumer = _consumer(settings)
    try:
        consumer.assign([TopicPartition(topics.CONTROL_AUDIT.name, 0, start)])
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None or message.error() is not None or (value := message.value()) is None:
                continue
            audit = Audit.model_validate_json(value)
            if audit.command_id == command.event_id:
                return audit
    finally:
        consumer.close()
    raise UserError(
        "no answer to the command",
        f"it is in {topics.CONTROL_COMMANDS.name}, but nothing answered in {ANSWER_S:.0f} s",
        "look whether the worker `control` runs (`quantum status`); it will answer when it is back",
    )


def send(settings: Settings, event: Event) -> None:
    """One event, acknowledged by the log. Raises UserError when it is not."""
    topic, key, partition = topics.route(event)
    failed: list[str] = []
    producer = Producer({"bootstrap.servers": settings.bootstrap, "acks": "all", "message.timeout.ms": 8000})
    headers = [("event_id", event.event_id), ("schema", f"{event.type}.v{event.VERSION}"), ("trace_id", event.event_id)]
    try:
        producer.produce(
            topic.name,
            key=key,
            value=event.encode(),
            partition=partition,
            headers=[*headers, ("producer", "cli")],
            on_delivery=lambda error, message: failed.append(str(error)) if error else None,
        )
        left = producer.flush(9.0)
    except KafkaException as e:
        raise UserError("the command was not sent", str(e), "look at Kafka with `quantum doctor`") from e
    if failed or left:
        why = failed[0] if failed else "no acknowledgement"
        raise UserError("the command was not sent", why, "look at Kafka with `quantum doctor`")


def current_policy(settings: Settings) -> tuple[int, Policy]:
    """Version and policy in force; version 0 and the defaults on a log without one."""
    found = _versions(settings)
    return (found[-1].version, found[-1].policy) if found else (0, Policy())


def policy_versions(settings: Settings) -> list[dict[str, Any]]:
    """Every version, oldest first, as far as the log keeps them (ClickHouse keeps all)."""
    return [
        {
            "version": v.version,
            "at": datetime.fromtimestamp(v.at / 1000, UTC).isoformat(timespec="seconds"),
            "actor": v.actor,
            "changed": v.changed,
            "reason": v.reason,
            "digest": v.digest,
        }
        for v in _versions(settings)
    ]


def _versions(settings: Settings) -> list[PolicyVersion]:
    name = topics.POLICY_VERSIONS.name
    low, high = offsets(settings.bootstrap, [name])[name][0]
    consumer = _consumer(settings)
    found: list[PolicyVersion] = []
    try:
        consumer.assign([TopicPartition(name, 0, low)])
        deadline = time.monotonic() + ANSWER_S
        while low < high and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                continue
            low = message.offset() + 1
            if (value := message.value()) is not None:
                found.append(PolicyVersion.model_validate_json(value))
    finally:
        consumer.close()
    return found


def _consumer(settings: Settings) -> Consumer:
    return Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "quantum-cli", "enable.auto.commit": False})
