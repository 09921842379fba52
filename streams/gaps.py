"""Gaps: records that the broker has and Faust did not deliver. The broker is asked, then Faust is sent back.

After a rebalance Faust may drop records that it has fetched and go on behind them. A seek brings them back, but records that were
on their way still arrive first: they are dropped for a while, and if the missing one does not come, the seek is done again.
A rebalance that the end of the broker interrupts may leave Faust without any fetch at all: who is fed nothing for long, though the
broker has records, begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from faust.types import TP

from infra import logs
from infra.broker.admin import offsets
from infra.broker.reading import ASK_S, first_offset
from infra.errors import UserError
from streams.driver import App
from streams.hands import Hands
from streams.vitals import Counts

log = logs.get(__name__)
AGAIN_S = 0.5
PATIENCE_S = 0.9
BUSY_PATIENCE_S = 8.0
SETTLING_S = 20.0
"""Behind a rebalance Faust loses records. Later a partition that waits while others go on waits for its turn: a worker that is
given hundreds of records at once takes seconds for them, and a seek would throw them away."""
UNFED_S = 8.0
Where = Callable[[], dict[TP, int] | None]
"""The next offset of every input partition; None while nothing is ours."""


class Stall(NamedTuple):
    """A partition that does not go on: where, since when, and how long until it is sent back (again)."""

    offset: int
    since: float
    patience_s: float


class Gaps:
    """One a stage. `queue`: the agent's; only while it is empty can a silence be a loss."""

    def __init__(self, app: App, bootstrap: str, counts: Counts) -> None:
        self.queue: Any = None
        self._app, self._bootstrap, self._counts = app, bootstrap, counts
        self._sought: dict[tuple[str, int], float] = {}
        self._stalled: dict[TP, Stall] = {}
        self._seen: dict[TP, int] = {}
        self._fed_at, self._unfed = time.monotonic(), False
        self._assigned_at = time.monotonic()
        self._hands = Hands(1, "gaps")

    def reset(self) -> None:
        self._sought.clear()
        self._stalled.clear()
        self._seen, self._fed_at, self._unfed = {}, time.monotonic(), False
        self._assigned_at = time.monotonic()

    async def close(self, topic: str, partition: int, expected: int, got: int) -> int:
        """The offset that really comes next. `expected` itself: it is on its way again, drop what you have."""
        now = time.monotonic()
        if now < self._sought.get((topic, partition), 0.0):
            return expected
        self._sought[topic, partition] = now + ASK_S
        first = await self._hands.do(first_offset, self._bootstrap, topic, partition, expected)
        if first is not None and first > expected:
            del self._sought[topic, partition]
            return first
        self._counts.recovered_gaps += 1
        self._counts.recovered_records += got - expected
        log.warning("a gap that Faust left: seeking back", topic=topic, partition=partition, expected=expected, got=got)
        await self._seek(TP(topic, partition), expected)
        return expected

    async def watch(self, where: Where) -> None:
        """Once a second: a partition that has records, an idle agent and no progress for a while is sent back.

        A seek throws away what is on its way, so one that brings nothing is waited for twice as long: the machine may be slow.
        """
        positions = where() or {}
        now = time.monotonic()
        idle = self.queue is not None and self.queue.empty()
        busy = positions != self._seen and now - self._assigned_at > SETTLING_S
        patience_s = BUSY_PATIENCE_S if busy else PATIENCE_S
        stalled: dict[TP, Stall] = {}
        for tp, offset in positions.items() if idle else ():
            end = self._app.consumer.highwater(tp)
            if end is not None and end > offset:
                before = self._stalled.get(tp)
                stalled[tp] = before if before is not None and before.offset == offset else Stall(offset, now, PATIENCE_S)
        for tp, stall in stalled.items():
            if now - stall.since > max(stall.patience_s, patience_s) and now > self._sought.get((tp.topic, tp.partition), 0.0):
                log.warning(
                    "no progress though there are records: seeking", topic=tp.topic, partition=tp.partition, at=stall.offset
                )
                self._counts.recovered_gaps += 1
                stalled[tp] = Stall(stall.offset, now, 2 * stall.patience_s)
                await self._seek(tp, stall.offset)
        self._stalled = stalled
        if positions != self._seen or not idle:
            self._seen, self._fed_at, self._unfed = positions, now, False
        elif now - self._fed_at > UNFED_S:
            self._fed_at = now
            await self._ask(where)

    async def _ask(self, where: Where) -> None:
        """The broker, whether there is anything. Raises UserError when there is for the second time: the first may come too early,
        as after a thaw or right behind a restart of the broker."""
        try:
            ends = await self._hands.do(offsets, self._bootstrap, sorted({tp.topic for tp in self._seen}))
        except (UserError, KafkaException):
            return  # it is away: no wonder
        waiting = sum(max(0, ends[tp.topic][tp.partition][1] - offset) for tp, offset in self._seen.items())
        if not waiting or where() != self._seen:
            return
        if self._unfed:
            why = f"{waiting} records wait at the broker, none has come for {2 * UNFED_S:.0f} s, and seeking did not help"
            raise UserError("this worker is fed no records", why, "nothing: it starts again by itself")
        self._unfed = True

    async def _seek(self, tp: TP, offset: int) -> None:
        self._sought[tp.topic, tp.partition] = time.monotonic() + ASK_S
        if tp in self._app.consumer.assignment():
            await self._app.consumer.seek_wait({tp: offset})
        self._sought[tp.topic, tp.partition] = time.monotonic() + AGAIN_S
