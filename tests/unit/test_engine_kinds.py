"""Histories of the rarer kinds of orders: amended ones, conditional limit orders, trailing stops."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from infra.venue.local.audit import audit
from infra.venue.local.commands import AmendOrder, CancelOrder, Command, PlaceAlgo, PlaceOrder
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AlgoChanged, Happening, OrderChanged
from infra.venue.local.journal import Journal, restore
from infra.venue.local.market.base import SYMBOLS, Mark
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

BTC = SYMBOLS["BTCUSDT"]
START = 960_000


class Market:
    def __init__(self) -> None:
        self.engine = Engine((BTC,), {"BTCUSDT": START})
        self.journal = Journal()
        self.t = 1_000_000
        self.price(START)

    def tell(self, what: Command | Mark) -> list[Happening]:
        self.t += 1_000
        happened = self.engine.apply(what, self.t)
        self.journal.tell(self.engine, happened, 0.0)
        return happened

    def price(self, ticks: int) -> list[Happening]:
        self.t += 1_000
        happened = [h for event in at_price("BTCUSDT", self.t, ticks) for h in self.engine.apply(event, self.t)]
        self.journal.tell(self.engine, happened, 0.0)
        return happened

    def limit(self, side: str, qty: str, price: str, **more: object) -> list[Happening]:
        return self.tell(PlaceOrder("BTCUSDT", side, "LIMIT", D(qty), D(price), client_id="a", **more))  # type: ignore[arg-type]

    def buy(self, qty: str = "0.010") -> None:
        self.tell(PlaceOrder("BTCUSDT", "BUY", "MARKET", D(qty)))

    def algo(self, side: str, kind: str, trigger: str = "0", **more: object) -> list[Happening]:
        more.setdefault("qty", D("0.010"))
        return self.tell(PlaceAlgo("BTCUSDT", side, kind, D(trigger), client_id="s", **more))  # type: ignore[arg-type]

    def refusal(self, what: Command) -> int:
        with pytest.raises(Refusal) as caught:
            self.tell(what)
        return caught.value.code

    @property
    def held(self) -> D:
        return self.engine.floor.position("BTCUSDT").qty


def algos(happened: list[Happening]) -> list[str]:
    return [h.algo.status for h in happened if isinstance(h, AlgoChanged)]


def amend(qty: str, price: str, side: str = "BUY") -> AmendOrder:
    return AmendOrder("BTCUSDT", side, D(qty), D(price), client_id="a")  # type: ignore[arg-type]


def test_an_order_can_be_amended_and_keeps_its_id() -> None:
    market = Market()
    placed = market.limit("BUY", "0.010", "95000.0")[0]
    happened = market.tell(amend("0.020", "95500.0"))
    assert [h.execution for h in happened if isinstance(h, OrderChanged)] == ["AMENDMENT"]
    (order,) = market.engine.floor.open_orders()
    assert isinstance(placed, OrderChanged)
    assert (order.id, order.price, order.qty, order.amended) == (placed.order.id, 955_000, 20, 1)
    assert market.refusal(amend("0.020", "95500.0")) == -5027
    assert market.refusal(amend("0.020", "95500.05")) == -4014
    assert market.refusal(amend("9.000", "95500.0")) == -2019
    assert market.refusal(amend("0.020", "95400.0", "SELL")) == -2011
    market.tell(amend("0.020", "96001.0"))  # it takes
    assert market.held == D("0.020")
    assert market.refusal(amend("0.020", "95000.0")) == -2013
    fresh = Engine((BTC,), {"BTCUSDT": START})
    restore(fresh, market.journal.records)
    assert [(a.before.price, a.after.price) for a in fresh.floor.amendments] == [(950_000, 955_000), (955_000, 960_010)]


def test_a_smaller_order_keeps_its_place_in_the_queue() -> None:
    market = Market()
    market.limit("BUY", "0.010", "96000.0")
    (order,) = market.engine.floor.open_orders()
    order.queue_ahead = 3
    market.tell(amend("0.005", "96000.0"))
    assert order.queue_ahead == 3
    market.tell(amend("0.008", "96000.0"))
    assert order.queue_ahead > 3


def test_an_amendment_below_what_is_filled_ends_the_order() -> None:
    market = Market()
    market.engine.floor.books["BTCUSDT"].most = 6
    market.limit("BUY", "0.010", "96001.0")
    happened = market.tell(amend("0.005", "96001.0"))
    assert [h.order.status for h in happened if isinstance(h, OrderChanged)] == ["CANCELED"]
    assert market.held == D("0.006")


def test_a_stop_with_a_limit_rests_after_its_trigger_and_ends_with_its_order() -> None:
    market = Market()
    market.buy()
    assert market.refusal(PlaceAlgo("BTCUSDT", "SELL", "STOP", D("95000.0"), qty=D("0.010"))) == -1102
    market.algo("SELL", "STOP", "95000.0", price=D("95100.0"), reduce_only=True)
    assert algos(market.price(949_990)) == ["TRIGGERING", "TRIGGERED"]
    (child,) = market.engine.floor.open_orders()
    assert (child.type, child.price, child.stop_price) == ("LIMIT", 951_000, D("95000.0"))
    assert algos(market.price(951_020)) == ["FINISHED"]
    assert market.held == 0
    (algo,) = market.engine.floor.algos.values()
    assert (algo.actual_qty, algo.order_id) == (10, child.id)


def test_cancelling_the_child_finishes_its_parent() -> None:
    market = Market()
    market.buy()
    market.algo("SELL", "TAKE_PROFIT", "97000.0", price=D("98000.0"), reduce_only=True)
    market.price(970_010)
    (child,) = market.engine.floor.open_orders()
    assert algos(market.tell(CancelOrder("BTCUSDT", child.id))) == ["FINISHED"]


def test_a_trailing_stop_follows_and_fires_at_its_distance() -> None:
    market = Market()
    market.buy()
    market.algo("SELL", "TRAILING_STOP_MARKET", callback=D("1"), reduce_only=True)
    market.price(965_000)
    market.price(970_000)
    (algo,) = market.engine.floor.live_algos()
    assert (algo.extreme, algo.trigger) == (D("97000.0"), D("96030.000"))
    assert algos(market.price(960_310)) == []
    assert algos(market.price(960_300)) == ["TRIGGERING", "TRIGGERED", "FINISHED"]
    assert market.held == 0


def test_a_trailing_stop_waits_for_its_activation() -> None:
    market = Market()
    market.algo("BUY", "TRAILING_STOP_MARKET", callback=D("0.5"), activate=D("95000.0"))
    assert algos(market.price(965_000)) == []
    assert algos(market.price(949_000)) == ["NEW"]  # now it follows
    assert algos(market.price(940_000)) == []
    assert algos(market.price(944_700)) == ["TRIGGERING", "TRIGGERED", "FINISHED"]
    assert market.held == D("0.010")
    assert audit(market.journal.records, 0.0, market.t)["doubled_client_ids"] == []


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (-1102, {}),
        (-1130, {"callback": D("0.05")}),
        (-1130, {"callback": D(21)}),
        (-2021, {"callback": D(1), "activate": D(95_000)}),
    ],
)
def test_a_trailing_stop_needs_what_it_needs(code: int, more: dict[str, D]) -> None:
    ask = PlaceAlgo("BTCUSDT", "SELL", "TRAILING_STOP_MARKET", D(0), qty=D("0.010"), **more)  # type: ignore[arg-type]
    assert Market().refusal(ask) == code


def test_a_protected_stop_does_not_fire_on_a_torn_mark() -> None:
    market = Market()
    market.buy()
    market.algo("SELL", "STOP_MARKET", "95000.0", working_type="MARK_PRICE", price_protect=True, reduce_only=True)
    torn, whole = D("90000.0"), D("94000.0")
    assert algos(market.tell(Mark("BTCUSDT", market.t, torn, torn, D(0), 0))) == []
    assert algos(market.tell(Mark("BTCUSDT", market.t, whole, whole, D(0), 0))) == ["TRIGGERING", "TRIGGERED", "FINISHED"]


def test_what_is_good_till_the_position_ends_ends_with_it() -> None:
    market = Market()
    market.buy()
    market.algo("SELL", "STOP_MARKET", "95000.0", tif="GTE_GTC", reduce_only=True)
    happened = market.tell(PlaceOrder("BTCUSDT", "SELL", "MARKET", D("0.010"), reduce_only=True))
    assert algos(happened) == ["EXPIRED"]
