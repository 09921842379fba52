"""Who listens to what: connections, their streams and their queues.

A message is written once and queued to all who asked for its stream, in the order in which things happened: what
one connection receives is in market-time order. Trades are never dropped; a listener that does not read is cut off
instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import web

MOST_QUEUED: Final = 100_000
POLICY_VIOLATION: Final = 1008
LIFE_S: Final = 86_400.0

Category = str  # "public", "market", "private", "requests" (WebSocket APIs) or "" (the old unsplit addresses: everything)


def category_of(stream: str) -> Category:
    """Where a stream is served: quotes and depth are public, all else is market."""
    kind = stream.partition("@")[2]
    return "public" if stream == "!bookTicker" or kind.startswith(("bookTicker", "depth", "rpiDepth")) else "market"


class Listener:
    """One WebSocket connection and what waits for it."""

    def __init__(
        self, ws: web.WebSocketResponse, category: Category, *, combined: bool, transport: asyncio.BaseTransport | None = None
    ) -> None:
        self.ws = ws
        self._transport = transport
        self.category = category
        self.combined = combined
        self.streams: dict[str, None] = {}  # in the order of asking
        self.queue: deque[str] = deque()
        self._wake = asyncio.Event()
        self.overrun = False
        self.muted = False  # half-open: the connection stands and nothing comes any more, not even a pong

    def push(self, text: str) -> None:
        if self.muted:
            return
        if len(self.queue) >= MOST_QUEUED:
            self.overrun = True
        else:
            self.queue.append(text)
        self._wake.set()

    def abort(self) -> None:
        """Cut the connection without a word."""
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    async def deliver(self) -> None:
        """Send what is queued until the connection ends."""
        queue, wake, ws = self.queue, self._wake, self.ws
        while not ws.closed:
            await wake.wait()
            wake.clear()
            while queue:
                await ws.send_str(queue.popleft())
            if self.overrun:
                await ws.close(code=POLICY_VIOLATION, message=b"too slow")


class Hub:
    def __init__(self) -> None:
        self._streams: dict[str, dict[Listener, None]] = {}
        self._users: dict[Listener, str] = {}  # and the listen key by which they came
        self._spot_users: dict[Listener, int] = {}  # and the number of their subscription
        self.listeners: dict[Listener, None] = {}
        self.life_s = LIFE_S  # of a connection that begins now
        self.sent = 0
        self.on_the_way: Callable[[str, Callable[[str], None]], None] | None = None  # what befalls user events

    def join(self, listener: Listener) -> None:
        self.listeners[listener] = None

    def leave(self, listener: Listener) -> None:
        self.listeners.pop(listener, None)
        self._users.pop(listener, None)
        self._spot_users.pop(listener, None)
        self.unsubscribe(listener, list(listener.streams))

    def subscribe(self, listener: Listener, streams: list[str]) -> None:
        """A stream of another category is remembered and stays silent, as live."""
        for stream in streams:
            listener.streams[stream] = None
            if listener.category in ("", category_of(stream)):
                self._streams.setdefault(stream, {})[listener] = None

    def unsubscribe(self, listener: Listener, streams: list[str]) -> None:
        for stream in streams:
            listener.streams.pop(stream, None)
            there = self._streams.get(stream)
            if there is not None:
                there.pop(listener, None)
                if not there:
                    del self._streams[stream]

    def join_user(self, listener: Listener, key: str = "") -> None:
        self._users[listener] = key

    def leave_users(self) -> None:
        self._users.clear()

    def join_spot(self, listener: Listener, number: int) -> bool:
        """Spot's user stream over a WebSocket API connection; one subscription each."""
        if listener in self._spot_users:
            return False
        self._spot_users[listener] = number
        return True

    def leave_spot(self, listener: Listener) -> bool:
        return self._spot_users.pop(listener, None) is not None

    def wants(self, stream: str) -> bool:
        return stream in self._streams

    def wanted(self, part: str) -> list[str]:
        """Streams with this in their names that somebody listens to."""
        return [stream for stream in self._streams if part in stream]

    def send(self, stream: str, text: str) -> None:
        listeners = self._streams.get(stream)
        if not listeners:
            return
        wrapped = f'{{"stream":"{stream}","data":{text}}}'
        for listener in listeners:
            listener.push(wrapped if listener.combined else text)
        self.sent += len(listeners)

    def send_user(self, text: str) -> None:
        self._send_by(self._push_user, text)

    def send_spot(self, text: str) -> None:
        self._send_by(self._push_spot, text)

    def _send_by(self, push: Callable[[str], None], text: str) -> None:
        if self.on_the_way is not None:
            self.on_the_way(text, push)
        else:
            push(text)

    def users(self) -> list[Listener]:
        return [*self._users, *self._spot_users]

    def _push_user(self, text: str) -> None:
        for listener, key in self._users.items():
            listener.push(f'{{"stream":"{key}","data":{text}}}' if listener.combined else text)
        self.sent += len(self._users)

    def _push_spot(self, text: str) -> None:
        for listener, number in self._spot_users.items():
            listener.push(f'{{"subscriptionId":{number},"event":{text}}}')
        self.sent += len(self._spot_users)

    def counts(self) -> dict[str, int]:
        return {
            "connections": len(self.listeners),
            "user_streams": len(self._users) + len(self._spot_users),
            "streams": len(self._streams),
            "queued": sum(len(listener.queue) for listener in self.listeners),
            "sent": self.sent,
        }
