"""The rules in the order in which they are asked: the first that fires changes the plan, then all are asked again, until none
fires.

A new rule is one file and one line of `RULES`; docs/exits.md shows this table (`quantum exits rules`), and a test holds both equal.
Once a close is wished, no other rule fires: a position that shall be left gets no new legs, and its net rests until it is flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from processors.exits import break_even, close, front, ladder, liquidation, protection, time_stop, trailing
from processors.exits.calm import ALWAYS, Calm, Rest
from processors.exits.plan import Facts, Fired, Plan


def always(plan: Plan, facts: Facts) -> Calm | None:
    return ALWAYS


class Rule(NamedTuple):
    """`ask` answers None when it does not fire, and `calm` then says for how long that will be so while nothing but marks comes
    (None: no longer than to the next); a rule that looks at legs alone need not say it. `when` and `does` are for people."""

    name: str
    ask: Callable[[Plan, Facts], Fired | None]
    calm: Callable[[Plan, Facts], Calm | None]
    when: str
    does: str


RULES: tuple[Rule, ...] = (
    Rule("close", close.close, close.calm, "a close is wished", "cancels take-profits; closes what is left if nobody does yet"),
    Rule(
        "stop passed",
        protection.stop_passed,
        protection.not_passed,
        "the mark is beyond the net and nothing fires",
        "wishes a close, STOP_PASSED",
    ),
    Rule("net", protection.net, protection.resting, "no net known after the grace, or it was lost", "places one at the same level"),
    Rule(
        "liquidation guard",
        liquidation.guard,
        always,
        "the net is beyond liquidation with its buffer",
        "raises the front stop before it",
    ),
    Rule("time stop", time_stop.over, time_stop.calm, "the profile's time is over, by marks", "wishes a close, TIME_STOP"),
    Rule("break-even", break_even.start, always, "the policy's rung has filled", "raises the front stop to the entry with fees"),
    Rule(
        "trailing",
        trailing.trail,
        trailing.calm,
        "the best mark has gained enough, and the last move is old enough",
        "raises the front stop",
    ),
    Rule("predecessors", front.relieve, always, "the newest front stop rests", "cancels the ones before it"),
    Rule(
        "front stop",
        front.follow,
        front.standing,
        "the front stop does not rest at its level over all",
        "places the next, or closes if passed",
    ),
    Rule("trim", ladder.trim, always, "rungs would sell more than there is", "cancels the farthest"),
    Rule(
        "build",
        ladder.build,
        ladder.covered,
        "the entry has ended, or it does not grow",
        "places rungs for what none covers",
    ),
    Rule("again", ladder.again, ladder.none_lost, "a rung was lost", "places it again, three times at most"),
)

_ASKED = tuple(rule.ask for rule in RULES)
_CALMS = tuple(rule.calm for rule in RULES if rule.calm is not always)
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


def rest(plan: Plan, facts: Facts) -> Rest | None:
    """For how long none will fire, of a plan at which none has just fired. None: they must be asked at the next mark too."""
    if plan.cancel_again >= 0 or plan.best is None:
        return None
    calms: list[Calm] = []
    for ask in _CALMS:
        found = ask(plan, facts)
        if found is None:
            return None
        calms.append(found)
    return Rest(plan, facts.policy, facts.filters, calms)


def table() -> str:
    """Markdown, for docs/exits.md."""
    rows = [f"| {place} | {rule.name} | {rule.when} | {rule.does} |" for place, rule in enumerate(RULES, 1)]
    return "\n".join(["| | rule | fires when | what it does |", "|---|---|---|---|", *rows]) + "\n"
