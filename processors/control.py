"""Control: a person's commands become policy versions, and every command becomes an audit, refused ones too.

    POLICY_SET       {"set": {"exits.stop_distance": "0.02", "risk.leverage": 2}}     dotted names of policy fields
    POLICY_ROLLBACK  {"version": 3}                                                  that policy again, as a new version
    CLOSE            {"instrument": "binance.usdm.BTCUSDT"}, or "*"                  exits does it; here it is only audited
    STOP             {}                                                              risk does it, by the audit; anyone may
    RESUME           {}                                                              the same, but for an administrator
    BREAKER_RESET    {"scope": "binance.usdm.BTCUSDT"}, or "*"; BREAKER_OVERRIDE     the same
    MODEL_...        processors/pointers.py

A version changes only from the version that the person saw (`expected_version`), and only to a policy that holds. What lets entries
open again wants a reason and the administrator's signature, each signature once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from processors import pointers
from processors.pointers import Immovable, Pointers
from processors.serving import Refusal
from processors.step import Context, Step
from schemas import ids
from schemas.operations import Audit, Command, CommandKind, PolicyVersion
from schemas.policy import Policy
from schemas.risk import ALL

KEY = "policy"
HISTORY = 20
"""Versions that can be rolled back to."""
REMEMBERED = 64
ALREADY = "the pointers say so already"
NOBODY: Mapping[str, Refusal] = {}
BRAKES = (CommandKind.STOP, CommandKind.RESUME, CommandKind.BREAKER_RESET, CommandKind.BREAKER_OVERRIDE)
SIGNATURES = 64
"""Signed commands remembered, by time and id: an older one than all of them could be one that was forgotten, and is refused."""

Signed = Callable[[Command], str | None]
"""Why a command's signature does not hold; None when it does."""


def unsigned(command: Command) -> str | None:
    return "no administrator's token is set where control runs: set QT_ADMIN_TOKEN there"


class Version(msgspec.Struct, frozen=True):
    number: int
    policy: str


class State(msgspec.Struct, frozen=True):
    """`versions`: the newest last; empty means the default policy, version 0. `done`: commands by id. `models`: which serves.
    `signed`: (at, id) of signed commands, ascending."""

    version: int = 1
    versions: tuple[Version, ...] = ()
    done: tuple[str, ...] = ()
    models: Pointers = Pointers()
    signed: tuple[tuple[int, str], ...] = ()


class _Refused(Exception):
    """A command that cannot be carried out, with the reason for the person."""


def current(state: State) -> tuple[int, Policy]:
    if not state.versions:
        return 0, Policy()
    newest = state.versions[-1]
    return newest.number, Policy.model_validate_json(newest.policy)


def step(
    state: State | None,
    command: Command,
    ctx: Context,
    refused: Mapping[str, Refusal] = NOBODY,
    signed: Signed = unsigned,
) -> Step[State]:
    """One command, once. `refused`: model versions that do not verify. `signed`: what is wrong with a signature."""
    state = state or State()
    if command.event_id in state.done:
        return Step(state)
    state = msgspec.structs.replace(state, done=(*state.done, command.event_id)[-REMEMBERED:])
    number, policy = current(state)
    try:
        if command.kind is CommandKind.CLOSE:
            return Step(state, [_audit(command, True, f"close {_instrument(command)}: exits does it", number)])
        if command.kind in BRAKES:
            return _brake(state, command, number, signed)
        if command.kind in pointers.KINDS:
            return _point(state, command, number, refused)
        _seen(command, number)
        wanted = _set(policy, command) if command.kind is CommandKind.POLICY_SET else _old(state, command)
    except _Refused as e:
        return Step(state, [_audit(command, False, str(e), number)])
    changed = differences(policy, wanted)
    if not changed:
        return Step(state, [_audit(command, True, "the policy says so already", number)])
    number += 1
    versions = (*state.versions, Version(number, wanted.model_dump_json()))[-HISTORY:]
    version = PolicyVersion(
        event_id=PolicyVersion.id_of(number, wanted.digest),
        at=command.at,
        version=number,
        digest=wanted.digest,
        changed=changed,
        reason=command.reason,
        actor=command.actor,
        policy=wanted,
    )
    return Step(
        msgspec.structs.replace(state, versions=versions),
        [version, _audit(command, True, f"version {number}: {', '.join(changed)}", number)],
    )


