"""The running exchange: the pump that lets market time pass, both ports, the keeping, and a quick end.

The pump wakes every 10 ms, applies what the market did since, and tells the listeners. It never races: when it was
kept from running for more than a second (a frozen process, a busy machine), market time waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from infra.errors import UserError
from infra.venue.local import socket_faults
from infra.venue.local.auth import Keys
from infra.venue.local.clock import MarketClock
from infra.venue.local.control import Control
from infra.venue.local.door import Door
from infra.venue.local.event_faults import EventFaults
from infra.venue.local.faults import Faults
from infra.venue.local.hub import Hub
from infra.venue.local.journal import Journal, restore
from infra.venue.local.keeping import Keeper
from infra.venue.local.limits import Limits
from infra.venue.local.market.base import MarketSource
from infra.venue.local.sockets import Sockets
from infra.venue.local.venue import Venue
from infra.venue.local.ws_api import WsApi

STEP_S: Final = 0.01
SAVE_EVERY_S: Final = 1.0
MOST_BEHIND_S: Final = 1.0
END_S: Final = 0.5  # what open connections get at the end

log = logging.getLogger(__name__)


class Exchange:
    """One market, one account, two ports. `serve` runs until `stopping` is set."""

    def __init__(
        self,
        source: MarketSource,
        *,
        speed: float,
        keys: Keys,
        balance: Decimal,
        directory: Path,
        identity: dict[str, Any],
        fresh: bool = False,
        children_compete: bool = True,
        limits: bool = True,
        seed: int = 1,
    ) -> None:
        self.keeper = Keeper(directory, {**identity, "balance": f"{balance:f}"}, fresh=fresh)
        self.journal = Journal(self.keeper.journal_path)
        self.hub = Hub()
        self.faults = Faults(seed)
        self.hub.on_the_way = EventFaults(self.faults).pass_on
        self.speed = speed
        self.venue = Venue(source, self.journal, self.hub, balance, self.keeper, children_compete=children_compete)
        if self.keeper.kept is not None:
            restore(self.venue.engine, self.journal.records)
            self.venue.catch_up(max(self.keeper.told_t, self.venue.engine.floor.now))
        self.faults.market_t = lambda: self.venue.market_t
        self.clock = MarketClock(self.venue.market_t, speed, time.monotonic())
        self.venue.engine.conditional.refuses_child = self.faults.take_trigger
        self.door = Door(self.venue, keys, self.faults, Limits(enforced=limits))
        self.sockets = Sockets(self.venue, self.hub)
        self.ws_api = WsApi(self.door, self.hub)
        self.stopping = asyncio.Event()
        self.started_wall = time.time()
        self._saved_s = 0.0
        self.save()

    def save(self) -> None:
        self.venue.keep()
        self._saved_s = time.monotonic()

    def pause(self) -> None:
        """Stop market time where it is; what is due is applied first."""
        self.clock.pause(time.monotonic())
        while self.venue.step(self.clock.at(time.monotonic())):
            pass
        self.keeper.tell_time(self.venue.market_t)
        self.venue.flush(time.monotonic() + 1)
        self._note("pause")

    def shock(self, names: Sequence[str], part: Decimal) -> dict[str, int]:
        """Of several at once. Saved at once: a restart must not replay the market without it."""
        ticks = {name: self.venue.shock(name, part) for name in names}
        self.save()
        self._note(f"shock {','.join(names)} {part:+f}")
        return ticks

    async def plan_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        """Plan what faults.py lists, or let happen at once what socket_faults.py lists."""
        if body.get("kind") in socket_faults.KINDS:
            return await socket_faults.befall(self.venue, body)
        fault = self.faults.plan(body)
        if fault.kind == "stale":
            fault.view = self.venue.as_it_stands()
        return fault.row()

    def resume(self) -> None:
        self.clock.resume(time.monotonic())
        self._note("resume")

    def _note(self, what: str) -> None:
        self.journal.write("market", self.venue.market_t, time.time(), {"what": what})
        self.journal.flush()

    def state(self) -> dict[str, Any]:
        return {
            **self.venue.state(),
            "speed": self.speed,
            "paused": self.clock.paused,
            "slipped_s": round(self.clock.slipped_s, 3),
            "started_wall": self.started_wall,
            "requests": self.door.requests,
            "limits": self.door.limits.counts(time.time()),
            "spot_limits": self.door.spot_limits.counts(time.time()),
            "records": len(self.journal.records),
        }

    async def pump(self) -> None:
        venue, clock = self.venue, self.clock
        while True:
            wall_s = time.monotonic()
            more = False
            if not clock.paused:
                until_t = clock.at(wall_s)
                if until_t - venue.market_t > MOST_BEHIND_S * 1000 * self.speed:
                    until_t = venue.market_t + int(STEP_S * 1000 * self.speed)
                    clock.slip(wall_s, until_t)
                more = venue.step(until_t)
                self.keeper.tell_time(venue.market_t)  # before anything of it leaves: nothing has been sent since the last await
                venue.flush(wall_s)
            if venue.countdowns:
                venue.count_down(wall_s)
            if venue.listen_key.expired(wall_s):
                venue.drop_listen_key()
            if wall_s - self._saved_s >= SAVE_EVERY_S:
                self.save()
            await asyncio.sleep(0 if more else STEP_S)

    async def _hang_up(self) -> None:
        """Tell the listeners that we go; those who do not answer at once are cut off."""
        closing = [asyncio.ensure_future(listener.ws.close(code=1001)) for listener in self.hub.listeners]
        if closing:
            _, late = await asyncio.wait(closing, timeout=END_S)
            for task in late:
                task.cancel()

    async def serve(self, port: int, control_port: int, ready: asyncio.Event | None = None, host: str = "127.0.0.1") -> None:
        outer, inner = web.Application(), web.Application()
        self.sockets.add_to(outer.router)
        self.ws_api.add_to(outer.router)
        outer.router.add_route("*", "/{path:.*}", self.door.handle)
        Control(self).add_to(inner.router)
        runners = [
            await _open(outer, host, port, "--port"),
            await _open(inner, "127.0.0.1", control_port, "--control-port"),
        ]
        self._note("start")
        log.info("open", extra={"port": port, "control_port": control_port, "market": self.venue.source.label, "speed": self.speed})
        pump = asyncio.create_task(self.pump())
        stop = asyncio.create_task(self.stopping.wait())
        if ready is not None:
            ready.set()
        try:
            await asyncio.wait({pump, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            pump.cancel()
            self._note("stop")
            self.save()
            self.keeper.close()
            self.journal.close()
            await self._hang_up()
            for runner in runners:
                await runner.cleanup()
        if pump.done() and not pump.cancelled():
            pump.result()  # a bug in the pump ends the process with its name


async def _open(app: web.Application, host: str, port: int, option: str) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=END_S, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as problem:
        await runner.cleanup()
        why = f"port {port} is in use" if problem.errno == 98 else (problem.strerror or str(problem))
        raise UserError("the exchange cannot start", why, f"stop what listens there or choose another {option}") from problem
    return runner


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    _own: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        line = {"ts": round(record.created, 3), "level": record.levelname.lower(), "event": record.getMessage()}
        line.update({key: value for key, value in vars(record).items() if key not in self._own})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
