"""Histories of fills and the positions that they make."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import msgspec

from processors import account, order_ids, positions
from processors.account import EMPTY, REMEMBERED
from processors.step import Context
from schemas import ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.trading import Closed, ExitReason, Fill, Position, PositionStatus
from schemas.units import OrderSide, Side, Source

BTC = "binance.usdm.BTCUSDT"
CTX = Context("trade.fills", 0, 0, Policy(), 1, "sim", {})
BUY, SELL = OrderSide.BUY, OrderSide.SELL
ENTRY = ids.client_id(Purpose.ENTRY, 1)
STOP = ids.client_id(Purpose.STOP, 1)
PROFIT = ids.client_id(Purpose.TAKE_PROFIT, 1)


def fill(trade_id: int, side: OrderSide, quantity: str, price: str, client_id: str = ENTRY, fee: str = "0.1") -> Fill:
    return Fill(
        event_id=f"fill-{trade_id}",
        at=1_000 + trade_id,
        instrument=BTC,
        account="sim",
        trade_id=trade_id,
        order_id=str(trade_id),
        client_id=client_id,
        purpose=ids.purpose_of(client_id),
        side=side,
        price=D(price),
        quantity=D(quantity),
        fee=D(fee),
        fee_asset="USDT",
        realized_pnl=D(0),
        maker=False,
        backfilled=False,
        source=Source.SYNTHETIC,
    )


def run(*fills: Fill) -> tuple[positions.State, list[Any]]:
    state: positions.State | None = None
    events: list[Any] = []
    for each in fills:
        result = positions.step(state, each, CTX)
        state = msgspec.json.decode(msgspec.json.encode(result.state), type=positions.State)
        events += result.events
    assert state is not None
    return state, events


def closes(events: list[Any]) -> list[Closed]:
    return [event for event in events if isinstance(event, Closed)]


def test_a_fill_opens_a_position_and_the_stop_closes_it_with_its_loss() -> None:
    _, events = run(fill(1, BUY, "0.5", "100"), fill(2, SELL, "0.5", "97.5", STOP))
    opened, flat, closed = events
    assert isinstance(opened, Position)
    assert (opened.status, opened.side, opened.quantity, opened.revision) == (PositionStatus.OPEN, Side.LONG, D("0.5"), 1)
    assert opened.position_id == order_ids.position_id("sim", BTC, 1)
    assert (flat.status, flat.quantity, flat.revision) == (PositionStatus.FLAT, 0, 2)
    assert (closed.realized_pnl, closed.fees, closed.exit_reason) == (D("-1.25"), D("0.2"), ExitReason.STOP)
    assert (closed.entry_price, closed.exit_price, closed.fills) == (100, D("97.5"), 2)


def test_prices_of_a_round_trip_are_weighted_by_quantity() -> None:
    _, events = run(
        fill(1, SELL, "1", "100"),
        fill(2, SELL, "3", "104"),
        fill(3, BUY, "1", "99", PROFIT),
        fill(4, BUY, "3", "95", PROFIT),
    )
    (closed,) = closes(events)
    assert (closed.side, closed.quantity, closed.entry_price, closed.exit_price) == (Side.SHORT, 4, 103, 96)
    assert (closed.realized_pnl, closed.exit_reason) == (28, ExitReason.TAKE_PROFIT)


def test_the_same_fill_twice_counts_once() -> None:
    state, events = run(fill(1, BUY, "1", "100"), fill(1, BUY, "1", "100"), fill(2, SELL, "1", "101"), fill(1, BUY, "1", "100"))
    assert len(events) == 3
    assert positions.fold(state, state.rows).open is None


def test_a_fill_through_zero_closes_and_opens_the_other_side() -> None:
    _, events = run(fill(1, BUY, "1", "100"), fill(2, SELL, "3", "110", fee="0.3"))
    _, flat, closed, opened = events
    assert flat.status is PositionStatus.FLAT
    assert (closed.quantity, closed.realized_pnl, closed.fees) == (1, 10, D("0.2"))
    assert (opened.side, opened.quantity, opened.revision, opened.fees) == (Side.SHORT, 2, 1, D("0.2"))
    assert opened.position_id != closed.position_id


def test_a_late_fill_is_put_where_it_belongs() -> None:
    _, late = run(fill(1, BUY, "1", "100"), fill(3, SELL, "1", "120"), fill(2, BUY, "1", "110"))
    assert len(closes(late)) == 1, "the log had said flat, and then took it back"
    again = late[-1]
    assert (again.status, again.quantity, again.entry_price, again.realized_pnl) == (PositionStatus.OPEN, 1, 105, 15)
    assert [event.revision for event in late if isinstance(event, Position)] == [1, 2, 3]


def test_a_late_fill_that_was_the_first_renames_the_position() -> None:
    _, events = run(fill(2, BUY, "1", "110"), fill(1, BUY, "1", "100"))
    first, flat, opened = events
    assert first.position_id == flat.position_id
    assert (flat.status, opened.quantity, opened.entry_price) == (PositionStatus.FLAT, 2, 105)
    assert opened.position_id == order_ids.position_id("sim", BTC, 1)


def test_the_reason_of_a_close_is_read_from_its_client_id() -> None:
    position = order_ids.position_id("sim", BTC, 1)
    for reason in (ExitReason.OPPOSITE_DECISION, ExitReason.EMERGENCY_STOP, ExitReason.MANUAL, ExitReason.STOP_PASSED):
        first = order_ids.close_id(position, reason, 2)
        for name in (first, order_ids.attempt_id(first, 2)):
            _, events = run(fill(1, BUY, "1", "100"), fill(2, SELL, "1", "101", name))
            assert closes(events)[0].exit_reason is reason
    unplanned = order_ids.close_id(ENTRY, ExitReason.STOP_PASSED, 0)
    _, events = run(fill(1, BUY, "1", "100"), fill(2, SELL, "1", "90", unplanned))
    assert closes(events)[0].exit_reason is ExitReason.STOP_PASSED


def test_every_kind_of_last_order_has_its_reason() -> None:
    named = {
        "autoclose-1": ExitReason.LIQUIDATION,
        "web_abc": ExitReason.FOREIGN,
        ids.client_id(Purpose.GUARDIAN, 1): ExitReason.GUARDIAN,
        ids.client_id(Purpose.CLOSE, "unknown"): ExitReason.MANUAL,
        ids.client_id(Purpose.ENTRY, 2): ExitReason.OPPOSITE_DECISION,
        STOP: ExitReason.BREAK_EVEN,
    }
    for client_id, reason in named.items():
        _, events = run(fill(1, BUY, "1", "100"), fill(2, SELL, "1", "100.2", client_id))
        assert closes(events)[0].exit_reason is reason


def test_fees_in_another_asset_do_not_pretend_to_be_dollars() -> None:
    paid_in_bnb = fill(1, BUY, "1", "100").model_copy(update={"fee_asset": "BNB"})
    _, events = run(paid_in_bnb)
    assert events[0].fees == 0


def test_a_fill_that_is_late_by_more_than_the_rows_still_counts_once() -> None:
    late = fill(1, BUY, "0.3", "90")
    others = [fill(n, BUY, "0.1", "100") for n in range(2, 3 + positions.WINDOW * 2)]
    state, events = run(*others, late, late, others[0])
    total = len(others) * D("0.1") + D("0.3")
    held = positions.fold(state, state.rows).open
    assert held is not None
    assert (held.quantity, events[-1].quantity, events[-1].status) == (total, total, PositionStatus.OPEN)
    assert held.cost == (len(others) * D("0.1") * 100) + D(27)
    assert events[-1].position_id == events[0].position_id
    assert events[-1].revision == len(others) + 1


def test_a_state_of_before_ids_were_kept_takes_what_it_had_folded_for_duplicates() -> None:
    state, _ = run(*(fill(n, BUY, "1", "100") for n in range(1, 101)))
    of_before = msgspec.structs.replace(state, taken=(), folded_to=state.taken[-1][1])
    raw = {name: value for name, value in msgspec.to_builtins(of_before).items() if name != "taken"}
    read = msgspec.json.decode(msgspec.json.encode(raw), type=positions.State)
    assert positions.step(read, fill(20, BUY, "1", "100"), CTX) == (read, ())
    after = positions.step(read, fill(101, BUY, "1", "100"), CTX).state
    assert after is not None
    held = positions.fold(after, after.rows).open
    assert held is not None
    assert held.quantity == 101


def test_what_account_still_takes_for_new_is_new_here_however_sparse_the_ids() -> None:
    state: positions.State | None = None
    known = EMPTY
    sent = [fill(7 * n, BUY, "1", "100") for n in range(2, 3 + REMEMBERED)]
    for each in sent:
        state, known = positions.step(state, each, CTX).state, account.step(known, each, CTX).state or EMPTY
    late = fill(7 * 3 + 1, BUY, "1", "100")
    assert not account.knows(known, late.trade_id)
    state = positions.step(state, late, CTX).state
    assert state is not None
    held = positions.fold(state, state.rows).open
    assert held is not None
    assert held.quantity == len(sent) + 1


def test_memory_is_bounded_and_an_older_fill_is_a_duplicate() -> None:
    sparse: positions.State | None = None
    for n in range(1, positions.REMEMBERED + positions.WINDOW + 10):
        sparse = positions.step(sparse, fill(2 * n, BUY if n % 2 else SELL, "1", "100"), CTX).state
    assert sparse is not None
    assert len(sparse.taken) == positions.REMEMBERED
    assert positions.step(sparse, fill(3, BUY, "1", "100"), CTX) == (sparse, ())
    pairs = [fill(n, BUY if n % 2 else SELL, "1", "100") for n in range(1, 301)]
    state, _ = run(*pairs)
    assert len(state.rows) == positions.WINDOW
    assert len(state.revisions) <= positions.WINDOW
    assert state.taken == ((1, 300 - positions.WINDOW),)
    again, events = positions.step(state, fill(5, BUY, "1", "100"), CTX)
    assert (again, events) == (state, ())
