"""control: control.commands -> policy.versions, control.audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.settings import Settings
from processors import control
from schemas import topics
from streams.app import run_stage
from streams.stage import Stage


def keys(event: Any, known: Sequence[str]) -> Sequence[str]:
    return (control.KEY,)


STAGE = Stage(
    name="control",
    inputs=(topics.CONTROL_COMMANDS,),
    outputs=(topics.POLICY_VERSIONS, topics.CONTROL_AUDIT),
    state=control.State,
    step=control.step,
    keys=keys,
)


def main(settings: Settings) -> None:
    run_stage(STAGE, settings)
