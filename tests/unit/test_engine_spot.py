"""Histories of spot orders, order lists and balances on the exchange's engine."""

from __future__ import annotations

from decimal import Decimal as D
from pathlib import Path

import pytest

from infra.venue.local.commands import SetSymbolStatus
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import Happening
from infra.venue.local.journal import Journal, restore
from infra.venue.local.market.base import SYMBOLS, Quote, Trade
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price
from infra.venue.local.spot.orders import (
    BalancesChanged,
    CancelAllSpot,
    CancelSpot,
    CancelSpotList,
    Leg,
    ListChanged,
    PlaceOco,
    PlaceSpot,
    SpotChanged,
    SpotCommand,
)

START = 960_000  # ticks of the perpetual: 96,000.0
STEP = D("0.00001")


class Market:
    def __init__(self, journal: Journal | None = None) -> None:
        self.engine = Engine((SYMBOLS["BTCUSDT"],), {"BTCUSDT": START}, D(10_000))
        self.journal = journal
        self.t = 1_000_000
        self.price(START)

    def tell(self, what: SpotCommand | SetSymbolStatus | Quote | Trade) -> list[Happening]:
        self.t += 1_000
        happened = self.engine.apply(what, self.t)
        if self.journal is not None:
            self.journal.tell(self.engine, happened, 0.0)
        return happened

    def price(self, ticks: int, *, depth: int = 1_000, sold: bool = True) -> list[Happening]:
        events = at_price("BTCUSDT", self.t, ticks, depth=depth, sold=sold)[:2]
        return [happened for event in events for happened in self.tell(event)]  # type: ignore[arg-type]

    def order(
        self, side: str, kind: str, qty: str, price: str | None = None, stop: str | None = None, **more: str
    ) -> list[Happening]:
        leg = Leg(kind, D(price) if price else None, D(stop) if stop else None, **more)  # type: ignore[arg-type]
        return self.tell(PlaceSpot("BTCUSDT", side, leg, D(qty)))  # type: ignore[arg-type]

    def sell_list(self, qty: str, *, goal: str = "97000", stop: str = "95000", limit: str | None = "94900") -> list[Happening]:
        kind = "STOP_LOSS_LIMIT" if limit else "STOP_LOSS"
        below = Leg(kind, D(limit) if limit else None, D(stop), client_id="stop")  # type: ignore[arg-type]
        above = Leg("LIMIT_MAKER", D(goal), client_id="goal")
        return self.tell(PlaceOco("BTCUSDT", "SELL", D(qty), above, below, "both"))

    def has(self, asset: str) -> tuple[D, D]:
        """(free, locked)"""
        balances = self.engine.spot.balances
        return balances.free(asset), balances.locked[asset]


def story(happened: list[Happening]) -> list[str]:
    """`order: execution status`, `list status`, balances left out."""
    told = []
    for h in happened:
        if isinstance(h, SpotChanged):
            told.append(f"{h.order.client_id}: {h.execution} {h.order.status}")
        elif isinstance(h, ListChanged):
            told.append("list: " + ("done" if h.list.is_done else "begun"))
    return told


def refusal(market: Market, *args: str, **more: str) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        market.order(*args, **more)  # type: ignore[arg-type]
    return caught.value.code, caught.value.message


def test_who_buys_gets_less_than_the_quantity_and_cannot_sell_it_all_again() -> None:
    market = Market()
    happened = market.order("BUY", "MARKET", "0.01", client_id="e-1")
    assert story(happened) == ["e-1: NEW NEW", "e-1: TRADE FILLED"]
    paid = D("0.01") * D("96000.10")
    assert market.has("BTC") == (D("0.00999"), 0)
    assert market.has("USDT") == (10_000 - paid, 0)
    assert refusal(market, "SELL", "MARKET", "0.01")[0] == -2010
    fill = market.engine.spot.fills["BTCUSDT"][0]
    assert (fill.fee, fill.fee_asset) == (D("0.00001"), "BTC")
    market.order("SELL", "MARKET", "0.00999")
    got = D("0.00999") * D("96000.00")
    assert market.has("USDT") == (10_000 - paid + got - got * D("0.001"), 0)
    assert isinstance(happened[-1], BalancesChanged)


def test_a_resting_order_locks_what_it_needs_and_gives_back_what_it_saves() -> None:
    market = Market()
    market.order("BUY", "LIMIT", "0.05", "95000", client_id="a")
    assert market.has("USDT") == (D(5_250), D(4_750))
    market.tell(CancelSpot("BTCUSDT", client_id="a"))
    assert market.has("USDT") == (D(10_000), 0)
    market.order("BUY", "LIMIT", "0.01", "96500")  # takes at 96,000.10
    assert market.has("USDT") == (10_000 - D("960.001"), 0)
    market.order("BUY", "LIMIT", "0.01", "95000", client_id="b")
    assert story(market.price(START - 10_010)) == ["b: TRADE FILLED"]  # the price went through it
    assert market.has("USDT") == (10_000 - D("960.001") - 950, 0)
    assert market.engine.spot.fills["BTCUSDT"][-1].maker


