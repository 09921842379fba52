"""The page of scenarios tells what the code plays."""

from __future__ import annotations

from infra.paths import CHECKOUT
from streams.bench.scenarios.run import markdown
from streams.bench.scenarios.table import SCENARIOS


def test_the_page_lists_every_scenario() -> None:
    page = (CHECKOUT / "docs" / "scenarios.md").read_text()
    assert markdown() in page
    assert f"{len(SCENARIOS)} scenarios" in page
