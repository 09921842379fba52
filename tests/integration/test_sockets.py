"""A subscription that never ends: whatever happens to a connection, a new one follows, and nothing is dropped in silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from infra.ports import free_port
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.sockets import Socket, market_stream, user_stream
from infra.venue.port import OrderSeen, TradeSeen


class Exchange:
    """Streams trades with rising ids to whoever connects; does to its connections what a test asks for."""

    def __init__(self) -> None:
        self.port = free_port()
        self.settings = Settings(exchange_port=self.port)
        self.sockets: list[web.WebSocketResponse] = []
        self.paths: list[str] = []
        self.keys = 0
        self.trade_id = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{category}/stream", self._serve)
        app.router.add_get("/private/ws", self._serve)
        app.router.add_post("/fapi/v1/listenKey", self._key)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            for socket in self.sockets:
                await socket.close()
            await self._runner.cleanup()
            self._runner = None

    async def _key(self, request: web.Request) -> web.Response:
        self.keys += 1
        return web.json_response({"listenKey": f"key{self.keys}"})

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.paths.append(request.path_qs)
        async for _ in socket:
            pass
        return socket

    async def say(self, message: dict[str, Any]) -> None:
        await self.sockets[-1].send_str(json.dumps(message))

    async def trade(self, n: int = 1) -> None:
        for _ in range(n):
            self.trade_id += 1
            row = {"e": "aggTrade", "E": 1, "s": "BTCUSDT", "a": self.trade_id, "p": "1", "q": "1", "T": 1, "m": True}
            await self.say({"stream": "btcusdt@aggTrade", "data": row})

    async def joined(self, n: int) -> None:
        async with asyncio.timeout(15):
            while len(self.sockets) < n:  # noqa: ASYNC110 - a test's patience
                await asyncio.sleep(0.02)


class Listener:
    """Keeps what a socket brings: (epoch, ids), an empty list for a new epoch."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.heard: list[tuple[int, list[Any]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for batch in self.socket.batches():
            await self.gate.wait()
            ids = [message.trade.id if isinstance(message, TradeSeen) else message for message in batch.messages]
            self.heard.append((batch.epoch, ids))

    @property
    def ids(self) -> list[int]:
        return [i for _, ids in self.heard for i in ids]

    @property
    def epochs(self) -> list[int]:
        return [epoch for epoch, ids in self.heard if not ids]

    async def until(self, ids: int) -> None:
        async with asyncio.timeout(15):
            while len(self.ids) < ids:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        async with asyncio.timeout(3):
            await self.socket.close()
            await self._task


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    found = Exchange()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def venue(exchange: Exchange) -> AsyncIterator[BinanceUsdm]:
    async with BinanceUsdm(exchange.settings) as found:
        yield found


def listen(exchange: Exchange, venue: BinanceUsdm, **options: Any) -> Listener:
    return Listener(market_stream(exchange.settings, venue.rest, ["BTCUSDT"], **options))


async def test_trades_and_marks_share_one_connection_of_the_market_category(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue)
    await exchange.joined(1)
    await exchange.trade(300)
    await listener.until(300)
    assert listener.ids == list(range(1, 301))
    assert listener.heard[0] == (1, [])
    assert exchange.paths == ["/market/stream?streams=btcusdt@aggTrade/btcusdt@markPrice@1s"]
    await listener.close()
    await asyncio.sleep(0.1)
    assert exchange.sockets[0].closed


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_connection_that_ends_is_followed_by_a_new_epoch(exchange: Exchange, venue: BinanceUsdm, how: str) -> None:
    listener = listen(exchange, venue)
    await exchange.joined(1)
    await exchange.trade(3)
    await listener.until(3)
    if how == "close":
        await exchange.sockets[0].close(code=1001)
    else:
        transport = exchange.sockets[0]._req.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()
    await exchange.joined(2)
    await asyncio.sleep(0.1)
    await exchange.trade(3)
    await listener.until(6)
    assert listener.epochs == [1, 2]
    assert len([socket for socket in exchange.sockets if not socket.closed]) == 1
    await listener.close()


async def test_silence_ends_a_connection(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue, silence_s=1.0)
    await exchange.joined(2)
    assert listener.socket.silent_s > 1.0
    await listener.close()


async def test_age_ends_a_connection(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue, max_age_s=1.0)
    await exchange.joined(1)
    await exchange.trade()
    await exchange.joined(2)
    await listener.close()


@pytest.mark.timeout(60)
async def test_it_comes_back_after_the_library_would_have_given_up(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue)
    await exchange.joined(1)
    await exchange.stop()
    await asyncio.sleep(8)
    assert not listener.socket.connected
    exchange.sockets.clear()
    await exchange.start()
    await exchange.joined(1)
    await asyncio.sleep(0.1)
    await exchange.trade()
    await listener.until(1)
    await listener.close()


async def test_a_consumer_that_stands_still_stops_the_reading_and_loses_nothing_in_silence(
    exchange: Exchange, venue: BinanceUsdm
) -> None:
    listener = listen(exchange, venue, buffer=50)
    await exchange.joined(1)
    await exchange.trade()
    await listener.until(1)
    listener.gate.clear()
    for _ in range(10):
        if exchange.sockets[0].closed:
            break
        await exchange.trade(20)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert not listener.socket.connected
    listener.gate.set()
    await exchange.joined(2)
    await asyncio.sleep(0.1)
    await exchange.trade()
    async with asyncio.timeout(10):
        while listener.ids[-1] != exchange.trade_id:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    by_epoch = {epoch: [i for e, ids in listener.heard if e == epoch for i in ids] for epoch in listener.epochs}
    for ids in by_epoch.values():
        assert ids == list(range(ids[0], ids[0] + len(ids))), "a hole may stand between two epochs only"
    await listener.close()


async def test_a_message_that_cannot_be_read_is_counted_and_ends_nothing(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue)
    await exchange.joined(1)
    await exchange.say({"stream": "x", "data": {"e": "aggTrade", "s": "BTCUSDT"}})
    await exchange.trade()
    await listener.until(1)
    assert listener.socket.unreadable == 1
    assert listener.epochs == [1]
    await listener.close()


async def test_a_lost_listen_key_is_replaced_with_its_connection(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = Listener(user_stream(exchange.settings, venue))
    await exchange.joined(1)
    await exchange.say({"e": "listenKeyExpired", "E": 1, "listenKey": "key1"})
    await exchange.joined(2)
    assert exchange.paths == ["/private/ws?listenKey=key1", "/private/ws?listenKey=key2"]
    o = {"s": "BTCUSDT", "c": "x", "S": "BUY", "o": "MARKET", "x": "NEW", "X": "NEW", "i": 1}
    await asyncio.sleep(0.1)
    await exchange.say({"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": o})
    await listener.until(1)
    assert isinstance(listener.heard[-1][1][0], OrderSeen)
    await listener.close()


async def test_a_doubt_is_enough(exchange: Exchange, venue: BinanceUsdm) -> None:
    listener = listen(exchange, venue)
    await exchange.joined(1)
    listener.socket.doubt("somebody knows better")
    await exchange.joined(2)
    await listener.close()
