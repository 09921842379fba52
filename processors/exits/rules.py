"""The rules in the order in which they are asked; the first that fires changes the plan, then all are asked again.

| rule           | fires when                                       | does                                                       |
|----------------|--------------------------------------------------|------------------------------------------------------------|
| close          | a close is wished                                | cancel take-profits; close what is left if nobody does yet |
| stop_passed    | the mark is beyond the net and nothing fires     | wish STOP_PASSED                                           |
| net            | no net known after the grace, or it was lost     | place one at the same level                                |
| break_even     | the policy's rung has filled                     | quantity stop at the entry with fees, or wish BREAK_EVEN   |
| follow         | that stop was lost, or its quantity is not right | place the next, then cancel it                             |
| trim           | rungs would sell more than there is              | cancel the farthest                                        |
| build          | the entry has ended, or it does not grow         | rungs for what none covers                                 |
| again          | a rung was lost                                  | place it again, three times at most                        |

Once a close is wished, no other rule fires: a position that shall be left gets no new legs, and its net rests until it is flat.
A new rule is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable

from processors.exits import break_even, close, ladder, protection
from processors.exits.plan import Facts, Fired, Plan

Rule = Callable[[Plan, Facts], Fired | None]

RULES: tuple[Rule, ...] = (
    close.close,
    protection.stop_passed,
    protection.net,
    break_even.start,
    break_even.follow,
    ladder.trim,
    ladder.build,
    ladder.again,
)

ROUNDS = 16
"""More than all rules together can use: each changes what made it fire."""


def advance(plan: Plan, facts: Facts) -> tuple[Plan, list[Fired]]:
    """Asks until nobody fires."""
    fired: list[Fired] = []
    for _ in range(ROUNDS):
        hit = next((hit for rule in RULES if (hit := rule(plan, facts)) is not None), None)
        if hit is None:
            return plan, fired
        plan = hit.plan
        fired.append(hit)
    raise RuntimeError(f"rules of plan {plan.plan_id} do not come to rest: {[hit.decision for hit in fired]}")
