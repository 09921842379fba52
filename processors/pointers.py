"""Pointers to model versions, as people move them. The worker that serves makes switches of them (processors/serving.py).

    MODEL_PROMOTE   {"version": "m-1a2b3c4d5e6f"}   it serves; what served becomes the previous one
    MODEL_ROLLBACK  {}                              the previous one serves again, and the other becomes the previous one
    MODEL_SHADOW    {"version": "m-..."}, or null   it scores the live stream beside the one that serves; null: none does

Whoever points at a version again wants it looked at again: it may have been mended, or be back. So that is a new number, too.
A version that does not verify is never pointed at. A rollback is not held up by that: the worker has its version loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from processors.serving import Refusal
from schemas.models import BUILT_IN, ModelVersion
from schemas.operations import Command, CommandKind

KINDS = (CommandKind.MODEL_PROMOTE, CommandKind.MODEL_ROLLBACK, CommandKind.MODEL_SHADOW)


class Pointers(msgspec.Struct, frozen=True):
    number: int = 0
    active: str = BUILT_IN
    previous: str | None = None
    shadow: str | None = None


class Immovable(Exception):
    """The pointers stay as they are, with the reason for the person."""


def move(pointers: Pointers, kind: CommandKind, body: Mapping[str, Any], refused: Mapping[str, Refusal]) -> Pointers:
    """The pointers after a command; the same when there is no shadow to take away. `refused`: versions that do not verify.

    Raises Immovable.
    """
    if kind is CommandKind.MODEL_ROLLBACK:
        if pointers.previous is None:
            raise Immovable(f"nothing served before {pointers.active}: there is nothing to go back to")
        return _serving(pointers, pointers.previous)
    wanted = body.get("version")
    if kind is CommandKind.MODEL_SHADOW and wanted is None:
        return pointers if pointers.shadow is None else replace(pointers, number=pointers.number + 1, shadow=None)
    if not isinstance(wanted, str) or not wanted:
        raise Immovable('no version: want {"version": "m-..."}')
    if wanted in refused:
        why = refused[wanted]
        raise Immovable(f"{wanted} does not verify: {why.reason}: {why.detail}; {pointers.active} goes on serving")
    if kind is CommandKind.MODEL_SHADOW:
        if wanted == pointers.active:
            raise Immovable(f"{wanted} serves already: a shadow is another version")
        return replace(pointers, number=pointers.number + 1, shadow=wanted)
    if wanted == pointers.active:
        return replace(pointers, number=pointers.number + 1)
    return _serving(pointers, wanted)


def _serving(pointers: Pointers, name: str) -> Pointers:
    """That one serves: if it was the shadow, there is none any more."""
    return Pointers(pointers.number + 1, name, pointers.active, None if name == pointers.shadow else pointers.shadow)


def said(pointers: Pointers, command: Command) -> ModelVersion:
    return ModelVersion(
        event_id=ModelVersion.id_of(pointers.number, pointers.active, pointers.previous, pointers.shadow),
        at=command.at,
        number=pointers.number,
        active=pointers.active,
        previous=pointers.previous,
        shadow=pointers.shadow,
        reason=command.reason,
        actor=command.actor,
    )
