"""Which of our trades stand in the log already: the account worker's memory, folded from its own trade.fills.

The exchange tells a trade twice (stream and query), late, or out of order; (instrument, trade id) is its identity. The newest ids
are kept, so that one which was overtaken by others is still seen to be new; older ones than those count as known.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from processors.step import Context, Step
from schemas.trading import Fill
from schemas.units import OrderSide

REMEMBERED = 512


class State(msgspec.Struct, frozen=True):
    """Of one instrument. `recent`: the newest trade ids, ascending; `net`: signed quantity of all fills."""

    version: int = 1
    recent: tuple[int, ...] = ()
    net: Decimal = Decimal(0)


EMPTY = State()


def step(state: State | None, event: Any, context: Context) -> Step[State]:
    """Folds one of our own fills. Emits nothing: what is new comes from the exchange."""
    state = state or EMPTY
    if not isinstance(event, Fill):
        raise TypeError(f"account does not take {type(event).__name__}")
    if knows(state, event.trade_id):
        return Step(state)
    recent = tuple(sorted((*state.recent, event.trade_id)))[-REMEMBERED:]
    return Step(State(recent=recent, net=state.net + signed(event.side, event.quantity)))


def knows(state: State, trade_id: int) -> bool:
    """Whether this trade stands in the log."""
    if trade_id in state.recent:
        return True
    return len(state.recent) >= REMEMBERED and trade_id < state.recent[0]


def ask_from(state: State) -> int:
    """The first trade id to ask the exchange for: from there on nothing is new that would not be found."""
    return state.recent[0] if len(state.recent) >= REMEMBERED else 1


def signed(side: OrderSide, quantity: Decimal) -> Decimal:
    return quantity if side is OrderSide.BUY else -quantity