def test_what_the_filters_and_the_wallet_refuse() -> None:
    market = Market()
    assert refusal(market, "BUY", "LIMIT", "0.01", "95000.001") == (-1013, "Filter failure: PRICE_FILTER")
    assert refusal(market, "BUY", "LIMIT", "0.000001", "95000") == (-1013, "Filter failure: LOT_SIZE")
    assert refusal(market, "BUY", "MARKET", "500") == (-1013, "Filter failure: MARKET_LOT_SIZE")
    assert refusal(market, "BUY", "LIMIT", "0.00005", "95000") == (-1013, "Filter failure: NOTIONAL")
    assert refusal(market, "BUY", "LIMIT", "0.01", "10000") == (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")
    assert refusal(market, "BUY", "LIMIT", "0.0100000001", "95000")[0] == -1111
    poor = (-2010, "Account has insufficient balance for requested action.")
    assert refusal(market, "BUY", "LIMIT", "0.2", "95000") == poor
    assert refusal(market, "BUY", "MARKET", "0.2") == poor
    assert refusal(market, "SELL", "LIMIT", "0.01", "97000") == poor
    assert refusal(market, "BUY", "LIMIT_MAKER", "0.01", "96001") == (-2010, "Order would immediately match and take.")
    assert refusal(market, "BUY", "STOP_LOSS", "0.01", None, "95000") == (-2010, "Order would trigger immediately.")  # type: ignore[arg-type]
    market.order("BUY", "LIMIT", "0.001", "95000", client_id="a")
    assert refusal(market, "BUY", "LIMIT", "0.001", "95000", client_id="a") == (-2010, "Duplicate order sent.")
    for i in range(5):
        market.order("BUY", "TAKE_PROFIT", "0.001", None, f"{94_000 - i}")
    assert refusal(market, "BUY", "TAKE_PROFIT", "0.001", None, "93000") == (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS")  # type: ignore[arg-type]
    market.tell(SetSymbolStatus("BTCUSDT", "CLOSE"))
    assert refusal(market, "BUY", "MARKET", "0.001") == (-2010, "Market is closed.")


def test_orders_end_by_their_time_in_force() -> None:
    market = Market()
    market.price(START, depth=1)  # 0.001 at the best price
    happened = market.order("BUY", "LIMIT", "0.003", "96000.1", tif="IOC", client_id="i")
    assert story(happened) == ["i: NEW NEW", "i: TRADE PARTIALLY_FILLED", "i: EXPIRED EXPIRED"]
    assert market.engine.spot.named["i"].expiry == "UNFILLED_IOC_QUANTITY_EXPIRED"
    assert story(market.order("BUY", "LIMIT", "0.003", "96000.1", tif="FOK", client_id="f")) == ["f: NEW NEW", "f: EXPIRED EXPIRED"]
    assert market.has("USDT")[1] == 0


def test_a_market_order_by_its_cost_spends_as_much_as_it_may_and_no_more() -> None:
    market = Market()
    market.tell(PlaceSpot("BTCUSDT", "BUY", Leg("MARKET"), quote_qty=D(1_000)))
    free, _ = market.has("USDT")
    assert 0 <= free - 9_000 < D("96000.1") * STEP


def test_a_stop_waits_off_the_book_and_then_takes_the_book() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    happened = market.order("SELL", "STOP_LOSS", "0.00999", None, "95000", client_id="s")
    assert story(happened) == ["s: NEW NEW"]
    assert not market.engine.spot.resting["BTCUSDT"]
    assert market.has("BTC") == (0, D("0.00999"))
    assert market.price(START - 9_990) == []
    assert story(market.price(START - 10_000)) == ["s: NEW NEW", "s: TRADE FILLED"]
    assert market.has("BTC") == (0, 0)


def test_the_goal_of_a_list_fills_and_its_stop_expires() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    assert story(market.sell_list("0.00999")) == ["list: begun", "stop: NEW NEW", "goal: NEW NEW"]
    assert market.has("BTC") == (0, D("0.00999"))  # once, not twice
    happened = market.price(START + 10_010)
    assert story(happened) == ["stop: EXPIRED EXPIRED", "goal: TRADE FILLED", "list: done"]
    assert market.engine.spot.named["stop"].expiry == "OCO_TRIGGER"
    assert market.has("BTC") == (0, 0)
    assert market.engine.spot.open_orders() == []


def test_the_stop_of_a_list_comes_onto_the_book_and_its_goal_expires() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    market.sell_list("0.00999", stop="95000", limit="95500")  # its limit is above the book: it rests
    happened = market.price(START - 10_000)
    assert story(happened) == ["goal: EXPIRED EXPIRED", "stop: NEW NEW"]
    assert market.has("BTC") == (0, D("0.00999"))
    assert [o.client_id for o in market.engine.spot.open_orders()] == ["stop"]
    assert story(market.price(START - 4_990)) == ["stop: TRADE FILLED", "list: done"]
    assert market.has("BTC") == (0, 0)


def test_a_part_of_the_goal_is_enough_for_the_stop_to_go() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    market.sell_list("0.00999")
    goal = market.engine.spot.named["goal"]
    goal.queue_ahead = 0
    happened = market.tell(Trade("BTCUSDT", market.t, START + 10_000, 4, False))
    assert story(happened) == ["stop: EXPIRED EXPIRED", "goal: TRADE PARTIALLY_FILLED"]
    assert market.has("BTC") == (0, D("0.00599"))
    assert story(market.tell(CancelSpot("BTCUSDT", client_id="goal"))) == ["goal: CANCELED CANCELED", "list: done"]
    assert market.has("BTC") == (D("0.00599"), 0)


def test_cancelling_one_of_a_list_cancels_both() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    ends = ["stop: CANCELED CANCELED", "goal: CANCELED CANCELED", "list: done"]
    market.sell_list("0.00999")
    assert sorted(story(market.tell(CancelSpot("BTCUSDT", client_id="goal")))) == sorted(ends)
    market.sell_list("0.00999")  # the names are free again
    assert sorted(story(market.tell(CancelSpotList("BTCUSDT", client_id="both")))) == sorted(ends)
    market.sell_list("0.00999")
    assert sorted(story(market.tell(CancelAllSpot("BTCUSDT")))) == sorted(ends)
    assert market.has("BTC") == (D("0.00999"), 0)
    for gone in (CancelSpotList("BTCUSDT", client_id="both"), CancelSpot("BTCUSDT", client_id="goal"), CancelAllSpot("BTCUSDT")):
        with pytest.raises(Refusal) as caught:
            market.tell(gone)
        assert caught.value.code == -2011


def test_the_prices_and_kinds_of_a_list_must_make_sense() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    limit, stop, profit = Leg("LIMIT_MAKER", D(97_000)), Leg("STOP_LOSS", None, D(95_000)), Leg("TAKE_PROFIT", None, D(97_000))

    def code(above: Leg, below: Leg, side: str = "SELL") -> int:
        with pytest.raises(Refusal) as caught:
            market.tell(PlaceOco("BTCUSDT", side, D("0.00999"), above, below))  # type: ignore[arg-type]
        return caught.value.code

    assert code(stop, limit) == -1166
    assert code(stop, stop) == -1197
    assert code(profit, profit) == -1199
    assert code(limit, stop, "BUY") == -1165
    assert code(Leg("LIMIT_MAKER", D(95_500)), stop) == -2010
    assert code(limit, Leg("STOP_LOSS", None, D(96_500))) == -2010
    market.tell(PlaceOco("BTCUSDT", "SELL", D("0.00999"), profit, stop))
    assert len(market.engine.spot.open_orders()) == 2


def test_a_buying_list_locks_the_dearer_of_its_two() -> None:
    market = Market()
    above, below = Leg("STOP_LOSS_LIMIT", D(97_200), D(97_000)), Leg("LIMIT_MAKER", D(95_000))
    market.tell(PlaceOco("BTCUSDT", "BUY", D("0.01"), above, below))
    assert market.has("USDT") == (10_000 - D(972), D(972))
    market.price(START - 10_010)
    assert market.has("USDT") == (10_000 - D(950), 0)
    assert market.has("BTC") == (D("0.00999"), 0)


def test_spot_and_perpetuals_have_books_and_accounts_of_their_own() -> None:
    market = Market()
    market.order("BUY", "MARKET", "0.01")
    floor, spot = market.engine.floor, market.engine.spot
    assert floor.account.wallet == D(10_000)
    assert floor.fills["BTCUSDT"] == []
    assert floor.books["BTCUSDT"].best()[3] == 1_000
    assert spot.book("BTCUSDT").best()[3] == 100_000 - 1_000


def test_a_restart_knows_balances_orders_and_lists(tmp_path: Path) -> None:
    market = Market(Journal(tmp_path / "journal.jsonl"))
    market.order("BUY", "MARKET", "0.02")
    market.sell_list("0.00999", stop="95000", limit="95500")
    market.price(START - 10_000)  # the stop is on the book now
    market.order("BUY", "LIMIT", "0.01", "90000", client_id="b")
    market.order("SELL", "STOP_LOSS", "0.005", None, "85000", client_id="s")
    spot = market.engine.spot
    again = Engine((SYMBOLS["BTCUSDT"],), {"BTCUSDT": START}, D(10_000))
    restore(again, Journal(tmp_path / "journal.jsonl").records)
    other = again.spot
    assert (other.balances.total, other.balances.locked) == (spot.balances.total, spot.balances.locked)
    assert other.fills == spot.fills
    assert other.lists == spot.lists
    assert [o.client_id for o in other.open_orders()] == [o.client_id for o in spot.open_orders()] == ["stop", "b", "s"]
    assert [o.client_id for o in other.waiting["BTCUSDT"]] == ["s"]
    assert (other.order_id, other.list_id, other.executions) == (spot.order_id, spot.list_id, spot.executions)
