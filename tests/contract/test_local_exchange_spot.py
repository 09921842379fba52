"""Spot with the real python-binance client over real sockets: orders, an OCO list, and its user stream over the WebSocket API."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import WSMsgType
from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException

from infra.venue.local.scripted import START_T, at_price, walk
from infra.venue.local.staged import KEY, SECRET, Staged, staged

P = 960_000
SCRIPT = [*walk("BTCUSDT", [P, P + 10, P - 5]), *at_price("BTCUSDT", START_T + 10_000, P - 9_000)]
OCO = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "quantity": "0.00999",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "97000.00",
    "belowType": "STOP_LOSS",
    "belowStopPrice": "95500.00",
    "aboveClientOrderId": "goal",
    "belowClientOrderId": "stop",
    "listClientOrderId": "both",
}


@asynccontextmanager
async def client_of(here: Staged) -> AsyncIterator[AsyncClient]:
    class Local(AsyncClient):  # type: ignore[misc]
        API_URL = here.http + "/api"
        WS_API_URL = here.ws + "/ws-api/v3"

    client = Local(KEY, SECRET)
    client.ws_api.TIMEOUT = 0.2  # its reader looks only so often whether it shall end
    try:
        yield client
    finally:
        await client.close_connection()


async def refused(call: Any) -> int:
    with pytest.raises(BinanceAPIException) as caught:
        await call
    return int(caught.value.code)


async def said(socket: Any) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    while True:
        try:
            heard.append(await asyncio.wait_for(socket.recv(), 0.3))
        except TimeoutError:
            return heard


def story(heard: list[dict[str, Any]]) -> list[str]:
    words = {"executionReport": lambda e: f"{e['c']} {e['x']} {e['X']}", "listStatus": lambda e: f"list {e['L']}"}
    return [words[e["e"]](e) for e in heard if e["e"] in words]


def shape(value: Any) -> Any:
    """Keys and JSON types, as deep as they go; None where an example says nothing."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def lacking(example: Any, ours: Any, where: str) -> list[str]:
    """What the example has and ours has not, or has as another type."""
    if isinstance(example, dict):
        if not isinstance(ours, dict):
            return [f"{where}: not an object"]
        missing = [f"{where}.{key} is missing" for key in example if key not in ours]
        return missing + [m for key in example if key in ours for m in lacking(example[key], ours[key], f"{where}.{key}")]
    if isinstance(example, list):
        return lacking(example[0], ours[0], f"{where}[]") if example and ours else []
    return [] if shape(example) == shape(ours) or None in (example, ours) else [f"{where}: {shape(ours)}"]


