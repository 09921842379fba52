"""Commands, policy versions, heartbeats, dead letters and the guardian's word."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas import ids
from schemas.events import AccountEvent, Event
from schemas.numbered import Number, Numbered
from schemas.policy import Policy


class CommandKind(StrEnum):
    POLICY_SET = "POLICY_SET"
    POLICY_ROLLBACK = "POLICY_ROLLBACK"
    CLOSE = "CLOSE"
    STOP = "STOP"
    RESUME = "RESUME"
    BREAKER_RESET = "BREAKER_RESET"
    BREAKER_OVERRIDE = "BREAKER_OVERRIDE"
    MODEL_PROMOTE = "MODEL_PROMOTE"
    MODEL_ROLLBACK = "MODEL_ROLLBACK"
    MODEL_SHADOW = "MODEL_SHADOW"


class Command(Event):
    """A person's wish. `at` is the wall's: a person has no venue time. `body` is JSON, its shape by kind:
    POLICY_SET {"set": {"exits.profile": "DEFAULT"}}; POLICY_ROLLBACK {"version": 3}; CLOSE {"instrument": ".."};
    STOP {}; RESUME {}; BREAKER_RESET and BREAKER_OVERRIDE {"scope": an instrument or "*"};
    MODEL_PROMOTE {"version": "m-.."}; MODEL_ROLLBACK {}; MODEL_SHADOW {"version": "m-.." or null}.
    `expected_version`: of the policy, or the number of the model pointers. `signature`: of whoever holds the administrator's token
    (schemas/signing.py); RESUME and the breaker's want one."""

    type: Literal["control.command"] = "control.command"
    kind: CommandKind
    actor: str
    reason: str
    body: str
    expected_version: int | None = None
    signature: str = ""


class Audit(Event):
    """What became of a command, refused ones too. `body`: the command's, so that who acts on an accepted one needs nothing else."""

    type: Literal["control.audit"] = "control.audit"
    command_id: str
    kind: CommandKind
    actor: str
    accepted: bool
    detail: str
    policy_version: int
    body: str = ""


class PolicyVersion(Numbered):
    """The policy as it stands after a change: compare-and-set on `version`."""

    type: Literal["policy.version"] = "policy.version"
    version: Number
    digest: str
    changed: list[str]
    reason: str
    actor: str
    policy: Policy

    @staticmethod
    def id_of(version: int, digest: str) -> str:
        return ids.event_id("policy.version", version, digest)

    @property
    def place(self) -> int:
        return self.version

    @property
    def own_id(self) -> str:
        return self.id_of(self.version, self.digest)


class Heartbeat(Event):
    """A worker is alive. `at` is the wall's. `feed_age_ms`: of market alone, how long the exchange has been silent, in its ticks'
    own words."""

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
    feed_age_ms: int | None = None


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
    """What the guardian saw or did: PROTECTED (a first stop rests, so long after the fill), STOP_PLACED, SWAPPED, ADOPTED, CLOSED,
    ORPHAN_CANCELED, FAILED. `notional` at the mark; with `unprotected_s` it is what stood without a stop, for how long."""

    type: Literal["guardian.report"] = "guardian.report"
    action: str
    detail: str
    client_id: str
    unprotected_s: float
    notional: float
