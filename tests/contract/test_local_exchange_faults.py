"""Faults and the acts of others, as the real python-binance client meets them over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from binance import AsyncClient
from binance.exceptions import BinanceAPIException

from infra.venue.local.scripted import walk
from infra.venue.local.staged import KEY, SECRET, Staged, staged

P = 960_000
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010", "price": "95000.0"}
STOP = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "workingType": "MARK_PRICE", "closePosition": "true"}


@asynccontextmanager
async def client_of(here: Staged) -> AsyncIterator[AsyncClient]:
    class Local(AsyncClient):  # type: ignore[misc]
        FUTURES_URL = here.http + "/fapi"

    client = Local(KEY, SECRET)
    try:
        yield client
    finally:
        await client.close_connection()


async def refused(call: Any) -> BinanceAPIException:
    with pytest.raises(BinanceAPIException) as caught:
        await call
    return caught.value


async def test_answers_that_say_nothing_and_refusals_of_every_code(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        for kind, status, code in (("accept-then-html", 502, 0), ("accept-then-1007", 408, -1007)):
            await here.order_control("POST", "faults", {"route": "order", "kind": kind})
            no = await refused(client.futures_create_order(**ORDER, newClientOrderId=kind))
            assert (no.status_code, no.code) == (status, code)
            assert (await client.futures_get_order(symbol="BTCUSDT", origClientOrderId=kind))["status"] == "NEW"
        for code in (-1021, -1008, -4116, -4130, -2021, -2022, -1111):
            await here.order_control("POST", "faults", {"route": "order", "kind": f"refuse{code}"})
            assert (await refused(client.futures_create_order(**ORDER, newClientOrderId="x"))).code == code
        await here.order_control("POST", "faults", {"route": "GET order", "kind": "refuse-2013", "for_s": 0.3})
        living = {"symbol": "BTCUSDT", "origClientOrderId": "accept-then-html"}
        assert (await refused(client.futures_get_order(**living))).code == -2013
        await asyncio.sleep(0.35)
        assert (await client.futures_get_order(**living))["status"] == "NEW"
        await here.order_control("POST", "faults", {"route": "order", "kind": "429", "retry_after_s": 9})
        no = await refused(client.futures_create_order(**ORDER))
        assert (no.status_code, no.code, no.response.headers["Retry-After"]) == (429, -1003, "9")


async def test_limits_are_real_and_can_be_switched(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_get_open_orders()
        before = int(client.response.headers["X-MBX-USED-WEIGHT-1M"])
        assert before >= 40
        await client.futures_create_order(**ORDER)
        assert client.response.headers["X-MBX-ORDER-COUNT-10S"] == "1"
        here.exchange.door.limits.weight.limit = 60
        await refused(client.futures_get_open_orders())
        no = await refused(client.futures_get_open_orders())
        assert (no.status_code, 0 < int(no.response.headers["Retry-After"]) <= 60) == (429, True)
        assert (await here.order_control("POST", "limits", {"enforced": False}))["refused"] == 2
        await client.futures_get_open_orders()


async def test_reads_may_be_older_than_the_stream(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await here.order_control("POST", "faults", {"route": "GET positionRisk", "kind": "stale"})
        await client.futures_create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010")
        assert await client.futures_position_information() == []
        assert [p["positionAmt"] for p in await client.futures_position_information()] == ["0.010"]


async def test_another_hand_trades_and_a_symbol_leaves(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        done = await here.order_control("POST", "trade", {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.010"})
        assert done["clientOrderId"].startswith("web_")
        assert [p["positionAmt"] for p in await client.futures_position_information()] == ["0.010"]
        await here.order_control("POST", "symbol", {"symbol": "BTCUSDT", "status": "SETTLING"})
        assert (await client.futures_exchange_info())["symbols"][0]["status"] == "SETTLING"
        assert (await refused(client.futures_create_order(**ORDER))).code == -4140
        await client.futures_create_algo_order(**STOP, triggerPrice="90000.0")
        close = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.010", "reduceOnly": "true"}
        await here.order_control("POST", "symbol", {"symbol": "BTCUSDT", "status": "CLOSE"})
        assert (await refused(client.futures_create_order(**close))).code == -4141
        await here.order_control("POST", "symbol", {"symbol": "BTCUSDT", "status": "TRADING"})
        await client.futures_create_order(**close)
        assert "why" in await here.order_control("POST", "trade", {"symbol": "BTCUSDT", "side": "BUY"})


async def test_the_exchange_takes_a_part_and_another_hand_cancels_stops(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010")
        await client.futures_create_algo_order(**STOP, triggerPrice="90000.0", clientAlgoId="s-1")
        done = await here.order_control("POST", "autoclose", {"symbol": "BTCUSDT", "quantity": "0.004"})
        assert done["clientOrderId"] == "adl_autoclose"
        step = await here.order_control("POST", "autoclose", {"symbol": "BTCUSDT", "quantity": "0.001", "by": "LIQUIDATION"})
        assert step["clientOrderId"].startswith("autoclose-")
        assert [p["positionAmt"] for p in await client.futures_position_information()] == ["0.005"]
        assert "why" in await here.order_control("POST", "autoclose", {"symbol": "BTCUSDT", "quantity": "1", "by": "nobody"})
        assert (await here.order_control("POST", "cancel", {"symbol": "BTCUSDT"}))["cancelled"] == ["s-1"]
        assert await client.futures_get_open_algo_orders() == []
        await here.order_control("POST", "autoclose", {"symbol": "BTCUSDT", "quantity": "9"})
        assert await client.futures_position_information() == []
        assert "why" in await here.order_control("POST", "autoclose", {"symbol": "BTCUSDT", "quantity": "1"})


async def test_lists_leave_out_denials_last_in_market_time_and_a_lost_request_arrives_late(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 9), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_create_order(**ORDER, newClientOrderId="first")
        hide = {"route": "GET openOrders", "kind": "hide", "only": "BTCUSDT"}
        await here.order_control("POST", "faults", hide)
        assert await client.futures_get_open_orders() == []
        await here.order_control("POST", "faults", hide | {"only": "ETHUSDT"})
        assert len(await client.futures_get_open_orders()) == 1
        living = {"symbol": "BTCUSDT", "origClientOrderId": "first"}
        await here.order_control("POST", "faults", {"route": "GET order", "kind": "refuse-2013", "for_market_s": 3})
        for _ in range(2):
            assert (await refused(client.futures_get_order(**living))).code == -2013
        await here.go_to(5)
        assert (await client.futures_get_order(**living))["status"] == "NEW"
        await here.order_control("POST", "faults", {"route": "order", "kind": "late-1007", "delay_s": 0.2})
        no = await refused(client.futures_create_order(**ORDER, newClientOrderId="late"))
        assert (no.status_code, no.code) == (408, -1007)
        late = {"symbol": "BTCUSDT", "origClientOrderId": "late"}
        assert (await refused(client.futures_get_order(**late))).code == -2013
        await asyncio.sleep(0.3)
        assert (await client.futures_get_order(**late))["status"] == "NEW"


async def test_protection_may_be_refused_at_its_trigger(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P, P, P, P - 20_000]), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await client.futures_create_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010")
        await client.futures_create_algo_order(**STOP, triggerPrice="95000.0", clientAlgoId="s-1")
        await here.order_control("POST", "faults", {"route": "BTCUSDT", "kind": "algo-reject"})
        await here.go_to(3)
        assert (await client.futures_get_algo_order(clientAlgoId="s-1"))["algoStatus"] == "REJECTED"
        assert [p["positionAmt"] for p in await client.futures_position_information()] == ["0.010"]


async def test_a_thin_book_fills_a_part_and_a_wrong_clock_refuses(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 3), tmp_path) as here, client_of(here) as client:
        await here.go_to(2)
        await here.order_control("POST", "liquidity", {"symbol": "BTCUSDT", "most": "0.004"})
        placed = await client.futures_create_order(**{**ORDER, "price": "96100.0"}, newOrderRespType="RESULT")
        assert (placed["status"], placed["executedQty"]) == ("PARTIALLY_FILLED", "0.004")
        cancelled = await client.futures_cancel_order(symbol="BTCUSDT", orderId=placed["orderId"])
        assert (cancelled["status"], cancelled["executedQty"]) == ("CANCELED", "0.004")
        await here.order_control("POST", "skew", {"ms": 60_000})
        assert (await refused(client.futures_account())).code == -1021
        server_ms = (await client.futures_time())["serverTime"]
        await here.order_control("POST", "skew", {"ms": 0})
        assert server_ms - (await client.futures_time())["serverTime"] > 50_000


async def test_connections_are_cut_closed_and_left_half_open(tmp_path: Path) -> None:
    async with staged(walk("BTCUSDT", [P] * 9), tmp_path) as here, client_of(here) as client:
        key = await client.futures_stream_get_listen_key()
        address = f"{here.ws}/private/ws?listenKey={key}"
        async with (
            here.session.ws_connect(address) as user,
            here.session.ws_connect(here.ws + "/market/ws/btcusdt@trade") as market,
        ):
            await asyncio.sleep(0.05)
            assert (await here.order_control("POST", "faults", {"kind": "ws-1001", "route": "market"}))["connections"] == 1
            farewell = await market.receive(timeout=2)
            assert (farewell.type, farewell.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            await here.order_control("POST", "faults", {"kind": "ws-half-open", "route": "user"})
            await client.futures_create_order(**ORDER)
            with pytest.raises(TimeoutError):
                await user.receive(timeout=0.2)
            await here.order_control("POST", "faults", {"kind": "ws-abort", "route": "*"})
            assert (await user.receive(timeout=2)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with here.session.ws_connect(address) as user:
            await asyncio.sleep(0.05)
            await user.ping()
            await here.order_control("POST", "faults", {"kind": "listen-key-expired"})
            assert (await user.receive_json(timeout=2))["e"] == "listenKeyExpired"
