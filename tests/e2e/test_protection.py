"""The scenarios of docs/scenarios.md, all on one street of real workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.bench.scenarios.run import play, table
from streams.bench.scenarios.street import LiveStreet
from streams.bench.scenarios.table import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def played(street: LiveStreet) -> dict[str, Any]:
    return play(street)


def test_the_table_of_scenarios(played: dict[str, Any], say: Callable[[str], None]) -> None:
    say(f"\n{table(played)}")
    assert played["passed"] == played["of"] == len(SCENARIOS)


@pytest.mark.parametrize("name", [each.name for each in SCENARIOS])
def test_scenario(played: dict[str, Any], name: str) -> None:
    assert name not in played["failed"], played["failed"][name]
