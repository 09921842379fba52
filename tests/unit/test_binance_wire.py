"""Binance's words as recorded or documented, and what we read in them; requests as we sign them."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.settings import Settings
from infra.venue.binance import wire
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import BestQuote, Book, MarkPrice, OrderRequest, OrderSeen, PositionSeen, StopRequest, TradeSeen, VenueError
from schemas.trading import OrderType
from schemas.units import OrderSide

BTC = "binance.usdm.BTCUSDT"


def test_market_messages() -> None:
    trade = {
        "e": "aggTrade",
        "E": 10,
        "s": "BTCUSDT",
        "a": 7,
        "p": "64000.10",
        "q": "0.5",
        "nq": "0.5",
        "f": 1,
        "l": 2,
        "T": 9,
        "m": True,
    }
    seen = wire.market_event({"stream": "btcusdt@aggTrade", "data": trade})
    assert isinstance(seen, TradeSeen)
    assert (seen.instrument, seen.at, seen.trade.id, seen.trade.t, seen.trade.p, seen.trade.buyer_maker) == (
        BTC,
        10,
        7,
        9,
        64000.1,
        True,
    )
    mark = {"e": "markPriceUpdate", "E": 11, "s": "BTCUSDT", "p": "1.5", "i": "1.4", "P": "1.5", "r": "0.0001", "T": 99}
    assert wire.market_event({"data": mark}) == MarkPrice(BTC, 11, 1.5, 1.4, 0.0001, 99)
    quote = {"e": "bookTicker", "u": 1, "s": "BTCUSDT", "b": "1.0", "B": "3", "a": "1.1", "A": "2", "T": 1, "E": 1}
    assert wire.market_event({"data": quote}) == BestQuote(BTC, 1.0, 1.1)
    assert wire.market_event({"data": {"e": "kline"}}) is None


def test_a_trade_of_ours_on_the_user_stream() -> None:
    o = {
        **{"s": "BTCUSDT", "c": "e-x", "S": "BUY", "o": "MARKET", "ot": "MARKET", "q": "1", "p": "0", "ap": "100", "sp": "0"},
        **{"x": "TRADE", "X": "PARTIALLY_FILLED", "i": 8886774, "l": "0.4", "z": "0.4", "L": "100.5", "n": "0.02", "N": "USDT"},
        **{"T": 55, "t": 12, "m": False, "R": False, "cp": False, "rp": "0"},
    }
    seen = wire.user_event({"e": "ORDER_TRADE_UPDATE", "E": 56, "T": 55, "o": o})
    assert isinstance(seen, OrderSeen)
    assert seen.fill is not None
    assert (seen.fill.trade_id, seen.fill.price, seen.fill.quantity, seen.fill.fee) == (
        12,
        Decimal("100.5"),
        Decimal("0.4"),
        Decimal("0.02"),
    )
    assert wire.user_event({"e": "ORDER_TRADE_UPDATE", "E": 56, "T": 55, "o": o | {"x": "NEW", "t": 0}}).fill is None  # type: ignore[union-attr]


def test_a_conditional_order_tells_its_child_once_it_has_one() -> None:
    early = {"caid": "s-x", "aid": 2148719, "at": "CONDITIONAL", "o": "STOP_MARKET", "s": "BTCUSDT", "S": "SELL", "ps": "BOTH"}
    early |= {"f": "GTC", "q": "0", "X": "NEW", "tp": "750", "p": "0", "wt": "MARK_PRICE", "cp": True, "R": False, "tt": 0}
    seen = wire.user_event({"e": "ALGO_UPDATE", "T": 5, "E": 6, "o": early})
    assert isinstance(seen, OrderSeen)
    assert (seen.order.book, seen.order.child_order_id, seen.order.close_position) == (Book.ALGO, None, True)
    later = wire.user_event({"e": "ALGO_UPDATE", "T": 7, "E": 7, "o": early | {"X": "TRIGGERED", "ai": "88937381063"}})
    assert isinstance(later, OrderSeen)
    assert later.order.child_order_id == "88937381063"


def test_positions_that_moved_and_what_is_not_for_us() -> None:
    update = {"e": "ACCOUNT_UPDATE", "T": 5, "E": 6, "a": {"m": "ORDER", "B": [], "P": [{"s": "BTCUSDT", "pa": "-0.5", "ep": "1"}]}}
    assert wire.user_event(update) == PositionSeen(5, ((BTC, Decimal("-0.5")),))
    assert wire.user_event({"e": "TRADE_LITE", "E": 1}) is None


class Listener:
    """Answers what it is told and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: list[tuple[int, str]] = []

    async def hear(self, request: web.Request) -> web.Response:
        text = request.query_string or await request.text()
        self.asked.append((request.method, request.path, dict(parse_qsl(text))))
        if request.path.endswith("/time"):
            return web.json_response({"serverTime": 1_800_000_000_000})
        status, body = self.answers.pop(0) if self.answers else (200, '{"orderId":1,"clientOrderId":"c","status":"NEW"}')
        return web.Response(status=status, text=body, headers={"X-MBX-USED-WEIGHT-1M": "42"})


