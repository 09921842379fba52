"""The life of an order as a pure state machine: what is wished, what was sent, what the exchange said, what is to be done next.

    PLANNED -> SENDING -> ACKED -> FILLED | CANCELED | EXPIRED
                  |    -> REFUSED                                   the exchange refused for good
                  |    -> UNKNOWN -> ACKED                          a query found it
                  |               -> PLANNED, attempt + 1           proven absent; a new client id
    PLANNED -> ABANDONED                                            an entry past its time; a stop whose entry never filled

`step` folds intents, fills, order updates, marks (venue time) and our own `trade.orders`; `work` derives from the state alone what is to
be done, so that after a restart the runner (streams/execution.py) just asks again. SENDING is in the log before the call: whoever finds it
without an answer asks the exchange, and never sends again before the exchange has denied the order.

Idempotent by client id: an intent seen twice does nothing. Finished intents are remembered in a bounded list; replays of the inputs beyond
it do not come, because the store skips offsets that it has applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from processors import order_ids
from processors.step import Context, Step
from schemas import hot, ids
from schemas.ids import Purpose
from schemas.trading import Entry, Exit, ExitAction, ExitReason, Fill, Order, OrderState, OrderType, OrderUpdate
from schemas.units import OrderSide, Side

REMEMBERED = 256
"""Finished intents kept per instrument, newest last."""
MAX_ATTEMPTS = 8
"""Of a risk-reducing intent; after that it is refused and exits decides anew. An entry is tried again only after proof of absence."""
WOULD_TRIGGER = -2021

ZERO = Decimal(0)
_RANK = {
    OrderState.PLANNED: 0,
    OrderState.SENDING: 1,
    OrderState.UNKNOWN: 2,
    OrderState.ACKED: 3,
}
_TERMINAL_RANK = 9
