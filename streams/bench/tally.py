"""A stage that only counts, for tests and benches of the state store: what it holds must equal what was written to its inputs.

    single     market.trades -> market.features
    joined     market.trades and market.candles

The count of a key is folded with the ids of its frames (`chain`), so that a record lost, doubled or out of order shows for good.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from infra.settings import Settings
from processors.step import Context, Step
from schemas import hot, ids, topics
from streams.app import run_stage
from streams.stage import Stage

M = (1 << 61) - 1


class State(msgspec.Struct, frozen=True):
    """`chain_*`: a hash over the ids of that input, in order."""

    version: int = 1
    frames: int = 0
    candles: int = 0
    chain_frames: int = 0
    chain_candles: int = 0


def link(chain: int, number: int) -> int:
    return (chain * 1_000_003 + number + 1) % M


def step(state: State | None, event: Any, context: Context) -> Step[State]:
    """Every frame yields a candle-like record, so that outputs are counted too."""
    state = state or State()
    if isinstance(event, hot.TradeFrame):
        state = replace_(state, frames=state.frames + 1, chain_frames=link(state.chain_frames, event.first_id))
        return Step(state, (echo(event, state.frames),))
    if isinstance(event, hot.Candle):
        state = replace_(state, candles=state.candles + 1, chain_candles=link(state.chain_candles, event.first_id))
    return Step(state)


def replace_(state: State, **changes: int) -> State:
    return msgspec.structs.replace(state, **changes)


def echo(event: hot.TradeFrame, count: int) -> hot.Features:
    """`bars` carries the count as this stage saw it."""
    return hot.Features(
        event_id=ids.event_id("market.features", event.event_id),
        type="market.features",
        at=event.at,
        instrument=event.instrument,
        interval="5m",
        candle_id=event.event_id,
        open_at=event.at,
        o=1.0,
        h=1.0,
        l=1.0,
        c=1.0,
        v=0.0,
        feature_set="tally",
        feature_hash="",
        ready=True,
        bars=count,
        values=[],
        source="synthetic",
    )


SINGLE = Stage(name="tally", inputs=(topics.MARKET_TRADES,), outputs=(topics.MARKET_FEATURES,), state=State, step=step)
JOINED = replace(SINGLE, name="tally-joined", inputs=(topics.MARKET_TRADES, topics.MARKET_CANDLES))
STAGES = {"single": SINGLE, "joined": JOINED}


def run_worker(name: str, settings: Settings) -> None:
    """A member of one of the two, for the nursery."""
    run_stage(STAGES[name], settings)
