"""`quantum model`: what the registry has, what the log points at, what serves; and the commands that move the pointers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import Message
from pydantic import BaseModel, ValidationError

from infra import registry
from infra.broker.admin import answers, offsets
from infra.broker.reading import read_all
from infra.errors import UserError
from infra.settings import Settings
from processors import control, serving
from schemas import topics
from schemas.models import BUILT_IN, ModelSwitch, ModelVersion
from schemas.operations import CommandKind
from streams import commands
from streams.serving import verify
from streams.versions import Chain

SWITCH_S = 10.0
LISTED = 12
ANSWERS_S = 2.0
E = TypeVar("E", bound=BaseModel)


def versions(settings: Settings) -> dict[str, Any]:
    """The built-in version and those of the registry, each with its role. Without a log the roles are not known."""
    pointers, switch = _log(settings)
    serving = switch.active if switch else BUILT_IN
    rows = []
    for name in dict.fromkeys([BUILT_IN, *registry.versions(settings.model_registry), *_named(pointers)]):
        roles = {"serving": serving, "active": pointers.active, "previous": pointers.previous, "shadow": pointers.shadow}
        rows.append({"version": name, "roles": [role for role, holder in roles.items() if holder == name]} | _about(settings, name))
    found: dict[str, Any] = {"number": pointers.number, "serving": serving, "active": pointers.active}
    if serving != pointers.active:
        found["refused"] = (
            f"{switch.reason}: {switch.detail}" if switch and switch.outcome == "REFUSED" else "nothing was said of it yet"
        )
    return found | {"registry": str(settings.model_registry), "versions": rows}


def told(settings: Settings, name: str) -> dict[str, Any]:
    """The manifest of a version, whole, and `importance_drift`: as the log tells it, or what it would be if it were promoted now.
    UserError when there is none."""
    try:
        found: dict[str, Any] = json.loads(_manifest(settings, name).read_bytes())
    except (OSError, ValueError) as e:
        raise UserError(
            f"no version {name} can be shown", str(e), "`quantum model list` names those of the registry (QT_MODEL_REGISTRY)"
        ) from e
    return found | {"importance_drift": _drift(settings, name, found)}


def outline(found: dict[str, Any], indent: str = "") -> list[str]:
    """For people: a line a field, sections indented; of long lists how long they are. All of it is in the JSON."""
    lines = []
    for name, value in found.items():
        match value:
            case dict() if any(isinstance(part, dict | list) for part in value.values()):
                lines += [f"{indent}{name}", *outline(value, f"{indent}  ")]
            case dict():
                lines.append(f"{indent}{name}: {', '.join(f'{key} {part}' for key, part in value.items()) or '-'}")
            case list() if len(value) > LISTED or any(isinstance(part, dict | list) for part in value):
                lines.append(f"{indent}{name}: {len(value)} of them, in --json")
            case list():
                lines.append(f"{indent}{name}: {', '.join(map(str, value)) or '-'}")
            case _:
                lines.append(f"{indent}{name}: {'-' if value is None else value}")
    return lines


def verified(settings: Settings, name: str) -> dict[str, Any]:
    """Loads it as the worker does. UserError with what is wrong."""
    began = time.perf_counter()
    refusal = verify(name, settings)
    if refusal is not None:
        raise UserError(
            f"{name} is refused: {refusal.reason}", refusal.detail, "do not promote it; train again, or restore its directory whole"
        )
    return {"version": name, "verified": True, "ms": round((time.perf_counter() - began) * 1000, 1)}


def move(settings: Settings, kind: CommandKind, name: str | None, reason: str) -> dict[str, Any]:
    """Sends the command, waits for its audit and for what the serving worker makes of it."""
    body = {} if kind is CommandKind.MODEL_ROLLBACK else {"version": name}
    audit = commands.ask(settings, commands.command(kind, body, reason))
    done: dict[str, Any] = {"accepted": audit.accepted, "detail": audit.detail, "command": audit.command_id}
    if not audit.accepted:
        return done
    if audit.detail == control.ALREADY:
        _, switch = _log(settings)
        return done | {"serving": switch.active if switch else BUILT_IN, "shadow": switch.shadow if switch else None, "refused": []}
    mine: ModelVersion | None = None
    deadline = time.monotonic() + SWITCH_S
    while time.monotonic() < deadline:
        mine = mine or _made_by(settings, audit.command_id)
        switches = _read(settings, topics.MODEL_SWITCHES, ModelSwitch) if mine else ()
        said = [switch for switch in switches if mine and switch.number == mine.number]
        if mine and any(switch.version == mine.active for switch in said):  # its last word on these pointers
            refused = [switch for switch in said if switch.outcome == "REFUSED"]
            return done | {
                "number": mine.number,
                "serving": said[-1].active,
                "shadow": said[-1].shadow,
                "from_at": said[-1].from_at,
                "refused": [f"{switch.version}: {switch.reason}: {switch.detail}" for switch in refused],
            }
        time.sleep(0.1)
    return done | {
        "serving": None,
        "refused": [f"no answer of the worker `signals` within {SWITCH_S:.0f} s: it takes it when it runs"],
    }


def _made_by(settings: Settings, command_id: str) -> ModelVersion | None:
    """The pointers that a command has moved: two people may command at once, and each is told of his own."""
    for message in _messages(settings, topics.MODEL_VERSIONS):
        headers = dict(message.headers() or ())
        if headers.get("causation_id") == command_id.encode() and (value := message.value()) is not None:
            return ModelVersion.model_validate_json(value)
    return None


def _drift(settings: Settings, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    switches = list(_read(settings, topics.MODEL_SWITCHES, ModelSwitch)) if answers(settings.bootstrap, ANSWERS_S) else []
    for switch in reversed(switches):
        if switch.active == name and switch.outcome == "SERVING" and switch.importance_detail:
            return {"share": switch.importance_drift, "detail": switch.importance_detail, "serving_from": switch.from_at}
    now = switches[-1].active if switches else BUILT_IN
    try:
        reference = json.loads(_manifest(settings, now).read_bytes()).get("importance")
    except (OSError, ValueError):
        reference = None
    return serving.drift(name, manifest.get("importance"), now, reference)._asdict() | {"serving_from": None}


def _about(settings: Settings, name: str) -> dict[str, Any]:
    try:
        manifest = json.loads(_manifest(settings, name).read_bytes())
        members = manifest.get("members")
        return {
            "trained_on": manifest["trained_on"],
            "members": sorted(members) if members else [],
            "parent": manifest.get("parent"),
        }
    except (OSError, ValueError, KeyError) as e:
        return {"trained_on": None, "members": [], "parent": None, "unreadable": str(e)}


def _manifest(settings: Settings, name: str) -> Any:
    if name == BUILT_IN:
        from infra.onnx import seed_dir

        return (settings.model_dir or seed_dir()) / registry.MANIFEST
    if "/" in name or name.startswith("."):
        raise UserError(f"{name!r} is no version", "a version is a name", "`quantum model list` names those that are there")
    return settings.model_registry / name / registry.MANIFEST


def _named(pointers: ModelVersion) -> list[str]:
    return [name for name in (pointers.active, pointers.previous, pointers.shadow) if name]


def _log(settings: Settings) -> tuple[ModelVersion, ModelSwitch | None]:
    """What the log points at, and the last word of the worker that serves; the built-in
    version on a log without any, or without a log."""
    pointers = ModelVersion(event_id="none", at=0, number=0, active=BUILT_IN, previous=None, shadow=None, reason="", actor="")
    if not answers(settings.bootstrap, ANSWERS_S):
        return pointers, None
    chain = Chain(ModelVersion)
    for message in _messages(settings, topics.MODEL_VERSIONS):
        pointers = chain.take(message.key(), message.value()) or pointers
    switches = list(_read(settings, topics.MODEL_SWITCHES, ModelSwitch))
    return pointers, switches[-1] if switches else None


def _read(settings: Settings, topic: topics.Topic, event: type[E]) -> Iterator[E]:
    for message in _messages(settings, topic):
        with suppress(ValidationError):
            if (value := message.value()) is not None:
                yield event.model_validate_json(value)


def _messages(settings: Settings, topic: topics.Topic) -> Iterator[Message]:
    return read_all(settings.bootstrap, topic.name, offsets(settings.bootstrap, [topic.name])[topic.name])
