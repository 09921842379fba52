"""Which model version decides a candle: pointers that people set, folded into switches that each begin at a candle.

| model.version          | the version | what happens                                                             |
|------------------------|-------------|--------------------------------------------------------------------------|
| not the next number    | any         | nothing                                                                  |
| names the active again | verified    | it goes on: SERVING                                                      |
| names another active   | verified    | it decides every candle that closes after the newest decided: SERVING    |
| names another active   | refused     | what serves goes on: REFUSED, with the reason                            |
| names a shadow         | refused     | no shadow: REFUSED, with the reason                                      |

What begins is compared with what it takes the place of: how far the features that it looks at are others (`drift`). One that is
gone back to keeps what was said of it when it first began: that it differs from what has just been left is no news about it.

A candle is decided by one version whatever its partition, though partitions are not equally far: those that are late decide it as
the others have. The switch names its first candle, so a replay of the log knows the order in which pointers and features met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from processors.step import Step
from schemas import ids
from schemas.models import BUILT_IN, ModelSwitch, ModelVersion, SwitchOutcome
from schemas.numbered import follows

TOLD: Final = 3
"""Features whose shares have moved most, in words."""
KEPT: Final = 8
"""Switches that are remembered: a late partition is never so many behind."""


class Refusal(NamedTuple):
    """Why a version is not what it claims to be."""

    reason: str
    detail: str


class Drift(NamedTuple):
    """From 0, two versions look at the same features, to 1, they have none in common; None: not judged, `detail` says why."""

    share: float | None
    detail: str


UNTOLD: Final = Drift(None, "not judged: nothing was told of it")


class Switch(msgspec.Struct, frozen=True):
    """`drift`: of `active`, against what it first took the place of."""

    active: str
    before: str
    from_at: int
    drift: Drift = UNTOLD


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

    def drift(self, name: str) -> Drift | None:
        """What was said of a version when it began; None: it is among the remembered ones only as what was there before."""
        return next((switch.drift for switch in reversed(self.switches) if switch.active == name), None)

    @property
    def wanted(self) -> tuple[str, ...]:
        """What must be loaded, in order of importance: what serves, what a rollback needs, the shadow."""
        last = self.switches[-1:]
        found = [self.active, *(switch.before for switch in last), *([self.shadow] if self.shadow else [])]
        return tuple(dict.fromkeys(found))


def drift(now: str, importance: Mapping[str, float] | None, before: str, reference: Mapping[str, float] | None) -> Drift:
    """Total variation distance of two versions' shares of importance by feature: half the sum of what they differ by.

    None of both: the version's manifest tells none.
    """
    for name, told in ((now, importance), (before, reference)):
        if not told:
            return Drift(None, f"not judged: {name} tells no importance of features")
    mine, theirs = dict(importance or {}), dict(reference or {})
    moved = {name: mine.get(name, 0.0) - theirs.get(name, 0.0) for name in sorted({*mine, *theirs})}
    share = round(min(math.fsum(map(abs, moved.values())) / 2, 1.0), 6)
    most = sorted(moved, key=lambda name: -abs(moved[name]))[:TOLD]
    return Drift(share, f"{share:.3f} against {before}: " + ", ".join(f"{name} {moved[name]:+.3f}" for name in most))


def point(
    serving: Serving,
    version: ModelVersion,
    decided_at: int,
    refused: Mapping[str, Refusal],
    drifts: Mapping[str, Drift] | None = None,
) -> Step[Serving]:
    """Take pointers. `decided_at`: close of the newest candle that was decided, of any instrument; -1 when there was none.

    `refused`: versions among the new pointers that do not verify. `drifts`: of those that do, against what serves.
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
            switches = (*switches, Switch(active, before, decided_at + 1, _judged(serving, active, drifts or {})))[-KEPT:]
        events.append((SwitchOutcome.SERVING, active, Refusal("", version.reason)))
    after = Serving(version.number, switches, shadow)
    return Step(after, [_said(after, version, decided_at, before, *event) for event in events])


def _judged(serving: Serving, name: str, drifts: Mapping[str, Drift]) -> Drift:
    found = serving.drift(name)
    if found is None and any(switch.before == name for switch in serving.switches):
        found = Drift(None, f"not judged: {name} served before")
    return found or drifts.get(name, UNTOLD)


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
        **told(after.drift(name) if outcome is SwitchOutcome.SERVING else None),
    )


def told(drift: Drift | None) -> dict[str, Any]:
    """A drift as the fields of a ModelSwitch."""
    return {"importance_drift": drift.share, "importance_detail": drift.detail} if drift else {}