@pytest.fixture
async def listener() -> Any:
    found = Listener()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.hear)
    server = TestServer(app)
    await server.start_server()
    async with BinanceUsdm(Settings(exchange_port=server.port or 0)) as venue:
        yield found, venue
    await server.close()


async def test_a_given_time_signs_and_numbers_are_plain(listener: tuple[Listener, BinanceUsdm]) -> None:
    heard, venue = listener
    order = OrderRequest(BTC, OrderSide.BUY, OrderType.LIMIT, Decimal("1E+2"), "e-abc", Decimal("0.00001"), reduce_only=True)
    await venue.place_order(order, sent_at=1_234, recv_window_ms=4000)
    method, path, sent = heard.asked[-1]
    assert (method, path) == ("POST", "/fapi/v1/order")
    assert (sent["timestamp"], sent["recvWindow"], sent["quantity"], sent["price"]) == ("1234", "4000", "100", "0.00001")
    assert (sent["reduceOnly"], sent["newClientOrderId"], sent["timeInForce"]) == ("true", "e-abc", "GTC")
    signature = sent.pop("signature")
    text = "&".join(f"{key}={sent[key]}" for key in sorted(sent))
    assert signature == hmac.new(b"local-secret", text.encode(), hashlib.sha256).hexdigest()
    assert venue.rest.used_weight == 42


async def test_the_venues_clock_signs_what_has_no_time_of_its_own(listener: tuple[Listener, BinanceUsdm]) -> None:
    heard, venue = listener
    await venue.cancel_order(BTC, "e-abc")
    sent = heard.asked[-1][2]
    assert abs(int(sent["timestamp"]) - 1_800_000_000_000) < 5_000
    assert sent["recvWindow"] == "5000"


async def test_a_conditional_order_keeps_its_id(listener: tuple[Listener, BinanceUsdm]) -> None:
    heard, venue = listener
    heard.answers = [(200, '{"algoId":5,"clientAlgoId":"s-abc","algoStatus":"NEW"}')] * 2
    await venue.place_algo(StopRequest(BTC, OrderSide.SELL, Decimal("97500.0"), "s-abc"))
    method, path, sent = heard.asked[-1]
    assert (method, path) == ("POST", "/fapi/v1/algoOrder")
    assert (sent["clientAlgoId"], sent["closePosition"], sent["workingType"]) == ("s-abc", "true", "MARK_PRICE")
    assert "quantity" not in sent
    assert "reduceOnly" not in sent
    await venue.place_algo(StopRequest(BTC, OrderSide.SELL, Decimal("97500.0"), "s-abc", Decimal("0.5")))
    sent = heard.asked[-1][2]
    assert (sent["quantity"], sent["reduceOnly"]) == ("0.5", "true")
    assert "closePosition" not in sent


async def test_an_order_outside_of_its_window_is_not_tried_again_but_a_query_is(listener: tuple[Listener, BinanceUsdm]) -> None:
    heard, venue = listener
    late = (400, '{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}')
    heard.answers = [late]
    with pytest.raises(VenueError):
        await venue.place_order(OrderRequest(BTC, OrderSide.BUY, OrderType.MARKET, Decimal(1), "e-abc"))
    assert [path for _, path, _ in heard.asked].count("/fapi/v1/order") == 1
    heard.asked.clear()
    heard.answers = [late, (400, '{"code":-2013,"msg":"Order does not exist."}')]
    assert await venue.get_order(BTC, "e-abc") is None
    assert [path for _, path, _ in heard.asked].count("/fapi/v1/order") == 2
