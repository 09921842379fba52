"""Sockets that never end: each is watched, and rebuilt as a new object at the first doubt.

The library reconnects by itself, gives up after five tries, throws away its queue when that is full and says nothing about what
was missed. So: any error message, a closed read loop, silence, age or a lost listen key ends the connection here; the next one
is a new object of a new manager, after a jittered back-off without limit. Each connection is an `epoch`; a new epoch begins with
an empty batch, at which the consumer repairs the gap by REST. What comes in is taken from the library at once into a bounded
buffer; when that is full (the consumer cannot write on), the connection is closed until there is room: nothing is dropped
in silence, the next epoch repairs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from binance.ws.constants import WSListenerState
from binance.ws.reconnecting_websocket import ReconnectingWebsocket
from binance.ws.streams import BinanceSocketManager
from websockets.exceptions import WebSocketException

from infra import logs
from infra.settings import Settings
from infra.venue.binance import spot_wire, wire
from infra.venue.binance.calls import RestClient
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.spot import BinanceSpot
from infra.venue.port import Batch, Stream, VenueError

log = logs.get(__name__)
logging.getLogger("binance.ws").setLevel(logging.CRITICAL)  # what ends a socket is told here, once

QUEUE = 100_000
"""The library's own queue: never the one that fills."""
BUFFER = 50_000
SILENCE_S = 30.0
MAX_AGE_S = 23.5 * 3600
KEEP_KEY_S = 1500.0
BACK_OFF_S = (0.1, 30.0)
PING_S = 10.0

Build = Callable[[], Awaitable[ReconnectingWebsocket]]


class Broken(Exception):
    """Why a connection was given up."""


_FAILURES = (Broken, VenueError, OSError, TimeoutError, EOFError, WebSocketException)


