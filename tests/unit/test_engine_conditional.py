"""Histories of conditional orders: stops and take-profits, from NEW to FINISHED, and everything that can come between."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from infra.venue.local.commands import CancelAlgo, CancelAllAlgos, PlaceAlgo, PlaceOrder
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AccountChanged, AlgoChanged, Happening, OrderChanged
from infra.venue.local.market.base import SYMBOLS, Mark, Trade
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

START = 960_000


class Market:
    def __init__(self, *, children_compete: bool = True, held: str = "0.010") -> None:
        self.engine = Engine((SYMBOLS["BTCUSDT"],), {"BTCUSDT": START}, children_compete=children_compete)
        self.t = 1_000_000
        self.price(START)
        if held:
            self.order("BUY", held)

    def price(self, ticks: int) -> list[Happening]:
        self.t += 1_000
        return [h for event in at_price("BTCUSDT", self.t, ticks) for h in self.engine.apply(event, self.t)]

    def mark(self, value: str) -> list[Happening]:
        self.t += 1_000
        return self.engine.apply(Mark("BTCUSDT", self.t, D(value), D(value), D(0), 0), self.t)

    def trade(self, ticks: int) -> list[Happening]:
        self.t += 1_000
        return self.engine.apply(Trade("BTCUSDT", self.t, ticks, 1, True), self.t)

    def order(self, side: str, qty: str, price: str | None = None, **more: object) -> list[Happening]:
        self.t += 1_000
        ask = PlaceOrder("BTCUSDT", side, "LIMIT" if price else "MARKET", D(qty), D(price) if price else None, **more)  # type: ignore[arg-type]
        return self.engine.apply(ask, self.t)

    def stop(self, trigger: str, side: str = "SELL", kind: str = "STOP_MARKET", **more: object) -> list[Happening]:
        self.t += 1_000
        more.setdefault("working_type", "MARK_PRICE")
        if "qty" not in more:
            more.setdefault("close_position", True)
        return self.engine.apply(PlaceAlgo("BTCUSDT", side, kind, D(trigger), **more), self.t)  # type: ignore[arg-type]

    @property
    def held(self) -> D:
        return self.engine.floor.position("BTCUSDT").qty


def story(happened: list[Happening]) -> list[str]:
    def word(h: Happening) -> str:
        match h:
            case OrderChanged():
                return f"order {h.execution}"
            case AlgoChanged():
                return f"algo {h.algo.status}"
            case AccountChanged():
                return "account"
        return type(h).__name__

    return [word(h) for h in happened]


def refusal(call: object, *args: object, **more: object) -> int:
    with pytest.raises(Refusal) as caught:
        call(*args, **more)  # type: ignore[operator]
    return caught.value.code


FIRED = ["algo TRIGGERING", "algo TRIGGERED", "order NEW", "order TRADE", "account", "algo FINISHED"]


def test_a_stop_fires_when_the_mark_reaches_it_and_closes_what_is_held_then() -> None:
    market = Market()
    assert story(market.stop("95000.0", client_id="s-1")) == ["algo NEW"]
    market.order("BUY", "0.005")
    assert market.mark("95000.1") == []
    happened = market.mark("95000.0")
    assert story(happened) == FIRED
    assert market.held == 0
    finished = happened[-1]
    assert isinstance(finished, AlgoChanged)
    assert finished.algo.actual_qty == 15
    child = market.engine.floor.orders[finished.algo.order_id]
    assert (child.client_id, child.orig_type, child.type, child.reduce_only) == ("s-1", "STOP_MARKET", "MARKET", True)
    assert child.id != finished.algo.id


def test_a_stop_on_the_mark_does_not_hear_trades_and_the_other_way_round() -> None:
    market = Market()
    market.stop("95000.0", client_id="mark")
    market.stop("95100.0", qty=D("0.002"), reduce_only=True, working_type="CONTRACT_PRICE", client_id="last")
    assert market.mark("95050.0") == []
    assert story(market.trade(951_000)) == FIRED
    assert market.held == D("0.008")
    assert market.trade(940_000) == []
    assert story(market.mark("94999.9")) == FIRED
    assert market.held == 0


def test_a_short_is_stopped_by_a_rising_mark_and_takes_profit_from_a_falling_one() -> None:
    market = Market(held="")
    market.order("SELL", "0.010")
    market.stop("97000.0", "BUY")
    market.stop("95000.0", "BUY", "TAKE_PROFIT_MARKET")
    assert market.mark("96999.9") == []
    happened = market.mark("94999.0")
    assert story(happened) == [*FIRED[:-1], "algo EXPIRED", "algo FINISHED"]  # the sibling ends with the position
    assert market.engine.floor.live_algos() == []


def test_levels_that_have_been_passed_are_refused() -> None:
    market = Market()
    assert refusal(market.stop, "96000.0") == -2021
    assert refusal(market.stop, "95000.0", "SELL", "TAKE_PROFIT_MARKET") == -2021
    assert refusal(market.stop, "95000.0", "BUY") == -2021
    assert refusal(market.stop, "0") == -4006
    assert refusal(market.stop, "95000.05") == -4014


def test_one_stop_and_one_take_profit_may_close_a_side() -> None:
    market = Market()
    market.stop("95000.0")
    assert refusal(market.stop, "94000.0") == -4130
    market.stop("97000.0", "SELL", "TAKE_PROFIT_MARKET")
    market.stop("94500.0", qty=D("0.010"), reduce_only=True)  # quantities coexist
    market.stop("98000.0", "BUY")  # the other side is another matter
    assert len(market.engine.floor.live_algos()) == 4


def test_form_of_a_conditional_order() -> None:
    market = Market()
    assert refusal(market.stop, "95000.0", qty=D("0.010"), close_position=True) == -4137
    assert refusal(market.stop, "95000.0", close_position=True, reduce_only=True) == -1106
    assert refusal(market.stop, "95000.0", close_position=False) == -1102
    assert refusal(market.stop, "95000.0", qty=D("0.001")) == -4164
    assert refusal(market.stop, "98000.0", "BUY", tif="GTE_GTC") == -4509
    market.stop("95000.0", client_id="s-1")
    assert refusal(market.stop, "94000.0", qty=D("0.010"), reduce_only=True, client_id="s-1") == -4116


def test_a_cancelled_stop_stays_quiet() -> None:
    market = Market()
    market.stop("95000.0", client_id="s-1")
    market.t += 1
    assert story(market.engine.apply(CancelAlgo(client_id="s-1"), market.t)) == ["algo CANCELED"]
    assert market.mark("90000.0") == []
    assert refusal(market.engine.apply, CancelAlgo(client_id="s-1"), market.t) == -2011
    market.mark("96000.0")
    market.stop("95000.0", client_id="s-2")
    assert story(market.engine.apply(CancelAllAlgos("BTCUSDT"), market.t)) == ["algo CANCELED"]


def test_a_close_at_market_ends_the_stops_that_would_close_it() -> None:
    market = Market()
    market.stop("95000.0")
    market.stop("94500.0", qty=D("0.010"), reduce_only=True, client_id="quantity")
    happened = market.order("SELL", "0.010", reduce_only=True)
    assert story(happened) == ["order NEW", "order TRADE", "account", "algo EXPIRED"]
    assert [a.client_id for a in market.engine.floor.live_algos()] == ["quantity"]  # an orphan, for its owner to sweep


def test_an_orphan_is_rejected_at_its_trigger() -> None:
    market = Market()
    market.stop("94500.0", qty=D("0.010"), reduce_only=True)
    market.order("SELL", "0.010")
    happened = market.mark("94000.0")
    assert story(happened) == ["algo TRIGGERING", "algo REJECTED"]
    assert happened[-1].algo.reason == "ReduceOnly reject"  # type: ignore[union-attr]
    assert market.held == 0


def test_a_stop_without_a_position_opens_nothing() -> None:
    market = Market(held="")
    market.stop("95000.0")
    assert story(market.mark("94000.0")) == ["algo TRIGGERING", "algo EXPIRED"]
    assert market.held == 0


def test_resting_take_profits_may_leave_nothing_for_a_quantity_stop() -> None:
    for compete, ending in ((True, "algo REJECTED"), (False, "algo FINISHED")):
        market = Market(children_compete=compete)
        market.order("SELL", "0.010", "97000.0", reduce_only=True, client_id="t-1")
        market.stop("95500.0", qty=D("0.010"), reduce_only=True)
        assert story(market.mark("95400.0"))[-1] == ending
        assert market.held == (D("0.010") if compete else 0)


def test_a_closing_stop_fires_whatever_rests_and_clears_it() -> None:
    market = Market()
    market.order("SELL", "0.010", "97000.0", reduce_only=True, client_id="t-1")
    market.stop("95500.0")
    happened = market.mark("95400.0")
    assert story(happened) == [*FIRED[:-1], "order EXPIRED", "algo FINISHED"]
    assert market.held == 0
    assert market.engine.floor.open_orders() == []


def test_two_stops_at_one_mark_close_once() -> None:
    market = Market()
    market.stop("95000.0", qty=D("0.010"), reduce_only=True, client_id="tight")
    market.stop("94900.0", client_id="net")
    happened = market.mark("94000.0")
    assert market.held == 0
    assert sum(isinstance(h, OrderChanged) and h.execution == "TRADE" for h in happened) == 1
    assert "algo EXPIRED" in story(happened)
