"""What watches a stage from beside it: the probe, the metrics, the heartbeats, the policy's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY

from infra import logs
from infra.probe import Probe, Pulse
from infra.settings import Settings
from streams.driver import App
from streams.runner import Runner
from streams.vitals import Metrics, Vitals

log = logs.get(__name__)
BEAT_S = 0.5


@contextmanager
def watched(runner: Runner, app: App, settings: Settings) -> Iterator[Probe]:
    """Starts it all before the app and stops it after."""
    pulse = Pulse("the event loop")
    vitals = Vitals(runner.stage.name, runner.keeper.member, runner.counts, runner.problems)
    beating = asyncio.Event()
    beating.set()

    async def beat() -> None:
        while True:
            pulse.beat()
            await asyncio.sleep(BEAT_S)

    async def heartbeats() -> None:
        while beating.is_set():
            await asyncio.sleep(settings.heartbeat_s)
            if beating.is_set():
                await runner.send_now(vitals.heartbeat())

    def quiet() -> None:
        log.info("heartbeats off")
        beating.clear()

    app.on_quiet = quiet
    app.background += [beat, heartbeats]
    probe = Probe(settings.probe_port, pulse.problems, runner.problems, settings.host, notes=runner.stage.notes)
    metrics = Metrics(runner.stage.name, runner.counts, runner.lag, runner.sizes)
    probe.start()
    log.info("probe", port=probe.port)
    REGISTRY.register(metrics)
    if runner.policy_reader is not None:
        runner.policy_reader.start()
    try:
        yield probe
    finally:
        if runner.policy_reader is not None:
            runner.policy_reader.stop()
        REGISTRY.unregister(metrics)
        probe.stop()
