"""Which numbers were there, exactly and small: runs of consecutive ones, ascending and apart, ((1, 64), (66, 66))."""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeAlias

Runs: TypeAlias = tuple[tuple[int, int], ...]
"""(first, last) of each run."""


def holds(runs: Runs, number: int) -> bool:
    at = _behind(runs, number)
    return at > 0 and number <= runs[at - 1][1]


def added(runs: Runs, number: int) -> Runs:
    """With this number; it may close the gap between two runs."""
    if holds(runs, number):
        return runs
    at = _behind(runs, number)
    first, last, before, behind = number, number, at, at
    if at > 0 and runs[at - 1][1] == number - 1:
        first, before = runs[at - 1][0], at - 1
    if at < len(runs) and runs[at][0] == number + 1:
        last, behind = runs[at][1], at + 1
    return (*runs[:before], (first, last), *runs[behind:])


def _behind(runs: Runs, number: int) -> int:
    """Of the first run that begins behind it."""
    return bisect_right(runs, number, key=lambda run: run[0])
