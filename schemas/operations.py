"""Commands, policy versions, heartbeats, dead letters and the guardian's word."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import AccountEvent, Event
from schemas.policy import Policy


class CommandKind(StrEnum):
    POLICY_SET = "POLICY_SET"
    POLICY_ROLLBACK = "POLICY_ROLLBACK"
    CLOSE = "CLOSE"
    MODEL_PROMOTE = "MODEL_PROMOTE"
    MODEL_ROLLBACK = "MODEL_ROLLBACK"
    MODEL_SHADOW = "MODEL_SHADOW"


class Command(Event):
    """A person's wish. `at` is the wall's: a person has no venue time. `body` is JSON, its shape by kind:
    POLICY_SET {"set": {"exits.profile": "DEFAULT"}}; POLICY_ROLLBACK {"version": 3}; CLOSE {"instrument": ".."};
    MODEL_PROMOTE {"version": "m-.."}; MODEL_ROLLBACK {}; MODEL_SHADOW {"version": "m-.." or null}.
    `expected_version`: of the policy, or the number of the model pointers."""

    type: Literal["control.command"] = "control.command"
    kind: CommandKind
    actor: str
    reason: str
    body: str
    expected_version: int | None = None


class Audit(Event):
    """What became of a command, refused ones too."""

    type: Literal["control.audit"] = "control.audit"
    command_id: str
    kind: CommandKind
    actor: str
    accepted: bool
    detail: str
    policy_version: int


class PolicyVersion(Event):
    """The policy as it stands after a change: compare-and-set on `version`."""

    type: Literal["policy.version"] = "policy.version"
    version: int
    digest: str
    changed: list[str]
    reason: str
    actor: str
    policy: Policy


class Heartbeat(Event):
    """A worker is alive. `at` is the wall's. `lag`: records of its inputs not yet applied, -1 unknown."""

    type: Literal["health.heartbeat"] = "health.heartbeat"
    worker: str
    member: str
    pid: int
    started_at: int
    ready: bool
    status: str
    processed: int
    recovered_gaps: int
    dead_letters: int
    rss_mb: float


class DeadLetter(Event):
    """A message that a stage could not take: where it stands, why, and the bytes as text. `at` is the wall's."""

    type: Literal["dead.letter"] = "dead.letter"
    stage: str
    topic: str
    partition: int
    offset: int
    error: str
    detail: str
    payload: str
    encoding: Literal["utf-8", "base64"]


class GuardianReport(AccountEvent):
    """What the guardian saw or did: STOP_PLACED, CLOSED, ORPHAN_CANCELED, ADOPTED, FAILED."""

    type: Literal["guardian.report"] = "guardian.report"
    action: str
    detail: str
    client_id: str
    unprotected_s: float
    notional: float
