"""A stage: one decision on the log, declared. streams/runner.py runs it; processors/ decide.

STAGE = Stage(
    name="positions",
    inputs=(topics.TRADE_FILLS,),
    outputs=(topics.TRADE_POSITIONS, topics.TRADE_CLOSED),
    state=positions.State,
    step=positions.step,
)

def main(settings: Settings) -> None:
    run_stage(STAGE, settings)     # streams/app.py
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from processors.step import Context, Step
from schemas import ids
from schemas.policy import Policy
from schemas.topics import Topic
from streams.envelope import Cause

Keys = Callable[[Any, Collection[str]], Collection[str]]
"""(event, known keys of its partition) -> the keys that it concerns."""

Prepare = Callable[[Any, Mapping[str, Any]], Awaitable[None]]
"""(event, all states held): what the world must say before the step, and takes too long to hold the event loop."""

_INSTRUMENT = re.compile(r"[a-z]+\.[a-z]+\.[A-Z0-9_]+")


class NotOwner(Exception):
    """The broker refuses us as owner of these partitions, or does not answer: whatever is in memory about them is void."""


class Outbox(Protocol):
    """What an effect may do to the log. Its tasks run on the worker's event loop."""

    async def send_now(self, event: Any, cause: Cause | None = None) -> None:
        """Sends with explicit partition and returns when the broker has acknowledged it."""

    async def prove_ownership(self, partition: int) -> None:
        """A group commit that advances nothing. Raises NotOwner when the broker refuses: drop everything in memory."""

    def is_current(self, topic: str, partition: int) -> bool:
        """Whether a record of this input has been applied that was written after the partition became ours."""

    def policy(self) -> tuple[int, Policy]:
        """The policy as it stands now: (version, policy)."""


class Observer(Protocol):
    """Effects hang here (execution, account). Called on the event loop, must not block, never touches state."""

    def attach(self, outbox: Outbox) -> None:
        """Once, before anything else, on the event loop."""

    def on_live(self, partition: int, states: Mapping[str, Any]) -> None:
        """The partition is ours, its state is loaded, and every `catch_up` input is applied up to where it stood then."""

    def on_state(self, key: str, state: Any | None) -> None:
        """An event was applied to a key of a live partition; None: the key is forgotten."""

    def on_revoked(self, partition: int) -> None:
        """No longer ours. Whatever hangs on it must end; it comes again with `on_live`."""


def by_instrument(event: Any, known: Collection[str]) -> Collection[str]:
    """An event of one instrument concerns that one, marks those they hold, a tick or a global event all that are known."""
    instrument = getattr(event, "instrument", None)
    if instrument is not None:
        return (instrument,)
    marks = getattr(event, "marks", None)
    if marks is not None:
        return [mark.instrument for mark in marks]
    return known


@lru_cache(4096)
def home_of(key: str) -> int:
    """The partition where a key's state lives, and all its records of topics with as many partitions stand."""
    found = _INSTRUMENT.search(key)
    return ids.partition_of(found.group()) if found else 0


Gather = Callable[[Any, list[Any], Context], Sequence[Any]]
"""(event, what the steps of all its keys said, context) -> what is sent: where many small words become one record."""


def as_said(event: Any, said: list[Any], context: Context) -> Sequence[Any]:
    return said


def never(event: Any) -> bool:
    return False


@dataclass(frozen=True)
class Stage:
    """`state` is a frozen msgspec.Struct whose first field is `version: int = N`; `step` is pure.

    `keys`: which keys an event concerns. `catch_up`: inputs that are also outputs (execution's trade.orders): the observer
    hears nothing before they are applied up to where they stood at the assignment. `tombstone_after`: outputs that are
    followed by a tombstone of the same key. `flush_s`: how often state is written; None: the setting. `prepare`: awaited before an
    event's step; the records behind it wait. `written_first`: events whose state must be on the log before the next record is
    taken, so that no crash can make what follows be decided by another order of the inputs. `gather`: of one record's words.
    `notes`: what a person should know though the stage is ready; /readyz says it. `linger_ms`: how long an output waits for others
    of its partition, where they come in bursts and each request is dearer than the wait.
    """

    name: str
    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    state: type[msgspec.Struct]
    step: Callable[[Any, Any, Context], Step[Any]]
    keys: Keys = by_instrument
    catch_up: tuple[Topic, ...] = ()
    observer: Observer | None = None
    needs_policy: bool = False
    tombstone_after: Callable[[Any], bool] = never
    home: Callable[[str], int] = home_of
    flush_s: float | None = None
    prepare: Prepare | None = None
    written_first: Callable[[Any], bool] = never
    gather: Gather = as_said
    notes: Callable[[], Sequence[str]] = tuple
    linger_ms: float = 0

    @property
    def partitions(self) -> int:
        """Of the state topic: as many as the widest input has."""
        return max(topic.partitions for topic in self.inputs)

    @property
    def single(self) -> bool:
        """An input of one partition beside inputs of twelve speaks to all keys: one active member, others stand by."""
        return len({topic.partitions for topic in self.inputs}) > 1

    @property
    def state_version(self) -> int:
        for field in msgspec.structs.fields(self.state):
            if field.name == "version":
                return int(field.default)
        raise TypeError(f"state of {self.name}: the first field must be `version: int = N`")
