"""The rules in the order in which they are asked: the first that fires changes the plan, then all are asked again, until none
fires.

A new rule is one file and one line of `RULES`; docs/exits.md shows this table (`quantum exits rules`), and a test holds both equal.
Once a close is wished, no other rule fires: a position that shall be left gets no new legs, and its net rests until it is flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from processors.exits import break_even, close, front, ladder, liquidation, protection, time_stop, trailing
from processors.exits.plan import Facts, Fired, Plan


class Rule(NamedTuple):
    """`ask` answers None when it does not fire. `when` and `does` are for people."""

    name: str
    ask: Callable[[Plan, Facts], Fired | None]
    when: str
    does: str


RULES: tuple[Rule, ...] = (
    Rule("close", close.close, "a close is wished", "cancels take-profits; closes what is left if nobody does yet"),
    Rule("stop passed", protection.stop_passed, "the mark is beyond the net and nothing fires", "wishes a close, STOP_PASSED"),
    Rule("net", protection.net, "no net known after the grace, or it was lost", "places one at the same level"),
    Rule(
        "liquidation guard", liquidation.guard, "the net is beyond liquidation with its buffer", "raises the front stop before it"
    ),
    Rule("time stop", time_stop.over, "the profile's time is over, by marks", "wishes a close, TIME_STOP"),
    Rule("break-even", break_even.start, "the policy's rung has filled", "raises the front stop to the entry with fees"),
    Rule("trailing", trailing.trail, "the best mark has gained enough, and the last move is old enough", "raises the front stop"),
    Rule("predecessors", front.relieve, "the newest front stop rests", "cancels the ones before it"),
    Rule("front stop", front.follow, "the front stop does not rest at its level over all", "places the next, or closes if passed"),
    Rule("trim", ladder.trim, "rungs would sell more than there is", "cancels the farthest"),
    Rule("build", ladder.build, "the entry has ended, or it does not grow", "places rungs for what none covers"),
    Rule("again", ladder.again, "a rung was lost", "places it again, three times at most"),
)

_ASKED = tuple(rule.ask for rule in RULES)
ROUNDS = 24
"""More than all rules together can use: each changes what made it fire."""


def advance(plan: Plan, facts: Facts) -> tuple[Plan, list[Fired]]:
    """Asks until nobody fires."""
    fired: list[Fired] = []
    for _ in range(ROUNDS):
        for ask in _ASKED:
            hit = ask(plan, facts)
            if hit is not None:
                break
        else:
            return plan, fired
        plan = hit.plan
        fired.append(hit)
    raise RuntimeError(f"rules of plan {plan.plan_id} do not come to rest: {[hit.decision for hit in fired]}")


def table() -> str:
    """Markdown, for docs/exits.md."""
    rows = [f"| {place} | {rule.name} | {rule.when} | {rule.does} |" for place, rule in enumerate(RULES, 1)]
    return "\n".join(["| | rule | fires when | what it does |", "|---|---|---|---|", *rows]) + "\n"
