"""How a stage is: counts, metrics, readiness, heartbeats. Counting costs an integer; Prometheus is served at the scrape.

qt_processed_total{topic}             records applied
qt_recovered_gaps_total               gaps in an input that were closed by seeking back
qt_recovered_records_total            records that came back so
qt_dead_letters_total
qt_lag_records{topic}                 records of an input that are not applied yet
qt_last_event_age_seconds{topic}      wall seconds since the last record of an input was applied
qt_behind_seconds{topic}              wall seconds between the writing of that record and now, while there are later ones
qt_flush_seconds_{count,sum}, qt_flush_last_seconds
qt_pending_deliveries                 outputs that the broker has not acknowledged yet
qt_keys                               states that this member holds
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from schemas.ids import event_id
from schemas.operations import Heartbeat


@dataclass
class Counts:
    """Since the start of the process. `last_at`: when (monotonic) a record of a topic was applied last; `record_at`: when (wall)
    that record had been written."""

    processed: Counter[str] = field(default_factory=Counter)
    last_at: dict[str, float] = field(default_factory=dict)
    record_at: dict[str, float] = field(default_factory=dict)
    recovered_gaps: int = 0
    recovered_records: int = 0
    dead_letters: int = 0
    flushes: int = 0
    flush_s: float = 0.0
    last_flush_s: float = 0.0

    def behind_s(self, topic: str) -> float:
        """How old the newest applied record of a topic is; 0 before the first."""
        at = self.record_at.get(topic)
        return max(0.0, time.time() - at) if at is not None else 0.0

    def flushed(self, seconds: float) -> None:
        self.flushes += 1
        self.flush_s += seconds
        self.last_flush_s = seconds


class Metrics:
    """A Prometheus collector over counts and two questions."""

    def __init__(
        self, worker: str, counts: Counts, lag: Callable[[], Mapping[str, int]], sizes: Callable[[], tuple[int, int]]
    ) -> None:
        self._worker, self._counts, self._lag, self._sizes = worker, counts, lag, sizes

    def collect(self) -> Iterator[Metric]:
        counts, now = self._counts, time.monotonic()
        processed = CounterMetricFamily("qt_processed", "Records applied", labels=["worker", "topic"])
        age = GaugeMetricFamily("qt_last_event_age_seconds", "Wall seconds since the last record", labels=["worker", "topic"])
        lag = GaugeMetricFamily("qt_lag_records", "Records not applied yet", labels=["worker", "topic"])
        behind = GaugeMetricFamily("qt_behind_seconds", "Wall seconds behind the log", labels=["worker", "topic"])
        for topic, n in list(counts.processed.items()):
            processed.add_metric([self._worker, topic], n)
        for topic, at in list(counts.last_at.items()):
            age.add_metric([self._worker, topic], now - at)
        for topic, n in self._lag().items():
            lag.add_metric([self._worker, topic], n)
            behind.add_metric([self._worker, topic], counts.behind_s(topic) if n else 0.0)
        yield processed
        yield age
        yield lag
        yield behind
        for name, about, value in (
            ("qt_recovered_gaps", "Gaps closed by seeking back", counts.recovered_gaps),
            ("qt_recovered_records", "Records brought back so", counts.recovered_records),
            ("qt_dead_letters", "Messages that could not be taken", counts.dead_letters),
        ):
            counter = CounterMetricFamily(name, about, labels=["worker"])
            counter.add_metric([self._worker], value)
            yield counter
        pending, keys = self._sizes()
        for name, about, size in (
            ("qt_pending_deliveries", "Outputs not acknowledged yet", pending),
            ("qt_keys", "States held", keys),
            ("qt_flush_last_seconds", "The last state flush", counts.last_flush_s),
        ):
            gauge = GaugeMetricFamily(name, about, labels=["worker"])
            gauge.add_metric([self._worker], size)
            yield gauge
        flush = SummaryMetricFamily("qt_flush_seconds", "State flushes", labels=["worker"])
        flush.add_metric([self._worker], counts.flushes, counts.flush_s)
        yield flush


class Vitals:
    """Who we are and how we are, as a heartbeat tells it."""

    def __init__(
        self,
        worker: str,
        member: str,
        counts: Counts,
        problems: Callable[[], list[str]],
        feed_age_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._worker, self._member, self._counts, self._problems = worker, member, counts, problems
        self._feed_age_ms = feed_age_ms
        self._started_at = int(time.time() * 1000)

    def heartbeat(self) -> Heartbeat:
        now = int(time.time() * 1000)
        problems = self._problems()
        return Heartbeat(
            event_id=event_id(Heartbeat.type_name(), self._member, os.getpid(), now),
            at=now,
            worker=self._worker,
            member=self._member,
            pid=os.getpid(),
            started_at=self._started_at,
            ready=not problems,
            status="; ".join(problems) or "ready",
            processed=self._counts.processed.total(),
            recovered_gaps=self._counts.recovered_gaps,
            dead_letters=self._counts.dead_letters,
            rss_mb=round(rss_mb(), 1),
            feed_age_ms=self._feed_age_ms(),
        )


def rss_mb() -> float:
    """Resident memory now; 0 where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024
