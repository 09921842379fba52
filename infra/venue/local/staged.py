"""A running exchange whose market time moves only when told: for tests of clients over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from infra.ports import free_ports
from infra.venue.local.auth import Keys
from infra.venue.local.market.base import MarketEvent
from infra.venue.local.runtime import Exchange
from infra.venue.local.scripted import START_T, ScriptedMarket

KEY, SECRET = "key", "secret"


class Staged:
    def __init__(self, exchange: Exchange, port: int, control_port: int, session: aiohttp.ClientSession) -> None:
        self.exchange = exchange
        self.http, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
        self.control = f"http://127.0.0.1:{control_port}/control"
        self.session = session
        self._wall_s = time.monotonic()

    async def go_to(self, seconds: float) -> None:
        """Let market time pass to this many seconds after the start; everything due is told."""
        self._wall_s += 10
        self.exchange.venue.step(START_T + int(seconds * 1000))
        self.exchange.venue.flush(self._wall_s)
        await asyncio.sleep(0)

    async def order_control(self, method: str, what: str, body: Any = None) -> Any:
        """One request to the control port; gives its JSON."""
        async with self.session.request(method, f"{self.control}/{what}", json=body) as answer:
            return await answer.json()


@asynccontextmanager
async def staged(script: Sequence[MarketEvent], directory: Path, symbols: Sequence[str] = ("BTCUSDT",)) -> AsyncIterator[Staged]:
    """Serve a scripted market on free ports, standing still."""
    exchange = Exchange(
        ScriptedMarket(script, symbols),
        speed=1.0,
        keys=Keys(KEY, SECRET),
        balance=Decimal(10_000),
        directory=directory,
        identity={"market": "scripted"},
    )
    port, control_port = free_ports(2)
    ready = asyncio.Event()
    exchange.clock.pause(time.monotonic())
    serving = asyncio.create_task(exchange.serve(port, control_port, ready))
    await asyncio.wait_for(ready.wait(), 10)
    try:
        async with aiohttp.ClientSession() as session:
            yield Staged(exchange, port, control_port, session)
    finally:
        exchange.stopping.set()
        await asyncio.wait_for(serving, 10)
