"""The account worker's memory: a trade is known once, whatever the order and however often it is told."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from processors import account
from processors.account import EMPTY, REMEMBERED, State
from processors.step import Context
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.trading import Fill
from schemas.units import OrderSide, Source

CONTEXT = Context("trade.fills", 0, 0, Policy(), 0, "sim", {})


def fill(trade_id: int, side: OrderSide = OrderSide.BUY) -> Fill:
    return Fill(
        event_id=f"f{trade_id}",
        at=1,
        instrument="binance.usdm.BTCUSDT",
        account="sim",
        trade_id=trade_id,
        order_id="1",
        client_id="x",
        purpose=Purpose.ENTRY,
        side=side,
        price=Decimal(100),
        quantity=Decimal("0.5"),
        fee=Decimal(0),
        fee_asset="USDT",
        realized_pnl=Decimal(0),
        maker=False,
        backfilled=False,
        source=Source.SYNTHETIC,
    )


def folded(trade_ids: list[int]) -> State:
    state = EMPTY
    for trade_id in trade_ids:
        found = account.step(state, fill(trade_id), CONTEXT)
        assert found.events == ()
        assert found.state is not None
        state = found.state
    return state


def test_an_overtaken_trade_is_still_new_and_asked_for() -> None:
    state = folded([5, 7])
    assert not account.knows(state, 6)
    assert account.knows(state, 7)
    assert account.ask_from(state) <= 6
    assert account.ask_from(EMPTY) == 1


def test_the_first_trade_of_all_is_found_when_the_second_is_told_first() -> None:
    state = folded([2])
    assert not account.knows(state, 1)
    assert account.ask_from(state) == 1


@settings(deadline=None)
@given(st.sets(st.integers(1, 60)), st.integers(0, 2 * REMEMBERED), st.integers(1, 60))
def test_whatever_is_new_is_asked_for(early: set[int], later: int, one: int) -> None:
    state = folded([*early, *range(61, 61 + later)])
    assert account.knows(state, one) or account.ask_from(state) <= one


def test_what_is_older_than_the_memory_counts_as_known() -> None:
    state = folded(list(range(10, 10 + REMEMBERED + 5)))
    assert len(state.recent) == REMEMBERED
    assert account.knows(state, 11)
    assert not account.knows(state, 10 + REMEMBERED + 5)


def test_buys_and_sells_add_up() -> None:
    state = account.step(folded([1, 2]), fill(3, OrderSide.SELL), CONTEXT).state
    assert state is not None
    assert state.net == Decimal("0.5")


@given(st.permutations(list(range(1, 20))), st.lists(st.integers(1, 19)))
def test_order_and_repetition_change_nothing(order: list[int], again: list[int]) -> None:
    assert folded([*order, *again]) == folded(list(range(1, 20)))
