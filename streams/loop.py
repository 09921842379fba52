"""The frame around a worker that is a loop of its own (market, guardian): signals, logs, probe, metrics, heartbeats.

It ends with code 0 after SIGTERM or SIGINT, and with an exception (crash-only: its successor recovers) when its work fails.
SIGUSR1 turns its heartbeats off.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import uvloop
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric

from infra import logs
from infra.errors import UserError
from infra.probe import Probe, Pulse
from infra.settings import Settings
from streams.outlet import Outlet
from streams.vitals import Counts, Vitals

log = logs.get(__name__)
BEAT_S = 0.5
FINISH_S = 4.0
STUCK_S = 5.0
"""The log has acknowledged nothing for so long while records wait: not ready."""


class Loop:
    """What the work is given: settings, its outlet to the log, `counts`, and `tell`, by which it says how it is."""

    def __init__(self, name: str, settings: Settings, outlet: Outlet) -> None:
        self.name = name
        self.settings = settings
        self.outlet = outlet
        self.counts = Counts()
        self._problems: Callable[[], Sequence[str]] = lambda: ["starting"]
        self._metrics: Callable[[], Mapping[str, float]] = dict
        self._needs_log = True
        self.feed_age_ms: Callable[[], int | None] = lambda: None

    def tell(
        self,
        problems: Callable[[], Sequence[str]],
        metrics: Callable[[], Mapping[str, float]],
        *,
        needs_log: bool = True,
        feed_age_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`problems`: why it is not ready. `metrics`: gauges by name; served as qt_<worker>_<name>. Both from any thread.

        `needs_log` False: it works and is ready while the log is away, and a lost record does not end it. `feed_age_ms`: for
        heartbeats, of who holds the feed.
        """
        self.feed_age_ms = feed_age_ms
        self._problems, self._metrics, self._needs_log = problems, metrics, needs_log
        self.outlet.vital = needs_log

    def problems(self) -> list[str]:
        found = list(self._problems())
        if not self._needs_log:
            return found
        if self.outlet.failed is not None:
            found.append(f"a record was not delivered: {self.outlet.failed}")
        if self.outlet.stuck_s > STUCK_S:
            found.append(f"the log has acknowledged nothing for {self.outlet.stuck_s:.0f} s")
        return found

    def collect(self) -> Iterator[Metric]:
        told = dict(self._metrics()) | {
            "records_sent": self.outlet.sent,
            "records_waiting": self.outlet.behind,
            "sends_failed": float(self.outlet.failed is not None),
        }
        for name, value in told.items():
            yield GaugeMetricFamily(f"qt_{self.name}_{name}", name.replace("_", " "), value=value)


def run_loop(name: str, settings: Settings, work: Callable[[Loop], Awaitable[None]]) -> None:
    """Runs `work` until it is told to stop. `work` is cancelled then, and has a few seconds to finish."""
    uvloop.run(_run(name, settings, work))


async def _run(name: str, settings: Settings, work: Callable[[Loop], Awaitable[None]]) -> None:
    outlet = Outlet(settings.bootstrap, name)
    loop = Loop(name, settings, outlet)
    pulse = Pulse("the event loop")
    vitals = Vitals(name, f"{name}-{settings.worker_index}", loop.counts, loop.problems, lambda: loop.feed_age_ms())
    stop, beating = asyncio.Event(), asyncio.Event()
    beating.set()
    events = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, stop.set)
    events.add_signal_handler(signal.SIGUSR1, beating.clear)

    async def beat() -> None:
        while True:
            pulse.beat()
            await asyncio.sleep(BEAT_S)

    async def heartbeats() -> None:
        while True:
            await asyncio.sleep(settings.heartbeat_s)
            if beating.is_set() and outlet.stuck_s < STUCK_S:
                outlet.send([vitals.heartbeat()])

    probe = Probe(settings.probe_port, pulse.problems, loop.problems, settings.host)
    probe.start()
    REGISTRY.register(loop)
    working = asyncio.ensure_future(work(loop))
    beside = [asyncio.create_task(coroutine) for coroutine in (outlet.pump(), beat(), heartbeats())]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping, *beside], return_when=asyncio.FIRST_COMPLETED)
        beating.clear()
        if not working.done():
            working.cancel()
            await asyncio.wait([working], timeout=FINISH_S)
        for ended in (working, *beside):
            if ended.done():
                _raise_its_error(ended)
        if not working.done():
            log.warning("not finished in time, ending anyway")
    finally:
        tasks: list[asyncio.Future[Any]] = [working, stopping, *beside]
        for task in tasks:
            task.cancel()
        REGISTRY.unregister(loop)
        probe.stop()


def _raise_its_error(ended: asyncio.Future[None]) -> None:
    """A user's mistake stands alone, not in the group of tasks that it has ended."""
    if ended.cancelled() or (error := ended.exception()) is None:
        return
    while isinstance(error, BaseExceptionGroup):
        mistakes, _ = error.split(UserError)
        error = (mistakes or error).exceptions[0]
    raise error
