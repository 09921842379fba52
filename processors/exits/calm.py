"""Calm: what a mark must stay within so that no rule can fire while nothing but marks comes.

Nearly every mark changes nothing but counts. Each rule says for how long it will keep silent (`Rule.calm`); while all do, a mark
is compared with their bounds and the rules are not asked. What comes of a mark is the same either way, to the last bit: a `Rest`
is known by the very plan it was found for, so whatever else changes the plan, the policy or the filters ends it. Bounds are
floats: a mark that is strictly on one side of a level as a float is so of the level itself.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors import filters as rounding
from processors.exits.plan import Plan
from processors.exits.state import State
from processors.filters import Filters
from schemas import hot
from schemas.policy import Policy

FOREVER = 2**62


class Calm(NamedTuple):
    """A rule that has not fired does not fire while the mark is better than `worst` and the time before `until`, nor, before the
    time `not_before`, for what the best mark has reached; after it the best mark must be worse than `reach`. None: no bound."""

    worst: Decimal | None = None
    reach: Decimal | None = None
    not_before: float = 0
    until: int = FOREVER


ALWAYS = Calm()


class Rest:
    """The calm of one plan, ready to be compared. Prices are times the side's sign: more is better."""

    __slots__ = ("best", "filters", "not_before", "plan", "policy", "reach", "sign", "until", "worst")

    def __init__(self, plan: Plan, policy: Policy, filters: Filters, calms: list[Calm]) -> None:
        sign = self.sign = plan.side.sign
        self.plan, self.policy, self.filters = plan, policy, filters
        assert plan.best is not None
        self.best = float(plan.best) * sign
        self.worst = max((float(each.worst) * sign for each in calms if each.worst is not None), default=float("-inf"))
        self.until = min(each.until for each in calms)
        bounded = [each for each in calms if each.reach is not None]
        self.reach = min((float(each.reach) * sign for each in bounded if each.reach is not None), default=float("inf"))
        self.not_before = min((each.not_before for each in bounded), default=0)


Rests = dict[str, Rest]
"""By instrument. A memory of what was found: nothing is decided by what is in it."""


def held(state: State, mark: hot.Mark, at: int, partition: int, offset: int, rest: Rest) -> State | None:
    """The state behind a mark at which nothing fires; None: the rules must be asked. `at`: the record's venue time."""
    plan, sign = rest.plan, rest.sign
    if plan is not state.plan or state.left or state.shadows:
        return None
    now = max(state.at, at)
    best, reached = plan.best, mark.high if sign > 0 else mark.low
    top = rest.best
    if reached * sign >= top:
        top, exact = reached * sign, rounding.from_text(reached)
        assert best is not None
        if (exact - best) * sign > 0:
            best = exact
    if mark.mark * sign <= rest.worst or now >= rest.until or (top >= rest.reach and now >= rest.not_before):
        return None
    rest.best, rest.plan = top, msgspec.structs.replace(plan, marks=plan.marks + 1, past=0, best=best)
    return msgspec.structs.replace(
        state,
        at=now,
        mark=rounding.from_text(mark.mark),
        partition=partition,
        offset=offset,
        plan=rest.plan,
        idle=0,
    )
