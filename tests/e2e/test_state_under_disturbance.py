"""Workers are killed, frozen, thawed, stopped and joined; what they hold and what they wrote equals the source.

The long run, thirty disturbances and more: quantum bench state --disturbances 30 --json
"""

from __future__ import annotations

import pytest

from streams.bench.state import KINDS, run

pytestmark = pytest.mark.slow


@pytest.mark.timeout(240)
def test_every_count_equals_the_source_whoever_dies_freezes_or_wakes() -> None:
    """Every kind at least once, over one input and over two joined ones."""
    found = run(disturbances=6, seed=3, rate=200)
    assert found["equal"], found
    assert set(found["kinds"]) <= set(KINDS)
    assert found["disturbances"] == 6
