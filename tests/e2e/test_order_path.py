"""Orders exist exactly once: every boundary of the order path crossed with every fault, workers killed and frozen at it.

The real execution (two), account and positions workers, real broker, real exchange over sockets. At the end of each case: at most
one live or filled order per intent, position = sum of fills = exchange, no position without a stop. docs/order-path.md.
"""

from __future__ import annotations

import pytest

from infra.paths import CHECKOUT
from streams.bench.matrix.cases import BOUNDARIES, FAULTS, Case, can_meet, matrix
from streams.bench.matrix.run import run, sample

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_every_boundary_crossed_with_every_fault_that_can_meet_it(capsys: pytest.CaptureFixture[str]) -> None:
    """All waits a third of the true ones, in their proportion."""
    found = run()
    with capsys.disabled():
        print(f"\n{found['passed']} of {found['of']} boundaries x faults ({found['seconds']:.0f} s, waits x {found['scale']})")  # noqa: T201 - the count is the result
    assert found["failed"] == {}
    assert found["of"] == sum(can_meet(b, f) for b in BOUNDARIES for f in FAULTS) * 2


@pytest.mark.timeout(600)
def test_a_dozen_at_true_times(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(sample(12, seed=4), scale=1.0)
    with capsys.disabled():
        print(f"\n{found['passed']} of {found['of']} at true times ({found['seconds']:.0f} s)")  # noqa: T201 - the count is the result
    assert found["failed"] == {}


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_all_at_true_times() -> None:
    assert run(scale=1.0)["failed"] == {}


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        ("no-outbox", Case("entry.answered", "none", "kill")),
        ("no-deduplication", Case("entry.said", "intent-twice", "kill")),
        ("no-query", Case("entry.answered", "accept-then-drop", "kill")),
    ],
)
@pytest.mark.timeout(300)
def test_without_its_safeguard_a_case_fails(mutant: str, case: Case) -> None:
    """The test of the test: the outbox write, the deduplication, the query, each taken away."""
    found = run([case], mutant=mutant)
    assert list(found["failed"]) == [case.name]
    assert "orders exist for one entry" in found["failed"][case.name]


def test_the_docs_list_every_boundary_and_every_fault() -> None:
    page = (CHECKOUT / "docs" / "order-path.md").read_text()
    for name in [*BOUNDARIES, *FAULTS]:
        assert f"| `{name}` |" in page, name
    assert f"{len(matrix())} cases" in page