class Socket:
    """One subscription (infra.venue.port.Stream).

    `build` makes a fresh, unconnected socket; `parse` turns a decoded message into ours (None: not for us); `keep` runs beside
    each connection.
    """

    def __init__(
        self,
        name: str,
        build: Build,
        parse: Callable[[Any], Any],
        *,
        silence_s: float = SILENCE_S,
        max_age_s: float = MAX_AGE_S,
        buffer: int = BUFFER,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.epoch = 0
        self.unreadable = 0
        self._build = build
        self._parse = parse
        self._silence_s = silence_s
        self._max_age_s = max_age_s
        self._buffer = buffer
        self._keep = keep
        self._pending: list[Batch] = []
        self._size = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._connected = False
        self._heard = time.monotonic()
        self._doubt: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def rebuilds(self) -> int:
        return max(0, self.epoch - 1)

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self._heard

    def doubt(self, why: str) -> None:
        """Somebody knows that this connection misses something: it is rebuilt."""
        self._doubt = why

    async def batches(self) -> AsyncIterator[Batch]:
        """Endless; ends only with `close`. Batches of one epoch are in the order of the connection."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"socket-{self.name}")
            self._task.add_done_callback(lambda _: self._arrived.set())
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending, self._pending, self._size = self._pending, [], 0
            self._room.set()
            for batch in pending:
                yield batch
            if self._task.done() and not self._pending:
                if not self._task.cancelled():
                    self._task.result()
                return

    async def close(self) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: the library may swallow one
            await asyncio.wait({self._task}, timeout=0.5)

    # -- the supervisor

    async def _run(self) -> None:
        wait = BACK_OFF_S[0]
        while True:
            await self._room.wait()
            began = time.monotonic()
            try:
                await self._live()
            except _FAILURES as e:
                why = f"{type(e).__name__} {e}".strip()
                log.warning("socket broken", socket=self.name, epoch=self.epoch, why=why)
            self._connected = False
            wait = BACK_OFF_S[0] if time.monotonic() - began > 10 else min(wait * 2, BACK_OFF_S[1])
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))

    async def _live(self) -> None:
        """One connection, until something is wrong with it (raises)."""
        socket = await self._build()
        socket.MAX_RECONNECTS = 0  # its own reconnecting would outlive our giving it up, and leave a second connection open
        keeper: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(10):
                await socket.connect()
            self.epoch += 1
            self._doubt = None
            self._connected = True
            born = time.monotonic()
            self._pending.append(Batch(self.epoch, ()))
            self._arrived.set()
            keeper = asyncio.ensure_future(self._keep()) if self._keep else None
            while True:
                await self._read(socket)
                if keeper is not None and keeper.done():
                    keeper.result()
                if self._doubt is not None:
                    raise Broken(self._doubt)
                if time.monotonic() - max(self._heard, born) > self._silence_s:
                    raise Broken(f"no message for {self._silence_s:.0f} s")
                if time.monotonic() - born > self._max_age_s:
                    raise Broken("old enough: the exchange cuts at 24 h")
                if self._size >= self._buffer:
                    self._room.clear()
                    raise Broken(f"{self._size} messages are not written on: reading stops until there is room")
        finally:
            self._connected = False
            if keeper is not None:
                keeper.cancel()
            await _dismantle(socket)

    def _put(self, batch: Batch) -> None:
        if not batch.messages:
            return  # an empty batch has a meaning: a new epoch
        self._pending.append(batch)
        self._size += len(batch.messages)
        self._arrived.set()

    async def _read(self, socket: ReconnectingWebsocket) -> None:
        """Takes all that lies ready, waiting up to a second for it. Raises Broken on the library's own error messages.

        From the library's queue itself: its `recv` withholds what is queued once its loop has ended, and its nested `wait_for`s
        swallow a cancellation now and then.
        """
        queue: asyncio.Queue[Any] = socket._queue
        try:
            async with asyncio.timeout(1.0):
                found = [await queue.get()]
        except TimeoutError:
            if socket._handle_read_loop is None:
                raise Broken("the read loop has ended") from None
            return
        while not queue.empty():
            found.append(queue.get_nowait())
        self._heard = time.monotonic()
        messages: list[Any] = []
        for message in found:
            if message.get("e") in ("error", "listenKeyExpired"):
                self._put(Batch(self.epoch, messages))
                raise Broken(f"{message['e']} {message.get('type', '')} {message.get('m', '')}".strip())
            try:
                parsed = self._parse(message)
            except (KeyError, ValueError, TypeError, ArithmeticError) as e:
                self.unreadable += 1
                log.error("message that cannot be read", socket=self.name, why=repr(e), payload=str(message)[:500])
                continue
            if parsed is not None:
                messages.append(parsed)
        self._put(Batch(self.epoch, messages))


async def _dismantle(socket: ReconnectingWebsocket) -> None:
    """Ends the library's read loop at once (left alone it waits up to 10 s) and both of its ways to come back."""
    socket.ws_state = WSListenerState.EXITING
    ws = socket.ws
    if ws is not None:
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(1.0):
                await ws.close()
    with contextlib.suppress(*_FAILURES):
        async with asyncio.timeout(2.0):
            await socket.close()


class _Sockets(BinanceSocketManager):  # type: ignore[misc]  # the library has no types
    """Addresses moved as in client.py."""


def _manager(client: RestClient, url: str) -> BinanceSocketManager:
    ws = url + "/"
    names = [f"{kind}STREAM_{which}URL" for kind in ("", "F", "D") for which in ("", "TESTNET_", "DEMO_")]
    manager = type("RedirectedSockets", (_Sockets,), dict.fromkeys(names, ws))(client, max_queue_size=QUEUE)
    manager.ws_kwargs = {"ping_interval": PING_S, "ping_timeout": PING_S}
    return manager


def market_stream(settings: Settings, client: RestClient, symbols: Sequence[str], **options: Any) -> Socket:
    """aggTrade and markPrice of all symbols on ONE connection: its message order is market time order."""
    names = [f"{symbol.lower()}@{what}" for symbol in symbols for what in ("aggTrade", "markPrice@1s")]
    return _multiplex(settings, client, "market", names, **options)


def quote_stream(settings: Settings, client: RestClient, symbols: Sequence[str], **options: Any) -> Socket:
    return _multiplex(settings, client, "public", [f"{symbol.lower()}@bookTicker" for symbol in symbols], **options)


def _multiplex(settings: Settings, client: RestClient, category: str, names: list[str], **options: Any) -> Socket:
    async def build() -> ReconnectingWebsocket:
        return _manager(client, settings.stream_url).futures_multiplex_socket(names, category=category)

    return Socket(category, build, wire.market_event, **options)


def user_stream(settings: Settings, venue: BinanceUsdm, **options: Any) -> Socket:
    """The account's own events. The listen key is ours to keep: the library notices a change only after minutes."""
    ws = settings.stream_url

    async def build() -> ReconnectingWebsocket:
        key = await venue.listen_key()
        return ReconnectingWebsocket(
            url=f"{ws}/private/",
            path=f"?listenKey={key}",
            prefix="ws",
            max_queue_size=QUEUE,
            ping_interval=PING_S,
            ping_timeout=PING_S,
        )

    async def keep() -> None:
        while True:
            await asyncio.sleep(KEEP_KEY_S)
            await venue.keep_listen_key()

    return Socket("user", build, wire.user_event, silence_s=options.pop("silence_s", float("inf")), keep=keep, **options)


class _Subscribing(ReconnectingWebsocket):  # type: ignore[misc]  # the library has no types
    """Asks for the account's events as soon as it is connected: a new connection hears nothing without."""

    def __init__(self, request: dict[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._request = request

    async def _after_connect(self) -> None:
        await self.ws.send(self.json_dumps(self._request))


def spot_user_stream(settings: Settings, venue: BinanceSpot, **options: Any) -> Socket:
    """Spot has no listen key: a signed subscription on its WebSocket API."""

    async def build() -> ReconnectingWebsocket:
        params = venue.subscription()
        return _Subscribing(
            {"id": 1, "method": "userDataStream.subscribe.signature", "params": params},
            url=f"{settings.spot_ws_url}/ws-api/",
            path="",
            prefix="v3",
            max_queue_size=QUEUE,
            ping_interval=PING_S,
            ping_timeout=PING_S,
        )

    def parse(message: Any) -> Any:
        if message.get("status", 200) != 200:
            raise Broken(f"the subscription is refused: {message.get('error')}")
        return spot_wire.user_event(message)

    return Socket("spot-user", build, parse, silence_s=options.pop("silence_s", float("inf")), **options)


if TYPE_CHECKING:
    _stream: type[Stream] = Socket
