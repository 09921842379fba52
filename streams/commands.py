"""Wishes of people: commands onto the log, their answers from it. The policy as the log has it.

A command is one record on `control.commands`; `control` answers on `control.audit` and, for a change, on `policy.versions`.
"""

from __future__ import annotations

import getpass
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from pydantic import ValidationError

from infra import logs
from infra.broker.access import reach
from infra.broker.admin import offsets, require
from infra.broker.reading import read_all
from infra.errors import UserError
from infra.settings import Settings
from schemas import topics
from schemas.events import Event
from schemas.ids import event_id
from schemas.operations import Audit, Command, CommandKind, PolicyVersion
from schemas.policy import Policy
from schemas.signing import SHORTEST
from streams.versions import Chain

ANSWER_S = 10.0
E = TypeVar("E", bound=Event)


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
    answer = ask(settings, _policy_command(wanted, reason, expect))
    return {"accepted": answer.accepted, "detail": answer.detail, "version": answer.policy_version, "command": answer.command_id}


def read_policy(path: Path) -> str:
    """The text of a policy file. Raises UserError for one that holds no policy."""
    try:
        text = path.read_text()
        Policy.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as e:
        why = str(e.strerror) if isinstance(e, OSError) else "it is no text"
        raise UserError(f"the policy {path} cannot be read", why, "name a JSON file; `quantum policy show` prints a policy") from e
    except ValidationError as e:
        found = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'policy'}: {error['msg']}" for error in e.errors())
        raise UserError(f"{path} holds no policy", found, "mend the file; `quantum policy show` prints one that holds") from e
    return text


def first_policy(settings: Settings, path: Path) -> None:
    """Makes the policy of a file the first version of a log that has none. Raises UserError."""
    text = read_policy(path)
    if not _versions(settings):
        answer = ask(settings, _policy_command(_dotted(json.loads(text)), f"first policy, from {path.name}", 0))
        if not answer.accepted:
            raise UserError(f"the policy {path} was refused", answer.detail, "mend the file")


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _policy_command(wanted: dict[str, Any], reason: str, expect: int | None) -> Command:
    return command(CommandKind.POLICY_SET, {"set": wanted}, reason, expect)


def command(kind: CommandKind, body: dict[str, Any], reason: str, expect: int | None = None) -> Command:
    """Of whoever runs this process, now."""
    return Command(
        event_id=event_id("control.command", uuid.uuid4().hex),
        at=int(time.time() * 1000),
        kind=kind,
        actor=getpass.getuser(),
        reason=reason,
        body=json.dumps(body),
        expected_version=expect,
    )


def check_token(token: str) -> None:
    """Raises UserError for an administrator's token that could be guessed."""
    if len(token) < SHORTEST:
        raise UserError(
            "QT_ADMIN_TOKEN is too short",
            f"it has {len(token)} characters; who reads the log could find it by trying",
            f"take {SHORTEST} or more at random, as `openssl rand -hex 24` prints them",
        )


def _value(text: str) -> Any:
    """JSON where it is JSON (numbers stay text: money keeps its digits), else the text itself."""
    try:
        return json.loads(text, parse_float=str)
    except json.JSONDecodeError:
        return text


def ask(settings: Settings, command: Command) -> Audit:
    """The audit that answers a command."""
    require(settings.bootstrap)
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
            with suppress(ValidationError):
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
    producer = Producer({**reach(settings.bootstrap), "acks": "all", "message.timeout.ms": 8000, "logger": logs.librdkafka})
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
            "at": _iso(v.at),
            "actor": v.actor,
            "changed": v.changed,
            "reason": v.reason,
            "digest": v.digest,
        }
        for v in _versions(settings)
    ]


def _iso(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms, no date"


def _versions(settings: Settings) -> list[PolicyVersion]:
    require(settings.bootstrap)
    name = topics.POLICY_VERSIONS.name
    messages = read_all(settings.bootstrap, name, offsets(settings.bootstrap, [name])[name])
    chain = Chain(PolicyVersion)
    return [found for message in messages if (found := chain.take(message.key(), message.value())) is not None]


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            **reach(settings.bootstrap),
            "group.id": "quantum-cli",
            "enable.auto.commit": False,
            "logger": logs.librdkafka,
        }
    )


def newest(settings: Settings, topic: topics.Topic, kind: type[E], key: Callable[[E], str]) -> dict[str, E]:
    """What a topic says last of each, by reading it whole: for compacted ones, of which little is left."""
    found: dict[str, E] = {}
    for message in read_all(settings.bootstrap, topic.name, offsets(settings.bootstrap, [topic.name])[topic.name]):
        with suppress(ValidationError):  # poison is history's to tell
            if (value := message.value()) is not None:
                event = kind.model_validate_json(value)
                found[key(event)] = event
    return found
