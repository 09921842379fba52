"""The frame around a worker that is a loop of its own (market, guardian): signals, probes, heartbeats, a log of JSON lines.

It ends with code 0 after SIGTERM or SIGINT, and with an exception (crash-only: its successor recovers) when its work fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Mapping

import uvloop

from infra.settings import Settings
from schemas.ids import event_id
from schemas.operations import Heartbeat
from streams.outlet import Outlet

log = logging.getLogger(__name__)


class Loop:
    """What the work is given: settings, its outlet to the log, and `tell`, by which it says how it is."""

    def __init__(self, name: str, settings: Settings, outlet: Outlet) -> None:
        self.name = name
        self.settings = settings
        self.outlet = outlet
        self.member = f"{name}-{settings.worker_index}"
        self.started_at = int(time.time() * 1000)
        self._ready: Callable[[], bool] = lambda: False
        self._processed: Callable[[], int] = lambda: 0
        self._metrics: Callable[[], Mapping[str, float]] = dict

    def tell(
        self,
        ready: Callable[[], bool],
        processed: Callable[[], int],
        metrics: Callable[[], Mapping[str, float]],
    ) -> None:
        self._ready, self._processed, self._metrics = ready, processed, metrics

    @property
    def ready(self) -> bool:
        return self.outlet.failed is None and self._ready()

    def metrics(self) -> Mapping[str, float]:
        return self._metrics()

    def heartbeat(self) -> Heartbeat:
        now = int(time.time() * 1000)
        return Heartbeat(
            event_id=event_id("health.heartbeat", self.member, os.getpid(), now),
            at=now,
            worker=self.name,
            member=self.member,
            pid=os.getpid(),
            started_at=self.started_at,
            ready=self.ready,
            status="ready" if self.ready else "not ready",
            processed=self._processed(),
            recovered_gaps=0,
            dead_letters=0,
            rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )


def run_loop(name: str, settings: Settings, work: Callable[[Loop], Awaitable[None]]) -> None:
    """Runs `work` until it is told to stop. `work` is cancelled then, and has about 3 s to finish."""
    uvloop.run(_run(name, settings, work))


async def _run(name: str, settings: Settings, work: Callable[[Loop], Awaitable[None]]) -> None:
    outlet = Outlet(settings.bootstrap, name)
    loop = Loop(name, settings, outlet)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pump = asyncio.create_task(outlet.pump())
    beats = asyncio.create_task(_beat(loop))
    working = asyncio.ensure_future(work(loop))
    stopping = asyncio.create_task(stop.wait())
    tasks = (pump, beats, working, stopping)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        beats.cancel()
        if not working.done():
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
        for task in done:
            if not task.cancelled():
                task.result()
    finally:
        for task in tasks:
            task.cancel()


async def _beat(loop: Loop) -> None:
    while True:
        await asyncio.sleep(loop.settings.heartbeat_s)
        if loop.outlet.stuck_s < 2:
            loop.outlet.send([loop.heartbeat()])
