"""The brakes outside of the stage that decides on them: execution's view of the log and of the stop file, and risk's alarm lights.

The stop file stops without the log: whoever can write into the run directory of execution may stop, and only `quantum resume`
(or whoever can delete there) lifts it. It holds one line of JSON for people: who, when, why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import ValidationError

from infra import logs
from infra.settings import Settings
from processors import book, emergency
from processors.brakes import Known
from schemas import topics
from schemas.risk import ALL, BreakerState, Phase, RiskState
from streams.follower import Follower, places
from streams.stage import Outbox

log = logs.get(__name__)


class Brakes(Protocol):
    """What execution asks before it opens anything."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def known(self) -> Known: ...

    @property
    def ready(self) -> bool: ...


class StopFile:
    """The file alone, where there is no log to read."""

    ready = True

    def __init__(self, settings: Settings) -> None:
        self._file = settings.stop_file

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to end."""

    def known(self) -> Known:
        return Known(stop_file=read_stop_file(self._file))


class BrakeReader(Follower):
    """`known()` from any thread: what the log says, and the stop file as it is at that moment."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.bootstrap, places(topics.BREAKER_STATES, topics.RISK_STATES), "brakes")
        self._account = settings.account
        self._file = settings.stop_file
        self._risk: RiskState | None = None
        self._breakers: dict[str, BreakerState] = {}

    def known(self) -> Known:
        return Known(self._risk, self._breakers, read_stop_file(self._file))

    def take(self, topic: str, value: bytes, key: bytes | None = None) -> None:
        try:
            if topic == topics.RISK_STATES.name:
                state = RiskState.model_validate_json(value)
                if state.account == self._account:
                    self._risk = state
            else:
                found = BreakerState.model_validate_json(value)
                if found.account == self._account:
                    self._breakers = {**self._breakers, found.scope: found}
        except ValidationError as e:
            log.error("a state of the brakes cannot be read and is left out", topic=topic, error=str(e))


def read_stop_file(path: Path) -> str | None:
    """What it says; None where there is none. One that cannot be read stops too."""
    try:
        return path.read_text(errors="replace")[:500].strip() or "without a word"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        return f"it cannot be read: {e.strerror}"


class Lights:
    """An Observer of risk (streams/stage.py): tells the brakes by log and metrics. The alert is on these.

    qt_emergency_brake              1 while the emergency stop is engaged
    qt_breaker_open{scope}          1 open, 0.5 half open; scopes that are closed are not told
    qt_drawdown_pct{window}         daily, weekly, total (since the start or the last resume)
    """

    def __init__(self) -> None:
        self._states: dict[str, book.State] = {}

    def attach(self, outbox: Outbox) -> None:
        REGISTRY.register(self)

    def on_live(self, partition: int, states: Mapping[str, book.State]) -> None:
        for key, state in states.items():
            self.on_state(key, state)

    def on_state(self, key: str, state: book.State | None) -> None:
        before = self._states.get(key, book.State())
        if state is None:
            self._states.pop(key, None)
            return
        self._states[key] = state
        stop, was = state.emergency, before.emergency
        if stop.alarms != was.alarms:
            if stop.stopped:
                log.error("emergency stop", alarms=list(stop.alarms), evidence=list(stop.evidence), closing=list(stop.closing))
            else:
                log.warning("resumed", actor=stop.actor, evidence=list(stop.evidence))
        if state.breaker.phase is not before.breaker.phase:
            told = state.breaker
            scope = ALL if key == book.ACCOUNT else key
            log.warning("breaker", scope=scope, phase=told.phase, reason=told.reason, evidence=told.evidence, actor=told.actor)

    def on_revoked(self, partition: int) -> None:
        """One active instance holds all partitions or none: what is shown is the newest that was known."""

    def collect(self) -> Iterator[Metric]:
        states = dict(self._states)
        stop = states.get(book.ACCOUNT, book.State()).emergency
        yield GaugeMetricFamily("qt_emergency_brake", "1 while the emergency stop is engaged", value=float(stop.stopped))
        breakers = GaugeMetricFamily("qt_breaker_open", "1 open, 0.5 on trial", labels=["scope"])
        for key, state in states.items():
            if state.breaker.phase is not Phase.CLOSED:
                value = 1.0 if state.breaker.phase is Phase.OPEN else 0.5
                breakers.add_metric([ALL if key == book.ACCOUNT else key], value)
        yield breakers
        fall = GaugeMetricFamily("qt_drawdown_pct", "Percent below the highest equity of the window", labels=["window"])
        daily, weekly, profit = emergency.losses(stop)
        for window, share in (("daily", daily), ("weekly", weekly), ("total", max(-profit, book.ZERO))):
            fall.add_metric([window], float(share) * 100)
        yield fall
