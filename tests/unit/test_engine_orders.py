"""Histories of ordinary orders on the exchange's engine: given this market and these commands, then this."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from infra.venue.local.account import START_BALANCE
from infra.venue.local.commands import CancelAllOrders, CancelOrder, Command, PlaceOrder, SetLeverage, SetMarginType
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AccountChanged, Happening, OrderChanged
from infra.venue.local.market.base import SYMBOLS, Mark, Quote, Trade
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

BTC = SYMBOLS["BTCUSDT"]
START = 960_000  # ticks of 0.10


class Market:
    """An engine and a time that goes on by a second with everything that is said to it."""

    def __init__(self, balance: D = START_BALANCE) -> None:
        self.engine = Engine((BTC, SYMBOLS["ADAUSDT"]), {"BTCUSDT": START, "ADAUSDT": 4_100}, balance)
        self.t = 1_000_000
        self.price(START)

    def tell(self, what: Command | Quote | Trade | Mark) -> list[Happening]:
        self.t += 1_000
        return self.engine.apply(what, self.t)

    def price(self, ticks: int, *, depth: int = 1_000, sold: bool = True, qty: int = 5) -> list[Happening]:
        events = at_price("BTCUSDT", self.t, ticks, depth=depth, sold=sold, qty=qty)
        return [happened for event in events for happened in self.tell(event)]

    def buy(self, qty: str, **more: object) -> list[Happening]:
        return self.tell(PlaceOrder("BTCUSDT", "BUY", "MARKET", D(qty), **more))  # type: ignore[arg-type]

    def sell(self, qty: str, **more: object) -> list[Happening]:
        return self.tell(PlaceOrder("BTCUSDT", "SELL", "MARKET", D(qty), **more))  # type: ignore[arg-type]

    def limit(self, side: str, qty: str, price: str, **more: object) -> list[Happening]:
        return self.tell(PlaceOrder("BTCUSDT", side, "LIMIT", D(qty), D(price), **more))  # type: ignore[arg-type]

    @property
    def held(self) -> D:
        return self.engine.floor.position("BTCUSDT").qty

    @property
    def wallet(self) -> D:
        return self.engine.floor.account.wallet


def story(happened: list[Happening]) -> list[str]:
    """`NEW`, `TRADE`, ... of orders and `ACCOUNT`, in order."""

    def word(h: Happening) -> str:
        if isinstance(h, OrderChanged):
            return h.execution
        return "ACCOUNT" if isinstance(h, AccountChanged) else type(h).__name__

    return [word(h) for h in happened]


def refusal(call: object, *args: object, **more: object) -> int:
    with pytest.raises(Refusal) as caught:
        call(*args, **more)  # type: ignore[operator]
    return caught.value.code


def test_a_market_order_fills_at_the_quote_and_pays_the_taker_fee() -> None:
    market = Market()
    happened = market.buy("0.010", client_id="e-1")
    assert story(happened) == ["NEW", "TRADE", "ACCOUNT"]
    fill = happened[1].fill  # type: ignore[union-attr]
    assert fill is not None
    assert (fill.price, fill.qty, fill.maker) == (START + 1, 10, False)
    assert fill.fee == D("96000.10") * D("0.010") * D("0.0005")
    assert market.held == D("0.010")
    assert market.wallet == START_BALANCE - fill.fee


def test_a_large_market_order_walks_the_ladder_and_expires_what_finds_no_depth() -> None:
    market = Market(balance=D(500_000_000))
    market.price(START, depth=1)
    happened = market.buy("100")
    fills = [h.fill for h in happened if isinstance(h, OrderChanged) and h.fill]
    assert len(fills) == 20
    assert [f.price for f in fills] == sorted({f.price for f in fills})  # ever worse prices
    last = happened[-1]
    assert isinstance(last, OrderChanged)
    assert (last.execution, last.order.status) == ("EXPIRED", "EXPIRED")
    assert sum(f.qty for f in fills) == last.order.filled < 100_000


def test_depth_that_we_took_is_missing_for_everybody_and_comes_back_by_halves() -> None:
    market = Market()
    book = market.engine.floor.books["BTCUSDT"]
    market.price(START, depth=800)
    market.buy("0.800")
    taken_t = market.t
    assert book.best()[2] > START + 1  # the best level is gone: the quote shows the next one
    assert not book.crosses("BUY", START + 1)
    shown = []
    for after_ms in (0, 500, 1_000, 2_000, 10_000, 20_000):
        market.engine.apply(Quote("BTCUSDT", taken_t + after_ms, START, 800, START + 1, 800), taken_t + after_ms)
        shown.append(next(steps for price, steps in book.levels("BUY") if price == START + 1))
    assert shown == [0, 200, 400, 600, 800, 800]
    market.t = taken_t + 20_000
    fill = market.buy("0.003")[1].fill  # type: ignore[union-attr]
    assert fill is not None
    assert fill.price == START + 1


def test_those_before_us_leave_the_queue_when_less_is_shown_than_they_were() -> None:
    market = Market()
    market.price(START, depth=500)
    market.limit("BUY", "0.010", "96000.0")
    (order,) = market.engine.floor.open_orders()
    assert order.queue_ahead == 500
    market.tell(Quote("BTCUSDT", market.t, START, 40, START + 1, 500))
    assert order.queue_ahead == 40
    market.tell(Quote("BTCUSDT", market.t, START, 900, START + 1, 500))  # those who come now stand behind us
    assert story(market.tell(Trade("BTCUSDT", market.t, START, 45, True))) == ["TRADE", "ACCOUNT"]
    assert order.filled == 5


def test_a_round_trip_realises_the_difference_and_nothing_else() -> None:
    market = Market()
    market.buy("0.010")
    market.price(START + 1_000)
    happened = market.sell("0.010")
    fill = happened[1].fill  # type: ignore[union-attr]
    assert fill is not None
    assert fill.realised == D("0.010") * D("0.10") * (fill.price - (START + 1))
    fees = sum(f.fee for f in market.engine.floor.fills["BTCUSDT"])
    assert market.wallet == START_BALANCE + fill.realised - fees
    assert market.held == 0


def test_a_sell_beyond_the_position_flips_it() -> None:
    market = Market()
    market.buy("0.010")
    market.sell("0.025")
    position = market.engine.floor.position("BTCUSDT")
    assert position.qty == D("-0.015")
    assert position.entry == D("96000.00")


def test_a_resting_buy_fills_when_a_trade_goes_through_it() -> None:
    market = Market()
    assert story(market.limit("BUY", "0.010", "95990.0")) == ["NEW"]
    happened = market.tell(Trade("BTCUSDT", market.t, 959_899, 1, True))
    assert story(happened) == ["TRADE", "ACCOUNT"]
    fill = happened[0].fill  # type: ignore[union-attr]
    assert fill is not None
    assert (fill.price, fill.qty, fill.maker) == (959_900, 10, True)
    assert fill.fee == D("95990.0") * D("0.010") * D("0.0002")


def test_a_resting_buy_at_the_best_bid_waits_for_those_before_it() -> None:
    market = Market()
    market.price(START, depth=100)
    market.limit("BUY", "0.010", "96000.0")
    assert story(market.tell(Trade("BTCUSDT", market.t, START, 60, True))) == []
    assert story(market.tell(Trade("BTCUSDT", market.t, START, 60, False))) == []  # a buyer took: that is not our side
    happened = market.tell(Trade("BTCUSDT", market.t, START, 44, True))
    assert [h.order.filled for h in happened if isinstance(h, OrderChanged)] == [4]
    happened = market.tell(Trade("BTCUSDT", market.t, START, 44, True))
    assert [h.order.status for h in happened if isinstance(h, OrderChanged)] == ["FILLED"]


def test_a_resting_sell_fills_when_the_quote_crosses_it() -> None:
    market = Market()
    market.limit("SELL", "0.010", "96010.0")
    happened = market.tell(Quote("BTCUSDT", market.t, 960_105, 500, 960_106, 500))
    assert story(happened) == ["TRADE", "ACCOUNT"]
    assert market.held == D("-0.010")


def test_a_market_order_takes_nothing_far_from_the_mark() -> None:
    market = Market(balance=D(100_000_000))
    market.tell(Mark("BTCUSDT", market.t, D("101100"), D("101100"), D(0), market.t + 1))
    assert refusal(market.sell, "0.010") == -4131  # the best bid is more than 5 % below the mark
    assert story(market.buy("0.010")) == ["NEW", "TRADE", "ACCOUNT"]
    market.tell(Mark("BTCUSDT", market.t, D("101040"), D("101040"), D(0), market.t + 1))
    happened = market.sell("100")  # down to 95,988, and no further
    fills = [h.fill for h in happened if isinstance(h, OrderChanged) and h.fill]
    assert min(fill.price for fill in fills) >= 959_880
    assert story(happened)[-1] == "EXPIRED"


def test_limit_orders_by_time_in_force() -> None:
    market = Market(balance=D(1_000_000))
    market.price(START, depth=5)
    assert refusal(market.limit, "BUY", "0.010", "96000.1", tif="GTX") == -5022
    assert refusal(market.limit, "BUY", "0.010", "96000.1", tif="FOK") == -5021
    assert story(market.limit("BUY", "0.010", "96000.1", tif="IOC")) == ["NEW", "TRADE", "ACCOUNT", "EXPIRED"]
    market.t += 20_000
    market.price(START, depth=5)
    happened = market.limit("BUY", "0.010", "96000.1")
    assert story(happened) == ["NEW", "TRADE", "ACCOUNT"]
    assert [o.left for o in market.engine.floor.open_orders()] == [5]
    assert story(market.limit("BUY", "0.010", "96000.0", tif="GTX")) == ["NEW"]


def test_reduce_only_orders_never_grow_or_flip_a_position() -> None:
    market = Market()
    assert refusal(market.sell, "0.010", reduce_only=True) == -2022
    market.buy("0.010")
    assert refusal(market.buy, "0.010", reduce_only=True) == -2022
    market.sell("0.025", reduce_only=True)  # trimmed to what is held
    assert market.held == 0


def test_resting_reduce_only_orders_leave_nothing_for_another() -> None:
    market = Market()
    market.buy("0.010")
    market.limit("SELL", "0.006", "96500.0", reduce_only=True)
    assert refusal(market.limit, "SELL", "0.006", "96600.0", reduce_only=True) == -4118
    market.limit("SELL", "0.004", "96600.0", reduce_only=True)
    assert refusal(market.sell, "0.001", reduce_only=True) == -4118
    market.tell(CancelAllOrders("BTCUSDT"))
    market.sell("0.010", reduce_only=True)
    assert market.held == 0


def test_resting_reduce_only_orders_end_with_the_position() -> None:
    market = Market()
    market.buy("0.010")
    market.limit("SELL", "0.010", "96500.0", reduce_only=True, client_id="t-1")
    happened = market.sell("0.010")  # not reduce-only: allowed
    assert story(happened) == ["NEW", "TRADE", "ACCOUNT", "EXPIRED"]
    assert market.engine.floor.open_orders() == []


def test_filters_refuse_what_the_exchange_refuses() -> None:
    market = Market()
    assert refusal(market.buy, "0.0105") == -1111
    assert refusal(market.buy, "0") == -4003
    assert refusal(market.buy, "121") == -4005
    assert refusal(market.buy, "0.001") == -4164
    assert refusal(market.limit, "BUY", "0.010", "95990.05") == -4014
    assert refusal(market.limit, "BUY", "0.010", "95990.005") == -1111
    assert refusal(market.limit, "BUY", "0.010", "0") == -4001
    assert refusal(market.limit, "BUY", "0.010", "101000.0") == -4016
    assert refusal(market.limit, "SELL", "0.010", "91000.0") == -4024
    assert refusal(market.tell, PlaceOrder("NOUSDT", "BUY", "MARKET", D(1))) == -1121
    assert refusal(market.tell, PlaceOrder("ADAUSDT", "BUY", "MARKET", D("1.5"))) == -1111
    market.buy("0.010")
    market.sell("0.001", reduce_only=True)  # exempt from the least notional
    assert market.held == D("0.009")


def test_a_client_id_is_unique_among_open_orders_only() -> None:
    market = Market()
    market.limit("BUY", "0.010", "95000.0", client_id="e-1")
    assert refusal(market.limit, "BUY", "0.010", "95100.0", client_id="e-1") == -4116
    assert refusal(market.buy, "0.010", client_id="x" * 37) == -4015
    assert refusal(market.buy, "0.010", client_id="a b") == -1100
    market.tell(CancelOrder("BTCUSDT", client_id="e-1"))
    market.buy("0.010", client_id="e-1")
    found = market.engine.find_order("BTCUSDT", None, "e-1")
    assert found is not None
    assert found.status == "FILLED"


def test_what_is_not_open_cannot_be_cancelled() -> None:
    market = Market()
    assert refusal(market.tell, CancelOrder("BTCUSDT", client_id="nobody")) == -2011
    market.buy("0.010", client_id="e-1")
    assert refusal(market.tell, CancelOrder("BTCUSDT", client_id="e-1")) == -2011
    assert market.engine.find_order("ADAUSDT", None, "e-1") is None


def test_margin_and_leverage_bound_what_may_be_opened() -> None:
    market = Market()
    market.tell(SetLeverage("BTCUSDT", 2))
    assert refusal(market.buy, "0.300") == -2019
    market.tell(SetLeverage("BTCUSDT", 10))
    market.buy("0.300")
    assert refusal(market.tell, SetLeverage("BTCUSDT", 1)) == -2028
    assert refusal(market.tell, SetLeverage("BTCUSDT", 126)) == -4028
    assert refusal(market.tell, SetMarginType("BTCUSDT", "ISOLATED")) == -4048
    assert refusal(market.tell, SetMarginType("BTCUSDT", "CROSSED")) == -4046
    market.sell("0.300")
    market.tell(SetMarginType("BTCUSDT", "ISOLATED"))
    assert market.engine.floor.position("BTCUSDT").margin_type == "ISOLATED"


def test_a_refused_command_changes_nothing() -> None:
    market = Market()
    market.buy("0.010")
    floor = market.engine.floor
    before = (floor.account.wallet, floor.order_id, floor.algo_id, len(floor.orders), floor.position("BTCUSDT").frozen())
    refusal(market.buy, "100")
    refusal(market.limit, "SELL", "0.011", "96600.0", reduce_only=True)
    assert before == (floor.account.wallet, floor.order_id, floor.algo_id, len(floor.orders), floor.position("BTCUSDT"))
    assert floor.out == []