def differences(old: Policy, new: Policy) -> list[str]:
    """Dotted names of the fields that differ, sorted."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    return sorted(name for name in {**before, **after} if before.get(name) != after.get(name))


def _point(state: State, command: Command, number: int, refused: Mapping[str, Refusal]) -> Step[State]:
    _seen(command, state.models.number, "the model pointers are")
    try:
        after = pointers.move(state.models, command.kind, _body(command), refused)
    except Immovable as e:
        raise _Refused(str(e)) from e
    if after == state.models:
        return Step(state, [_audit(command, True, ALREADY, number)])
    detail = f"number {after.number}: {after.active} serves, previous {after.previous}, shadow {after.shadow}"
    after_state = msgspec.structs.replace(state, models=after)
    return Step(after_state, [pointers.said(after, command), _audit(command, True, detail, number)])


def _brake(state: State, command: Command, number: int, signed: Signed) -> Step[State]:
    """Passed on: risk acts on the audit."""
    body = _body(command)
    if command.kind is not CommandKind.STOP:
        state = _authorized(state, command, signed)
        if not command.reason.strip():
            raise _Refused("say why: it stands in the audit")
    if command.kind in (CommandKind.BREAKER_RESET, CommandKind.BREAKER_OVERRIDE):
        _named(str(body.get("scope", "")))
    return Step(state, [_audit(command, True, command.reason, number)])


def _authorized(state: State, command: Command, signed: Signed) -> State:
    """The state that remembers this signature. Raises _Refused."""
    wrong = signed(command)
    if wrong is not None:
        raise _Refused(wrong)
    mine = (command.at, command.event_id)
    if mine in state.signed or (len(state.signed) >= SIGNATURES and mine < state.signed[0]):
        raise _Refused("this signed command is an old one: give it again")
    return msgspec.structs.replace(state, signed=tuple(sorted((*state.signed, mine)))[-SIGNATURES:])


def _seen(command: Command, number: int, what: str = "the policy is") -> None:
    if command.expected_version is not None and command.expected_version != number:
        raise _Refused(f"{what} at version {number}, you saw {command.expected_version}: look again")


def _set(policy: Policy, command: Command) -> Policy:
    wanted = _body(command).get("set")
    if not isinstance(wanted, dict) or not wanted:
        raise _Refused('nothing to set: want {"set": {"section.field": value}}')
    tree = policy.model_dump(mode="json")
    for name, value in wanted.items():
        *sections, field = str(name).split(".")
        place: Any = tree
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or field not in place:
            raise _Refused(f"the policy has no field {name!r}; {_near(tree, str(name))}")
        place[field] = value
    return _valid(tree)


def _old(state: State, command: Command) -> Policy:
    wanted = _body(command).get("version")
    if wanted == 0:
        return Policy()
    for version in state.versions:
        if version.number == wanted:
            return Policy.model_validate_json(version.policy)
    known = [version.number for version in state.versions]
    raise _Refused(f"version {wanted} is not among the {len(known)} that are kept ({known[0] if known else 0} and later)")


def _valid(tree: Mapping[str, Any]) -> Policy:
    try:
        return Policy.model_validate_json(json.dumps(tree))
    except ValidationError as e:
        found = (f"{'.'.join(str(part) for part in error['loc']) or 'policy'}: {error['msg']}" for error in e.errors())
        raise _Refused("; ".join(found)) from e


def _body(command: Command) -> dict[str, Any]:
    try:
        body = json.loads(command.body)
    except ValueError as e:
        raise _Refused(f"the body is no JSON: {e}") from e
    if not isinstance(body, dict):
        raise _Refused("the body is no JSON object")
    return body


def _instrument(command: Command) -> str:
    return _named(str(_body(command).get("instrument", "")))


def _named(name: str) -> str:
    if name == ALL:
        return name
    try:
        return ids.instrument(*name.split(".", 2))
    except (TypeError, ValueError) as e:
        raise _Refused(f"{name!r} is no instrument: want venue.market.SYMBOL, or {ALL} for all") from e


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def _near(tree: Mapping[str, Any], name: str) -> str:
    """Fields that a person may have meant: those that end alike, else those of its section, else the sections."""
    section, _, last = name.rpartition(".")
    fields = _flat(tree)
    alike = [known for known in fields if known.rsplit(".", 1)[-1] == last]
    if alike:
        return f"did you mean {' or '.join(alike)}?"
    beside = [known.removeprefix(f"{section}.") for known in fields if section and known.startswith(f"{section}.")]
    return f"{section} has {', '.join(beside)}" if beside else f"it has {', '.join(tree)}"


def _audit(command: Command, accepted: bool, detail: str, number: int) -> Audit:
    return Audit(
        event_id=ids.event_id("control.audit", command.event_id),
        at=command.at,
        command_id=command.event_id,
        kind=command.kind,
        actor=command.actor,
        accepted=accepted,
        detail=detail,
        policy_version=number,
        body=command.body,
    )
