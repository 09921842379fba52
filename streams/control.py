"""control: control.commands -> policy.versions, model.versions, control.audit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from infra.settings import Settings
from processors import control
from processors.serving import Refusal
from schemas import topics
from schemas.operations import Command, CommandKind
from schemas.signing import holds
from streams.app import run_stage
from streams.commands import check_token
from streams.hands import Hands
from streams.stage import Stage


def keys(event: Any, known: Collection[str]) -> Collection[str]:
    return (control.KEY,)


STAGE = Stage(
    name="control",
    inputs=(topics.CONTROL_COMMANDS,),
    outputs=(topics.POLICY_VERSIONS, topics.MODEL_VERSIONS, topics.CONTROL_AUDIT),
    state=control.State,
    step=control.step,
    keys=keys,
)
"""As declared; a worker runs it with a look at the model versions that commands name."""


class Verifier:
    """Before a command that names a model version: whether it is what it claims to be."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hands = Hands(1, "verify")
        self.refused: dict[str, Refusal] = {}

    async def prepare(self, command: Command, states: Mapping[str, Any]) -> None:
        self.refused.clear()
        if command.kind not in (CommandKind.MODEL_PROMOTE, CommandKind.MODEL_SHADOW):
            return
        try:
            name = json.loads(command.body).get("version")
        except (ValueError, AttributeError):
            return  # the step refuses it with the reason
        if isinstance(name, str):
            from streams.serving import verify  # only who is asked about models needs what loads them

            found = await self._hands.do(verify, name, self._settings)
            if found is not None:
                self.refused[name] = found


def signature_check(token: str) -> control.Signed:
    """Raises UserError for a token that could be guessed."""
    if not token:
        return control.unsigned
    check_token(token)

    def wrong(command: Command) -> str | None:
        if not command.signature:
            return f"{command.kind} is an administrator's: set QT_ADMIN_TOKEN and give the command again"
        return None if holds(command, token) else "the signature is not of the administrator's token that control holds"

    return wrong


def main(settings: Settings) -> None:
    verifier = Verifier(settings)
    signed = signature_check(settings.admin_token.get_secret_value())
    step = partial(control.step, refused=verifier.refused, signed=signed)
    run_stage(replace(STAGE, step=step, prepare=verifier.prepare), settings)
