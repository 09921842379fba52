"""What holds for every WebSocket connection: it lives a day at most, and who sends more than ten messages a second is put out.

Real time; pings and pongs count as messages, as on the real exchange.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from infra.venue.local.hub import POLICY_VIOLATION, Hub, Listener

HEARTBEAT_S: Final = 180.0
MOST_A_SECOND: Final = 10
GOING_AWAY: Final = 1001


class Pace:
    """When the last messages came."""

    def __init__(self, most: int = MOST_A_SECOND) -> None:
        self._last: deque[float] = deque(maxlen=most)

    def is_too_fast(self, now_s: float) -> bool:
        """Count one more message; whether it is one too many within a second."""
        full = len(self._last) == self._last.maxlen and now_s - self._last[0] < 1.0
        self._last.append(now_s)
        return full


async def put_out(ws: web.WebSocketResponse) -> None:
    await ws.close(code=POLICY_VIOLATION, message=b"too many requests")


@asynccontextmanager
async def opened(request: web.Request, hub: Hub, category: str, *, combined: bool = False) -> AsyncIterator[Listener]:
    """A connection whose queue is delivered until it ends, or its day is over."""
    ws = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False, autoping=False)
    await ws.prepare(request)
    listener = Listener(ws, category, combined=combined, transport=request.transport)
    hub.join(listener)
    sender = asyncio.create_task(listener.deliver())
    end = asyncio.create_task(_end_of_day(listener, hub.life_s))
    try:
        yield listener
    finally:
        hub.leave(listener)
        for task in (sender, end):
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task


async def _end_of_day(listener: Listener, life_s: float) -> None:
    await asyncio.sleep(life_s)
    await listener.ws.close(code=GOING_AWAY, message=b"24 hours are over")
