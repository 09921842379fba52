"""The wider protocol with the real python-binance client: batches, amendments, money, depth, and requests over WebSocket."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal as D
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from binance import AsyncClient
from binance.exceptions import BinanceAPIException

from infra.venue.depth import DepthBook
from infra.venue.local.market.base import FUNDING_MS, Mark
from infra.venue.local.scripted import START_T, at_price, walk
from infra.venue.local.staged import KEY, SECRET, Staged, staged

P = 960_000
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010", "price": "95000.0"}


@asynccontextmanager
async def client_of(here: Staged) -> AsyncIterator[AsyncClient]:
    class Local(AsyncClient):  # type: ignore[misc]
        FUTURES_URL = here.http + "/fapi"
        WS_FUTURES_URL = here.ws + "/ws-fapi/v1"

    client = Local(KEY, SECRET)
    client.ws_future.TIMEOUT = 0.2  # its reader looks only so often whether it shall end
    try:
        yield client
    finally:
        await client.ws_future.close()
        await client.close_connection()


async def refused(call: Any) -> int:
    with pytest.raises(BinanceAPIException) as caught:
        await call
    return int(caught.value.code)


async def test_batches_amendments_and_the_countdown(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        rows = [{**ORDER, "newClientOrderId": "a"}, {**ORDER, "newClientOrderId": "b", "quantity": "0.0001"}]
        batch = [*rows, {**ORDER, "newClientOrderId": "c", "price": "94000.0"}]
        placed = await client.futures_place_batch_order(batchOrders=batch)
        assert [row.get("clientOrderId") or row["code"] for row in placed] == ["a", -1111, "c"]
        assert client.response.headers["X-MBX-ORDER-COUNT-10S"] == "5"
        change = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.020", "price": "95100.0"}
        amended = await client.futures_modify_order(**change, origClientOrderId="a")
        assert (amended["price"], amended["origQty"], amended["modifyId"]) == ("95100.00", "0.020", 1)
        (history,) = await client._request_futures_api("get", "orderAmendment", True, data={"symbol": "BTCUSDT"})
        assert history["amendment"]["price"] == {"before": "95000.00", "after": "95100.00"}
        # this client signs lists rightly only under their old names in small letters
        cancelled = await client.futures_cancel_orders(symbol="BTCUSDT", origclientorderidlist=["c", "nobody"])
        assert [row.get("status") or row["code"] for row in cancelled] == ["CANCELED", -2011]
        here.exchange.clock.resume(time.monotonic())
        answer = await client.futures_countdown_cancel_all(symbol="BTCUSDT", countdownTime=100)
        assert answer == {"symbol": "BTCUSDT", "countdownTime": "100"}
        assert len(await client.futures_get_open_orders(symbol="BTCUSDT")) == 1
        await asyncio.sleep(0.25)
        assert await client.futures_get_open_orders(symbol="BTCUSDT") == []


async def test_money_that_moves_without_an_order(tmp_path: Path) -> None:
    due = START_T - START_T % FUNDING_MS + FUNDING_MS
    late = [Mark("BTCUSDT", due + ms, D(96_000), D(96_000), D("0.0001"), due + FUNDING_MS) for ms in (0, 1_000)]
    crash = at_price("BTCUSDT", due + 5_000, P // 2)
    async with staged([*walk("BTCUSDT", [P] * 3), *late, *crash], tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")
        await client.futures_create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010")
        moved = await client.futures_change_position_margin(symbol="BTCUSDT", amount="5", type=1)
        assert (moved["amount"], moved["type"]) == (5, 1)
        (row,) = await client.futures_position_margin_history(symbol="BTCUSDT")
        assert (row["amount"], row["type"]) == ("5", 1)
        (position,) = await client.futures_position_information(symbol="BTCUSDT")
        assert D(position["isolatedWallet"]) == D("48.00005") + 5
        await here.go_to((due - START_T) / 1000 + 2)
        (paid,) = await client.futures_income_history(incomeType="FUNDING_FEE")
        assert (paid["income"], paid["time"]) == ("-0.09600000", due)
        assert [r["fundingTime"] for r in await client.futures_funding_rate(symbol="BTCUSDT")] == [due]
        async with here.session.ws_connect(here.ws + "/market/ws/!forceOrder@arr") as socket:
            await asyncio.sleep(0.05)
            await here.go_to((due - START_T) / 1000 + 6)
            forced = await socket.receive_json(timeout=2)
        assert (forced["e"], forced["o"]["S"], forced["o"]["X"]) == ("forceOrder", "SELL", "FILLED")
        (order,) = await client._request_futures_api("get", "forceOrders", True, data={})
        assert order["clientOrderId"].startswith("autoclose-")
        (balance,) = await client.futures_account_balance()
        assert D("9946") < D(balance["balance"]) < D("9948")


async def test_a_hedged_account_over_the_wire(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_change_position_mode(dualSidePosition="true")
        assert (await client.futures_get_position_mode())["dualSidePosition"] is True
        assert (await client.futures_change_multi_assets_mode(multiAssetsMargin=False))["code"] == 200
        assert await refused(client.futures_change_multi_assets_mode(multiAssetsMargin=True)) == -4084
        market = {"symbol": "BTCUSDT", "type": "MARKET", "quantity": "0.010"}
        assert await refused(client.futures_create_order(**market, side="BUY")) == -4061
        await client.futures_create_order(**market, side="BUY", positionSide="LONG")
        await client.futures_create_order(**market, side="SELL", positionSide="SHORT")
        held = await client.futures_position_information()
        assert [(p["positionSide"], p["positionAmt"]) for p in held] == [("LONG", "0.010"), ("SHORT", "-0.010")]
        trades = await client.futures_account_trades(symbol="BTCUSDT")
        assert [t["positionSide"] for t in trades] == ["LONG", "SHORT"]


async def test_a_book_built_from_depth_has_no_gap_and_never_crosses(tmp_path: Path) -> None:
    script = walk("BTCUSDT", [P + (i * 37) % 90 for i in range(60)])
    async with staged(script, tmp_path) as here, client_of(here) as client:
        streams = "btcusdt@depth@100ms/btcusdt@depth5/btcusdt@markPrice"
        async with here.session.ws_connect(f"{here.ws}/public/stream?streams={streams}") as socket:
            await asyncio.sleep(0.05)
            await here.go_to(1)
            snapshot = await client.futures_order_book(symbol="BTCUSDT", limit=1000)
            for second in range(2, 40):
                await here.go_to(second)
            heard = []
            while True:
                try:
                    heard.append(await socket.receive_json(timeout=0.2))
                except TimeoutError:
                    break
            last = await client.futures_order_book(symbol="BTCUSDT", limit=1000)
    events = [m["data"] for m in heard if m["stream"] == "btcusdt@depth@100ms"]
    assert len(events) > 20
    for before, event in pairwise(events):
        assert event["pu"] == before["u"]
        assert event["U"] == before["u"] + 1
    book, end = DepthBook(snapshot), DepthBook(last)
    for event in events:
        book.apply(event)
        assert not book.is_crossed
    assert (book.bids, book.asks) == (end.bids, end.asks)
    tops = [m["data"] for m in heard if m["stream"] == "btcusdt@depth5"]
    assert tops
    assert all(len(t["b"]) == len(t["a"]) == 5 for t in tops)


async def test_streams_of_all_symbols_and_endless_candles(tmp_path: Path) -> None:
    names = ["!markPrice@arr@1s", "btcusdt_perpetual@continuousKline_1m", "btcusdt@ticker", "!miniTicker@arr"]
    async with staged(walk("BTCUSDT", [P] * 70), tmp_path) as here, client_of(here) as client:
        async with here.session.ws_connect(f"{here.ws}/market/stream?streams={'/'.join(names)}") as socket:
            await asyncio.sleep(0.05)
            await here.go_to(30)
            await here.go_to(65)
            heard: dict[str, list[Any]] = {}
            for _ in range(9):
                message = await socket.receive_json(timeout=2)
                heard.setdefault(message["stream"], []).append(message["data"])
        assert set(heard) == set(names)
        assert heard[names[0]][0][0]["e"] == "markPriceUpdate"
        candles = heard[names[1]]
        assert {(c["e"], c["ps"], c["ct"]) for c in candles} == {("continuous_kline", "BTCUSDT", "PERPETUAL")}
        assert any(c["k"]["x"] for c in candles)
        day = await client.futures_ticker(symbol="BTCUSDT")
        assert (day["lastPrice"], day["count"] > 288) == ("96000.00", True)
        assert D((await client.futures_open_interest(symbol="BTCUSDT"))["openInterest"]) > 0


async def test_orders_over_websocket_requests(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        placed = await client.ws_futures_create_order(**ORDER, newClientOrderId="a")
        assert (placed["clientOrderId"], placed["status"]) == ("a", "NEW")
        assert (await client.ws_futures_get_order(symbol="BTCUSDT", orderId=placed["orderId"]))["clientOrderId"] == "a"
        with pytest.raises(BinanceAPIException, match="-4116"):
            await client.ws_futures_create_order(**ORDER, newClientOrderId="a")
        assert (await client.ws_futures_cancel_order(symbol="BTCUSDT", orderId=placed["orderId"]))["status"] == "CANCELED"


async def test_websocket_requests_are_signed_counted_and_disturbed(tmp_path: Path) -> None:
    def signed(secret: str = SECRET, **params: Any) -> dict[str, Any]:
        whole = dict(sorted({**params, "apiKey": KEY, "timestamp": time.time_ns() // 1_000_000}.items()))
        return {**whole, "signature": hmac.new(secret.encode(), urlencode(whole).encode(), hashlib.sha256).hexdigest()}

    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here:
        await here.go_to(2)
        async with here.session.ws_connect(here.ws + "/ws-fapi/v1") as socket:

            async def ask(method: str, params: dict[str, Any]) -> Any:
                await socket.send_str(json.dumps({"id": method, "method": method, "params": params}))
                return await socket.receive_json(timeout=2)

            stop = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "triggerPrice": "90000"}
            answer = await ask("algoOrder.place", signed(**stop, quantity="0.010", clientAlgoId="s-1", reduceOnly="true"))
            assert (answer["status"], answer["result"]["algoStatus"]) == (200, "NEW")
            assert [limit["count"] for limit in answer["rateLimits"]] == [1, 1]
            answer = await ask("algoOrder.cancel", signed(clientAlgoId="s-1"))
            assert answer["result"]["code"] == "200"
            answer = await ask("order.place", signed("wrong", **ORDER))
            assert (answer["status"], answer["error"]["code"]) == (400, -1022)
            assert (await ask("order.dance", {}))["status"] == 400
            await here.order_control("POST", "faults", {"route": "WS order.place", "kind": "accept-then-1007"})
            answer = await ask("order.place", signed(**ORDER, newClientOrderId="lost"))
            assert (answer["status"], answer["error"]["code"]) == (408, -1007)
            answer = await ask("order.status", signed(symbol="BTCUSDT", origClientOrderId="lost"))
            assert answer["result"]["status"] == "NEW"
            assert (await ask("v2/account.position", signed()))["result"]
