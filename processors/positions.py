"""Positions: a fold of fills. Quantity, average price and profit follow from the fills in trade-id order, however they came.

The newest fills stay in the state as rows behind a folded base, so a late one is put where it belongs and everything after it is
folded again; what comes out different is said again. One that is older than every row is folded behind the base: the quantity is
the sum of all fills however late they came. Conventions:

- one-way mode: a fill through zero closes the position and opens the other side with the rest;
- `realized_pnl` is gross of fees, as the exchange states it (average cost); net = realized_pnl - fees;
- `fees` counts fees paid in the quote asset; those paid in another stay in the fills;
- `revision` counts what was said of one position; the identity is its first fill's trade id.

The reason of an exit comes from the order that took the last of it (`exit_reason`).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors import order_ids, runs
from processors.runs import Runs
from processors.step import Context, Step
from schemas import ids
from schemas.ids import Purpose
from schemas.trading import Closed, ExitReason, Fill, Position, PositionStatus
from schemas.units import OrderSide, Side, Source

WINDOW = 64
"""Rows kept: a fill that is late by no more others of its instrument is put exactly where it belongs."""
REMEMBERED = 1024
"""Runs of trade ids in the base: twice of what account remembers, so that what it still takes for new is new here."""

ZERO = Decimal(0)
_PUBLISHED = Decimal(1).scaleb(-12)


class Row(msgspec.Struct, frozen=True):
    """What the fold needs of a fill. `fee` only when it was paid in the quote asset."""

    trade_id: int
    fill_id: str
    client_id: str
    side: OrderSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    at: int
    source: Source


class Holding(msgspec.Struct, frozen=True):
    """One round trip so far. `cost` = entry value of what is still open; `last` = the newest row in it."""

    position_id: str
    side: Side
    opened_at: int
    entry_client_id: str
    quantity: Decimal
    cost: Decimal
    entered: Decimal
    entered_value: Decimal
    exited: Decimal
    exited_value: Decimal
    realized: Decimal
    fees: Decimal
    fills: int
    last: Row

    @property
    def entry_price(self) -> Decimal:
        """Average price of what is open; after the close, of all that was entered."""
        return self.cost / self.quantity if self.quantity else self.entered_value / self.entered


class State(msgspec.Struct, frozen=True):
    """`base`: the fold of all fills before the rows; `taken`: their trade ids, and `folded_to`: ids up to here count as taken."""

    version: int = 1
    account: str = ""
    instrument: str = ""
    base: Holding | None = None
    folded_to: int = -1
    rows: tuple[Row, ...] = ()
    revisions: dict[str, int] = {}
    taken: Runs = ()


class Folded(msgspec.Struct, frozen=True):
    open: Holding | None
    closed: tuple[Holding, ...]


def step(state: State | None, fill: Fill, ctx: Context) -> Step[State]:
    """A fill seen before changes nothing; one that is new gives the positions and round trips that it changed."""
    state = state or State(account=fill.account, instrument=fill.instrument)
    if _knows(state, fill.trade_id):
        return Step(state)
    rows = tuple(sorted((*state.rows, _row(fill)), key=lambda row: row.trade_id))
    before, after = fold(state, state.rows), fold(state, rows)
    revisions = dict(state.revisions)
    events = _changes(state, before, after, revisions)
    return Step(_shrink(msgspec.structs.replace(state, rows=rows, revisions=revisions), after), events)


def fold(state: State, rows: tuple[Row, ...]) -> Folded:
    """Rows in trade-id order on top of the base."""
    holding, closed = state.base, []
    for row in rows:
        holding, done = _apply(state, holding, row)
        if done is not None:
            closed.append(done)
    return Folded(holding, tuple(closed))


def exit_reason(holding: Holding) -> ExitReason:
    """Why a position was left, from the purpose of its last order.

    A stop that filled at the entry price or better is BREAK_EVEN (also when trailing brought it there), else STOP. A close
    carries its reason in its id. An entry's order that took the last of the other side can only answer an opposite decision.
    """
    last = holding.last
    if last.client_id.startswith(("autoclose-", "adl_autoclose")):
        return ExitReason.LIQUIDATION
    match ids.purpose_of(last.client_id):
        case Purpose.STOP:
            gain = (last.price * holding.entered - holding.entered_value) * holding.side.sign
            return ExitReason.BREAK_EVEN if gain >= 0 else ExitReason.STOP
        case Purpose.TAKE_PROFIT:
            return ExitReason.TAKE_PROFIT
        case Purpose.CLOSE:
            return order_ids.close_reason(last.client_id, (holding.position_id, holding.entry_client_id))
        case Purpose.ENTRY:
            return ExitReason.OPPOSITE_DECISION
        case Purpose.GUARDIAN:
            return ExitReason.GUARDIAN
        case Purpose.FOREIGN:
            return ExitReason.FOREIGN


def _knows(state: State, trade_id: int) -> bool:
    in_base = trade_id <= state.folded_to or runs.holds(state.taken, trade_id)
    return in_base or any(row.trade_id == trade_id for row in state.rows)


def _row(fill: Fill) -> Row:
    quote = fill.fee if fill.instrument.endswith(fill.fee_asset) else ZERO
    return Row(fill.trade_id, fill.event_id, fill.client_id, fill.side, fill.price, fill.quantity, quote, fill.at, fill.source)


def _apply(state: State, holding: Holding | None, row: Row) -> tuple[Holding | None, Holding | None]:
    """(what is open after the row, the round trip that it ended)."""
    if holding is None:
        return _opened(state, row, row.quantity, row.fee), None
    if holding.side.opens_with is row.side:
        return _added(holding, row), None
    part = min(row.quantity, holding.quantity)
    fee = row.fee if part == row.quantity else row.fee * part / row.quantity
    reduced = _reduced(holding, row, part, fee)
    if reduced.quantity:
        return reduced, None
    rest = row.quantity - part
    return (_opened(state, row, rest, row.fee - fee) if rest else None), reduced


def _opened(state: State, row: Row, quantity: Decimal, fee: Decimal) -> Holding:
    value = quantity * row.price
    return Holding(
        position_id=order_ids.position_id(state.account, state.instrument, row.trade_id),
        side=Side.LONG if row.side is OrderSide.BUY else Side.SHORT,
        opened_at=row.at,
        entry_client_id=row.client_id,
        quantity=quantity,
        cost=value,
        entered=quantity,
        entered_value=value,
        exited=ZERO,
        exited_value=ZERO,
        realized=ZERO,
        fees=fee,
        fills=1,
        last=row,
    )


def _added(holding: Holding, row: Row) -> Holding:
    value = row.quantity * row.price
    return msgspec.structs.replace(
        holding,
        quantity=holding.quantity + row.quantity,
        cost=holding.cost + value,
        entered=holding.entered + row.quantity,
        entered_value=holding.entered_value + value,
        fees=holding.fees + row.fee,
        fills=holding.fills + 1,
        last=row,
    )


def _reduced(holding: Holding, row: Row, part: Decimal, fee: Decimal) -> Holding:
    quantity = holding.quantity - part
    cost = holding.cost * part / holding.quantity
    exited_value = holding.exited_value + part * row.price
    if quantity:
        realized = holding.realized + (part * row.price - cost) * holding.side.sign
    else:  # exact at the end, whatever the divisions on the way rounded
        realized = (exited_value - holding.entered_value) * holding.side.sign
    return msgspec.structs.replace(
        holding,
        quantity=quantity,
        cost=holding.cost - cost if quantity else ZERO,
        exited=holding.exited + part,
        exited_value=exited_value,
        realized=realized,
        fees=holding.fees + fee,
        fills=holding.fills + 1,
        last=row,
    )


def _changes(state: State, before: Folded, after: Folded, revisions: dict[str, int]) -> list[Position | Closed]:
    """What must be said: round trips first (FLAT, then its Closed), then what is open."""
    events: list[Position | Closed] = []
    known = {trip.position_id: trip for trip in before.closed}
    for trip in after.closed:
        if known.get(trip.position_id) != trip:
            if trip.position_id in revisions:
                events.append(_position(state, trip, revisions))
            events.append(_closed(state, trip))
    there = {trip.position_id for trip in after.closed} | ({after.open.position_id} if after.open else set())
    if before.open and before.open.position_id not in there:
        # a late fill turned out to be the first: the position goes on under another identity
        events.append(_position(state, msgspec.structs.replace(before.open, quantity=ZERO, cost=ZERO), revisions))
    if after.open and after.open != before.open:
        events.append(_position(state, after.open, revisions))
    return events


def _position(state: State, holding: Holding, revisions: dict[str, int]) -> Position:
    revision = revisions[holding.position_id] = revisions.get(holding.position_id, 0) + 1
    return Position(
        event_id=ids.event_id("trade.position", holding.position_id, revision),
        at=holding.last.at,
        instrument=state.instrument,
        account=state.account,
        position_id=holding.position_id,
        revision=revision,
        status=PositionStatus.OPEN if holding.quantity else PositionStatus.FLAT,
        side=holding.side,
        quantity=holding.quantity,
        entry_price=_tidy(holding.entry_price),
        opened_at=holding.opened_at,
        realized_pnl=_tidy(holding.realized),
        fees=_tidy(holding.fees),
        last_trade_id=holding.last.trade_id,
        last_fill_id=holding.last.fill_id,
        entry_client_id=holding.entry_client_id,
        last_client_id=holding.last.client_id,
        source=holding.last.source,
    )


def _closed(state: State, trip: Holding) -> Closed:
    return Closed(
        event_id=ids.event_id("trade.closed", trip.position_id, trip.last.trade_id, trip.fills),
        at=trip.last.at,
        instrument=state.instrument,
        account=state.account,
        position_id=trip.position_id,
        side=trip.side,
        quantity=trip.entered,
        entry_price=_tidy(trip.entered_value / trip.entered),
        exit_price=_tidy(trip.exited_value / trip.exited),
        opened_at=trip.opened_at,
        closed_at=trip.last.at,
        realized_pnl=_tidy(trip.realized),
        fees=_tidy(trip.fees),
        fills=trip.fills,
        exit_reason=exit_reason(trip),
        entry_client_id=trip.entry_client_id,
        exit_client_id=trip.last.client_id,
        source=trip.last.source,
    )


def _shrink(state: State, after: Folded) -> State:
    """Oldest rows go into the base; revisions stay for the positions that the rows can still change."""
    rows, base = state.rows, state.base
    taken, folded_to = state.taken, state.folded_to
    while len(rows) > WINDOW:
        base, _ = _apply(state, base, rows[0])
        taken, rows = runs.added(taken, rows[0].trade_id), rows[1:]
    if len(taken) > REMEMBERED:
        folded_to, taken = taken[0][1], taken[1:]
    living = [trip.position_id for trip in after.closed] + ([after.open.position_id] if after.open else [])
    revisions = {name: state.revisions[name] for name in living if name in state.revisions}
    return msgspec.structs.replace(state, rows=rows, base=base, taken=taken, folded_to=folded_to, revisions=revisions)


def _tidy(value: Decimal) -> Decimal:
    """Published numbers carry at most twelve decimals; the state keeps what it has."""
    return value.quantize(_PUBLISHED).normalize() if value else ZERO
