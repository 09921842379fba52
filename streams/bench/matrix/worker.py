"""A real worker that can be held exactly at a boundary of the order path: the worker's own code, with gates at its seams.

    python -m streams.bench.matrix.worker execution|account|positions GATES [MUTANT]

GATES is a directory. While the file GATES/<SYMBOL> holds the name of a point, whatever reaches that point for that instrument
stands still, and says so by GATES/<SYMBOL>.reached. MUTANT breaks the worker on purpose, to see that the matrix notices (MUTANTS).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra import logs
from infra.settings import load
from infra.venue.port import VenueFill
from processors import execution, intents
from processors.execution import State
from processors.intents import Intent
from processors.step import Context, Step
from schemas.ids import Purpose, symbol_of
from schemas.trading import Order, OrderState
from streams.absence import Sought
from streams.app import run_stage
from streams.desk import Desk
from streams.stage import Outbox, Stage
from streams.user_desk import UserDesk

POLL_S = 0.02
MUTANTS = ("no-outbox", "no-deduplication", "no-query")


class Gates:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def held(self, instrument: str, point: str) -> bool:
        path = self._directory / symbol_of(instrument)
        try:
            if path.read_text() != point:
                return False
        except FileNotFoundError:
            return False
        path.with_suffix(".reached").touch()
        return True

    async def at(self, instrument: str, point: str) -> None:
        while self.held(instrument, point):  # noqa: ASYNC110 - the gate is a file of another process
            await asyncio.sleep(POLL_S)

    def at_once(self, instrument: str, point: str) -> None:
        """For code that has no loop to give way to: the whole process stands."""
        while self.held(instrument, point):
            time.sleep(POLL_S)


_way: ContextVar[str] = ContextVar("way", default="")
"""How the running task came to what it says: by the call's answer, or by a query's."""


def leg_of(intent: Intent) -> str:
    if intent.entry:
        return "entry"
    if intent.cancels is None and intent.purpose in (Purpose.STOP, Purpose.CLOSE):
        return intent.purpose.value.lower()
    return "other"


class HeldDesk(Desk):
    def __init__(self, settings: Any, gates: Gates, mutant: str) -> None:
        super().__init__(settings)
        self._gates, self._mutant = gates, mutant

    async def _send(self, key: str, intent: Intent) -> None:
        _way.set("answered")
        await self._gates.at(key, f"{leg_of(intent)}.planned")
        await super()._send(key, intent)

    async def _resolve(self, key: str, intent: Intent) -> None:
        _way.set("queried")
        await super()._resolve(key, intent)

    async def _publish(self, key: str, intent: Intent, order: Order) -> None:
        leg, sending = leg_of(intent), order.state is OrderState.SENDING
        await self._gates.at(key, f"{leg}.{'proved' if sending else _way.get()}")
        if sending and self._mutant == "no-outbox":
            self._said.setdefault(key, []).append(order)
            self._views[key] = execution.fold(self._views[key], order)
        else:
            await super()._publish(key, intent, order)
        await self._gates.at(key, f"{leg}.{'sending' if sending else 'said'}")

    async def _recover(self) -> None:
        """Without the query, entries do not wait for every position's stop either: that alone would hold a second order up."""
        if self._mutant == "no-query":
            self._protected.set()
        else:
            await super()._recover()

    async def _look_for(self, intent: Intent) -> Sought:
        return Sought(None, proven=True) if self._mutant == "no-query" else await super()._look_for(intent)


class HeldUserDesk(UserDesk):
    def __init__(self, settings: Any, gates: Gates) -> None:
        super().__init__(settings)
        self._gates = gates

    async def _say_fill(self, fill: VenueFill, *, backfilled: bool) -> None:
        await self._gates.at(fill.instrument, "fill.heard")
        await super()._say_fill(fill, backfilled=backfilled)
        await self._gates.at(fill.instrument, "fill.written")


class HeldObserver:
    """Of a stage without effects: stands after its decision, before the state is written."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def attach(self, outbox: Outbox) -> None: ...
    def on_live(self, partition: int, states: Mapping[str, Any]) -> None: ...
    def on_revoked(self, partition: int) -> None: ...

    def on_state(self, key: str, state: Any | None) -> None:
        self._gates.at_once(key, "position.decided")


def _forgetful(state: State, wanted: Iterable[Intent], at: int, reason: str = "") -> Step[State]:
    """Takes every intent for a new one."""
    todo = list(wanted)
    names = {intent.first_id for intent in todo}
    known = {name: intent for name, intent in state.intents.items() if name not in names}
    done = {name: was for name, was in state.finished.items() if name not in names}
    intents_ = known | {intent.first_id: intent for intent in todo}
    events = [intents.said(intent, OrderState.PLANNED, at, reason=reason) for intent in todo]
    return Step(State(market_at=state.market_at, intents=intents_, finished=done), events)


def main(name: str, directory: Path, mutant: str) -> None:
    settings, gates = load(), Gates(directory)
    logs.configure(name, settings.log_level, ())
    if mutant == "no-deduplication":
        execution._planned = _forgetful
    stage: Stage
    match name:
        case "execution":
            from streams.execution import STAGE as stage

            stage = replace(stage, observer=HeldDesk(settings, gates, mutant))
        case "account":
            from streams.account import STAGE as stage

            stage = replace(stage, observer=HeldUserDesk(settings, gates))
        case "positions":
            from streams.positions import STAGE as found

            def step(state: Any, event: Any, context: Context) -> Step[Any]:
                gates.at_once(event.instrument, "position.read")
                return found.step(state, event, context)

            stage = replace(found, step=step, observer=HeldObserver(gates))
        case _:
            raise SystemExit(f"no worker {name!r} here")
    run_stage(stage, settings)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
