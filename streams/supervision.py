"""What the model supervisor thinks, as metrics of the worker `signals`.

qt_model_signals{side}                     of the last signals of the version that serves
qt_model_information_coefficient           of its predictions whose horizon is over; absent until it can be judged
qt_model_hit_rate                          of the same
qt_model_entries_blocked_total{reason,side}  by the supervisor, or what it would block in MONITOR
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from processors import supervisor
from processors.signals import SUPERVISOR
from streams.stage import Outbox


class Supervised:
    """An observer that only remembers the newest state of the rounds. `attach`: whoever else wants the outbox."""

    def __init__(self, attach: Callable[[Outbox], None] = lambda outbox: None) -> None:
        self._attach = attach
        self._rounds = supervisor.State()

    def attach(self, outbox: Outbox) -> None:
        self._attach(outbox)

    def on_live(self, partition: int, states: Mapping[str, Any]) -> None:
        if SUPERVISOR in states:
            self.on_state(SUPERVISOR, states[SUPERVISOR])

    def on_state(self, key: str, state: Any | None) -> None:
        if key == SUPERVISOR and state is not None:
            self._rounds = state.rounds or self._rounds

    def on_revoked(self, partition: int) -> None: ...

    def collect(self) -> Iterator[Metric]:
        """Prometheus; from any thread."""
        rounds = self._rounds
        standing = rounds.standing
        sides = GaugeMetricFamily("qt_model_signals", "The version's last signals", labels=["side"])
        sides.add_metric(["LONG"], standing.longs)
        sides.add_metric(["SHORT"], standing.shorts)
        yield sides
        for name, about, value in (
            ("qt_model_information_coefficient", "Of predictions whose horizon is over", standing.coefficient),
            ("qt_model_hit_rate", "Of predictions whose horizon is over", standing.hit_rate),
        ):
            if value is not None:
                yield GaugeMetricFamily(name, about, value)
        blocked = CounterMetricFamily("qt_model_entries_blocked", "Signals that may open nothing", labels=["reason", "side"])
        for key, n in sorted(rounds.blocked.items()):
            blocked.add_metric(key.split("/"), n)
        yield blocked
