"""A stage for test_runner.py: counts frames, folds its own outputs, and has an observer whose doings it writes to a file.

    python stage_with_effects.py REPORT

writes lines of JSON: {"at": wall s, "what": "live" | "state" | "revoked" | "proof" | "refused", ...}

With DROP=topic/partition/offset,... in the environment, Faust loses these records once, as it does after some rebalances.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from infra.settings import load
from processors.step import Context, Step
from schemas import hot, topics
from streams.app import run_stage
from streams.bench.tally import State, echo, link, replace_
from streams.driver import Positions
from streams.stage import NotOwner, Outbox, Stage


class Doings:
    """Proves ownership of every live partition five times a second."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1)
        self._live: dict[int, asyncio.Task[None]] = {}

    def tell(self, what: str, **more: Any) -> None:
        self._file.write(json.dumps({"at": time.time(), "what": what, **more}) + "\n")

    def attach(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def on_live(self, partition: int, states: Mapping[str, Any]) -> None:
        own = {key: state.candles for key, state in states.items()}
        self.tell("live", partition=partition, frames={key: s.frames for key, s in states.items()}, own=own)
        self._live[partition] = asyncio.create_task(self._prove(partition))

    def on_state(self, key: str, state: Any | None) -> None:
        self.tell("state", key=key, frames=state.frames if state else None)

    def on_revoked(self, partition: int) -> None:
        self.tell("revoked", partition=partition)
        self._live.pop(partition).cancel()

    async def _prove(self, partition: int) -> None:
        while True:
            asked = time.time()
            try:
                await self._outbox.prove_ownership(partition)
                self.tell("proof", partition=partition, asked=asked)
            except NotOwner as e:
                self.tell("refused", partition=partition, why=str(e))
            await asyncio.sleep(0.2)


def step(state: State | None, event: Any, context: Context) -> Step[State]:
    """`candles` counts our own outputs as they come back."""
    state = state or State()
    if isinstance(event, hot.TradeFrame):
        if event.first_id < 0:
            raise ValueError("a frame that no decision can take")
        state = replace_(state, frames=state.frames + 1, chain_frames=link(state.chain_frames, event.first_id))
        return Step(state, (echo(event, state.frames),))
    return Step(replace_(state, candles=state.candles + isinstance(event, hot.Features)))


def lose(names: list[str]) -> None:
    """Faust's getmany leaves these records out, once each."""
    todo = set(names)
    original = Positions.getmany

    async def getmany(self: Any, timeout: float) -> Any:
        async for tp, batch in original(self, timeout):
            names = {f"{each.topic}/{each.partition}/{each.offset}": each for each in batch.records}
            lost = todo & set(names)
            todo.difference_update(lost)
            batch.records = [each for name, each in names.items() if name not in lost]
            yield tp, batch

    Positions.getmany = getmany  # type: ignore[method-assign]


STAGE = Stage(
    name="effects",
    inputs=(topics.MARKET_TRADES, topics.MARKET_FEATURES),
    outputs=(topics.MARKET_FEATURES,),
    state=State,
    step=step,
    catch_up=(topics.MARKET_FEATURES,),
    observer=Doings(sys.argv[1]),
)

if __name__ == "__main__":
    if os.environ.get("DROP"):
        lose(os.environ.pop("DROP").split(","))
    run_stage(STAGE, load())
