"""Versions are taken one after the other, as control numbers them; whatever else is on their topics begins and breaks no chain."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processors import serving
from processors.serving import Serving
from schemas.models import BUILT_IN, ModelVersion
from schemas.operations import PolicyVersion
from schemas.policy import Policy
from streams.versions import Chain

KEY = b"policy"


def version(n: int, **changed: Any) -> bytes:
    policy = Policy()
    made = PolicyVersion(
        event_id=PolicyVersion.id_of(n, policy.digest),
        at=1,
        version=n,
        digest=policy.digest,
        changed=[],
        reason="",
        actor="",
        policy=policy,
    )
    return json.dumps(json.loads(made.encode()) | changed).encode()


@pytest.mark.parametrize(
    "foreign",
    [
        (KEY, version(2, version=10**30)),
        (KEY, version(2, version=10**18)),
        (KEY, version(2, version=-1)),
        (b"wrong", version(2)),
        (None, version(2)),
        (KEY, b"no policy"),
        (KEY, None),
    ],
)
def test_what_is_not_the_next_version_is_passed_over_before_the_first_and_behind_it(
    foreign: tuple[bytes | None, bytes | None],
) -> None:
    chain = Chain(PolicyVersion)
    for key, value in (foreign, (KEY, version(1)), foreign, (KEY, version(1)), (KEY, version(2)), foreign, (KEY, version(3))):
        chain.take(key, value)
    assert chain.newest is not None
    assert chain.newest.version == 3
    assert chain.take(KEY, version(7)) is None


def test_a_compacted_log_begins_with_any_number_that_bears_its_own_id() -> None:
    chain = Chain(PolicyVersion)
    assert chain.take(KEY, version(41, version=10**18)) is None
    for n in (41, 42):
        found = chain.take(KEY, version(n))
        assert found is not None
        assert found.version == n


def test_pointers_with_a_huge_number_do_not_stop_those_that_follow() -> None:
    def pointers(n: int, active: str) -> ModelVersion:
        return ModelVersion(event_id=f"v{n}", at=1, number=n, active=active, previous=None, shadow=None, reason="", actor="")

    state, said = serving.point(Serving(), pointers(10**18, "m-x"), 5, {})
    assert (state.active, said) == (BUILT_IN, ())
    state, _ = serving.point(state, pointers(1, "m-a"), 5, {})
    state, _ = serving.point(state, pointers(3, "m-x"), 5, {})
    state, _ = serving.point(state, pointers(2, "m-b"), 5, {})
    assert (state.active, state.number) == ("m-b", 2)
