"""Which model version decides a candle: pointers that people set, folded into switches that each begin at a candle.

| model.version          | the version | what happens                                                             |
|------------------------|-------------|--------------------------------------------------------------------------|
| not the next number    | any         | nothing                                                                  |
| names the active again | verified    | it goes on: SERVING                                                      |
| names another active   | verified    | it decides every candle that closes after the newest decided: SERVING    |
| names another active   | refused     | what serves goes on: REFUSED, with the reason                            |
| names a shadow         | refused     | no shadow: REFUSED, with the reason                                      |

A candle is decided by one version whatever its partition, though partitions are not equally far: those that are late decide it as
the others have. The switch names its first candle, so a replay of the log knows the order in which pointers and features met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from processors.step import Step
from schemas import ids
from schemas.models import BUILT_IN, ModelSwitch, ModelVersion, SwitchOutcome
from schemas.numbered import follows

KEPT: Final = 8
"""Switches that are remembered: a late partition is never so many behind."""


class Refusal(NamedTuple):
    """Why a version is not what it claims to be."""

    reason: str
    detail: str


class Switch(msgspec.Struct, frozen=True):
    active: str
    before: str
    from_at: int


class Serving(msgspec.Struct, frozen=True):
    """`number`: of the newest model.version that was taken. `switches`: the newest last; none: the built-in version."""

    number: int = 0
    switches: tuple[Switch, ...] = ()
    shadow: str | None = None

    @property
    def active(self) -> str:
        return self.switches[-1].active if self.switches else BUILT_IN

    def deciding(self, at: int) -> tuple[str, ...]:
        """Of a candle that closes at `at`: the version that decides it, and the one to fall back on when that cannot be loaded."""
        for switch in reversed(self.switches):
            if at >= switch.from_at:
                return switch.active, switch.before
        return (self.switches[0].before if self.switches else BUILT_IN,)

    @property
    def wanted(self) -> tuple[str, ...]:
        """What must be loaded, in order of importance: what serves, what a rollback needs, the shadow."""
        last = self.switches[-1:]
        found = [self.active, *(switch.before for switch in last), *([self.shadow] if self.shadow else [])]
        return tuple(dict.fromkeys(found))


def point(serving: Serving, version: ModelVersion, decided_at: int, refused: Mapping[str, Refusal]) -> Step[Serving]:
    """Take pointers. `decided_at`: close of the newest candle that was decided, of any instrument; -1 when there was none.

    `refused`: versions among the new pointers that do not verify.
    """
    if not follows(serving.number, version):
        return Step(serving)
    active, shadow, events = serving.active, version.shadow, []
    if shadow is not None and shadow in refused:
        events.append((SwitchOutcome.REFUSED, shadow, refused[shadow]))
        shadow = None
    switches, before = serving.switches, active
    if version.active in refused:
        events.append((SwitchOutcome.REFUSED, version.active, refused[version.active]))
    else:
        if version.active != active:
            active = version.active
            switches = (*switches, Switch(active, before, decided_at + 1))[-KEPT:]
        events.append((SwitchOutcome.SERVING, active, Refusal("", version.reason)))
    after = Serving(version.number, switches, shadow)
    return Step(after, [_said(after, version, decided_at, before, *event) for event in events])


def _said(
    after: Serving, version: ModelVersion, decided_at: int, before: str, outcome: SwitchOutcome, name: str, why: Refusal
) -> ModelSwitch:
    return ModelSwitch(
        event_id=ids.event_id("model.switch", version.event_id, outcome, name),
        at=max(decided_at, 0),
        number=version.number,
        outcome=outcome,
        version=name,
        active=after.active,
        before=before,
        shadow=after.shadow,
        from_at=decided_at + 1,
        reason=why.reason,
        detail=why.detail,
    )