async def test_a_spot_trade_and_its_protection_with_the_real_client(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        user = BinanceSocketManager(client).user_socket()
        user.TIMEOUT = 0.2
        async with user:
            await here.go_to(2)
            bought = await client.create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01", newClientOrderId="e-1")
            assert (bought["status"], bought["fills"][0]["commissionAsset"]) == ("FILLED", "BTC")
            assert client.response.headers["X-MBX-ORDER-COUNT-1D"] == "1"
            assert client.response.headers["X-MBX-USED-WEIGHT-1M"]
            assert await refused(client.create_oco_order(**{**OCO, "quantity": "0.01"})) == -2010  # the commission was taken
            placed = await client.create_oco_order(**OCO)
            assert [r["clientOrderId"] for r in placed["orderReports"]] == ["stop", "goal"]
            assert [o["clientOrderId"] for o in await client.get_open_orders(symbol="BTCUSDT")] == ["stop", "goal"]
            balances = {b["asset"]: b for b in (await client.get_account())["balances"]}
            assert (balances["BTC"]["free"], balances["BTC"]["locked"]) == ("0.00000000", "0.00999000")
            heard = await said(user)
            assert story(heard) == ["e-1 NEW NEW", "e-1 TRADE FILLED", "list EXECUTING", "stop NEW NEW", "goal NEW NEW"]
            position = [e for e in heard if e["e"] == "outboundAccountPosition"][-1]
            assert {row["a"]: row["l"] for row in position["B"]} == {"BTC": "0.00999000", "USDT": "0.00000000"}

            await here.go_to(10)  # the price falls through the stop
            heard = await said(user)
            assert story(heard) == ["goal EXPIRED EXPIRED", "stop NEW NEW", "stop TRADE FILLED", "list ALL_DONE"]
            assert heard[0]["eR"] == "OCO_TRIGGER"
        found = await client.v3_get_order_list(orderListId=placed["orderListId"])
        assert (found["listOrderStatus"], found["listClientOrderId"]) == ("ALL_DONE", "both")
        assert (await client.get_order(symbol="BTCUSDT", origClientOrderId="goal"))["status"] == "EXPIRED"
        trades = await client.get_my_trades(symbol="BTCUSDT")
        spent, got = (D(t["quoteQty"]) for t in trades)
        balances = {b["asset"]: D(b["free"]) for b in (await client.get_account(omitZeroBalances="true"))["balances"]}
        assert balances == {"USDT": 10_000 - spent + got - D(trades[1]["commission"])}
        assert here.exchange.venue.engine.floor.account.wallet == 10_000


async def test_a_list_is_cancelled_as_one_and_an_unknown_order_is_told(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty="1000")
        placed = await client.create_oco_order(**OCO)
        assert [one["orderListId"] for one in await client.v3_get_open_order_list()] == [placed["orderListId"]]
        ended = await client.v3_delete_order_list(symbol="BTCUSDT", listClientOrderId="both")
        assert [r["status"] for r in ended["orderReports"]] == ["CANCELED", "CANCELED"]
        assert await client.v3_get_open_order_list() == []
        assert await refused(client.cancel_order(symbol="BTCUSDT", origClientOrderId="goal")) == -2011
        assert await refused(client.get_order(symbol="BTCUSDT", origClientOrderId="nobody")) == -2013
        assert await refused(client.v3_delete_order_list(symbol="BTCUSDT", listClientOrderId="both")) == -2011
        assert await refused(client.v3_get_order_list(origClientOrderId="nobody")) == -2018


async def test_spot_orders_over_websocket_requests(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "95000"}
        assert (await client.ws_create_order(**order, newClientOrderId="a"))["status"] == "NEW"
        with pytest.raises(BinanceAPIException, match="Duplicate order"):
            await client.ws_create_order(**order, newClientOrderId="a")
        gone = await client.ws_cancel_order(symbol="BTCUSDT", origClientOrderId="a")
        assert (gone["status"], gone["origClientOrderId"]) == ("CANCELED", "a")


def subscription() -> str:
    params: dict[str, Any] = {"apiKey": KEY, "timestamp": time.time_ns() // 1_000_000}
    proof = hmac.new(SECRET.encode(), urlencode(params).encode(), hashlib.sha256).hexdigest()
    return json.dumps({"id": 1, "method": "userDataStream.subscribe.signature", "params": {**params, "signature": proof}})


async def test_the_user_stream_of_spot_dies_with_its_connection_and_says_nothing(tmp_path: Path) -> None:
    """Who only opens the connection again hears nothing: a trap that must be there to be met."""
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        async with here.session.ws_connect(here.ws + "/ws-api/v3") as socket:
            await socket.send_str(subscription())
            assert (await socket.receive_json(timeout=5))["result"] == {"subscriptionId": 0}
            await socket.send_str(subscription())
            assert (await socket.receive_json(timeout=5))["error"]["code"] == -2035
            assert (await here.order_control("POST", "faults", {"kind": "ws-abort", "route": "user"}))["connections"] == 1
            assert (await socket.receive(timeout=5)).type is not WSMsgType.TEXT
        async with here.session.ws_connect(here.ws + "/ws-api/v3") as socket:
            await client.create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
            await socket.send_str(subscription())
            assert (await socket.receive_json(timeout=5))["id"] == 1  # nothing came before the answer
            await client.create_order(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.009", newClientOrderId="x-1")
            told = [await socket.receive_json(timeout=5) for _ in range(3)]
            assert {one["subscriptionId"] for one in told} == {0}
            assert story([one["event"] for one in told]) == ["x-1 NEW NEW", "x-1 TRADE FILLED"]


async def test_a_connection_ends_after_its_day_and_who_talks_too_much_is_put_out(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        assert here.exchange.hub.life_s == 86_400
        async with here.session.ws_connect(here.ws + "/market/ws/btcusdt@trade") as socket:
            for number in range(12):
                await socket.send_str(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            heard = [await socket.receive(timeout=5)]
            while heard[-1].type is WSMsgType.TEXT:
                heard.append(await socket.receive(timeout=5))
            assert (heard[-1].type, heard[-1].data) == (WSMsgType.CLOSE, 1008)
        assert await here.order_control("POST", "sockets", {"life_s": 0.2}) == {"life_s": 0.2}
        for path in ("/private/ws", "/ws-fapi/v1", "/ws-api/v3"):
            async with here.session.ws_connect(here.ws + path) as socket:
                ended = await socket.receive(timeout=5)
                assert (ended.type, ended.data) == (WSMsgType.CLOSE, 1001)
        assert "why" in await here.order_control("POST", "sockets", {"life_s": -1})


async def test_a_lost_answer_leaves_the_spot_order_in_place(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await here.order_control("POST", "faults", {"route": "POST api/v3/order", "kind": "accept-then-503"})
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "95000"}
        await refused(client.create_order(**order, newClientOrderId="a"))
        assert (await client.get_order(symbol="BTCUSDT", origClientOrderId="a"))["status"] == "NEW"


async def test_spot_market_data_and_its_filters(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        (symbol,) = (await client.get_exchange_info())["symbols"]
        rules = {f["filterType"]: f for f in symbol["filters"]}
        assert (rules["PRICE_FILTER"]["tickSize"], rules["LOT_SIZE"]["stepSize"]) == ("0.01000000", "0.00001000")
        book = await client.get_order_book(symbol="BTCUSDT", limit=5)
        assert len(book["bids"]) == len(book["asks"]) == 5
        assert D(book["bids"][0][0]) < D(book["asks"][0][0])
        assert len(await client.get_klines(symbol="BTCUSDT", interval="5m", limit=3)) == 3
        assert (await client.get_symbol_ticker(symbol="BTCUSDT"))["price"] == "95999.50000000"
        assert (await client.get_orderbook_ticker(symbol="BTCUSDT"))["bidPrice"] == book["bids"][0][0]


async def test_spot_answers_and_events_have_the_recorded_shapes(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "binance"
    if not folder.is_dir():
        pytest.skip(f"no recorded shapes at {folder}")
    known = json.loads((folder / "gocryptotrader" / "http_recorded.json").read_text())

    def recorded(route: str) -> Any:
        data = known[route]["data"]
        return data[0] if isinstance(data, list) and "symbols" in data[0] else data

    async with staged(SCRIPT, tmp_path) as here, client_of(here) as client:
        user = BinanceSocketManager(client).user_socket()
        user.TIMEOUT = 0.2
        async with user:
            await here.go_to(2)
            await client.create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
            limit = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "95000"}
            await client.create_order(**limit, quantity="0.01", newClientOrderId="a")
            await client.create_oco_order(**OCO)
            answers = {
                "GET /api/v3/order": await client.get_order(symbol="BTCUSDT", origClientOrderId="a"),
                "GET /api/v3/openOrders": await client.get_open_orders(symbol="BTCUSDT"),
                "GET /api/v3/allOrders": await client.get_all_orders(symbol="BTCUSDT"),
                "DELETE /api/v3/order": await client.cancel_order(symbol="BTCUSDT", origClientOrderId="a"),
                "GET /api/v3/depth": await client.get_order_book(symbol="BTCUSDT"),
                "GET /api/v3/exchangeInfo": await client.get_exchange_info(),
            }
            await client.create_order(**{**limit, "timeInForce": "IOC"}, quantity="0.01")
            heard = await said(user)
    problems = [problem for route, ours in answers.items() for problem in lacking(recorded(route), ours, route)]
    reports = {f"{e['x']} {e['o']}": e for e in heard if e["e"] == "executionReport"}
    others = {e["e"]: e for e in heard}
    events = folder / "documented" / "spot" / "user_data_json"
    for file, ours in (
        ("execution_report_new", reports["NEW LIMIT"]),
        ("execution_report_wrapped", reports["NEW LIMIT"]),
        ("execution_report_trade", reports["TRADE MARKET"]),
        ("execution_report_canceled", reports["CANCELED LIMIT"]),
        ("execution_report_expired", reports["EXPIRED LIMIT"]),
        ("execution_report_stop_loss", reports["NEW STOP_LOSS"]),
        ("account_position", others["outboundAccountPosition"]),
        ("list_status_wrapped", others["listStatus"]),
    ):
        example = json.loads((events / f"{file}.json").read_text())
        problems += lacking(example.get("event", example), ours, file)
    # what the example melts into one object, or what no event of ours can have
    assert [p for p in problems if ".filters[]" not in p] == []
