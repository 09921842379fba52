"""Runs of numbers against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processors import runs


@given(st.lists(st.integers(1, 40)))
def test_runs_hold_what_was_added_in_as_few_as_can_be(numbers: list[int]) -> None:
    found: runs.Runs = ()
    for number in numbers:
        found = runs.added(found, number)
    assert {number for number in range(42) if runs.holds(found, number)} == set(numbers)
    assert len(found) == sum(1 for number in set(numbers) if number - 1 not in numbers)
