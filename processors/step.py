"""What every decision is made of: (state, event, context) -> Step(state, events). Pure, so that a replay decides the same.

A state is a frozen msgspec.Struct whose first field is `version: int`; it is kept per key (mostly the instrument) by the store in
streams/. `Step.state` None forgets the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from schemas.policy import Policy

S = TypeVar("S")


class Context(NamedTuple):
    """What a decision may know beside its state and event. `states`: all states this member holds (risk sums over them).

    `partition`, `offset`: where the event stands in its topic. `account`: the account that this street trades. `trace_id`: the
    chain that the event belongs to, for what is sent later than now. `key`: the state's own, for an event that concerns several.
    """

    topic: str
    partition: int
    offset: int
    policy: Policy
    policy_version: int
    account: str
    states: Mapping[str, Any]
    trace_id: str = ""
    key: str = ""


class Step(NamedTuple, Generic[S]):
    """`events`: pydantic events or hot structs (schemas/hot.py); the registry knows their topics by `type`."""

    state: S | None
    events: Sequence[Any] = ()
