"""The stage `signals` as it is declared, its own proposals read back, without a broker: from vectors to ranked decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from processors import signals
from processors.features.catalogue import FEATURE_SET, NAMES
from processors.signals import Answer, Answers, Heard
from processors.step import Context
from schemas import hot, ids, topics
from schemas.policy import Policy
from schemas.signals import Action, Block, Decision, Supervision
from streams.envelope import decode, encode
from streams.signals import STAGE
from streams.supervision import Supervised

BAR = 300_000
INSTRUMENTS = [ids.instrument("binance", "usdm", f"S{n}USDT") for n in range(30)]
HOMES = sorted({ids.partition_of(name) for name in INSTRUMENTS})


class Street:
    """Routes events as the log would, and holds the stage to what it declares. What it writes for itself comes back in order."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.answers: dict[str, Answers] = {}
        self.supervised = Supervised()

    def take(self, *events: Any) -> list[Any]:
        waiting, said = deque(events), []
        while waiting:
            event = waiting.popleft()
            topic, _, partition = topics.route(event)
            wide = topic.partitions == STAGE.partitions
            known = [key for key in sorted(self.states) if not wide or STAGE.home(key) == partition]
            changed: dict[str, Any] = {}
            for key in STAGE.keys(event, known):
                assert not wide or STAGE.home(key) == partition, f"{key} belongs to another partition than {event.type}"
                ctx = Context(topic.name, partition, 0, Policy(), 1, "sim", dict(self.states), "", key)
                changed[key], out = signals.step(self.states.get(key), event, ctx, Heard(self.answers, {}))
                for each in out:
                    home = topics.BY_TYPE[each.type]
                    assert home in STAGE.outputs
                    back = decode(home.name, encode(each))
                    said.append(back)
                    if home in STAGE.inputs:
                        waiting.append(back)
            for key, state in changed.items():
                self.states.pop(key, None)
                if state is not None:
                    self.states[key] = msgspec.json.decode(msgspec.json.encode(state), type=STAGE.state)
                self.supervised.on_state(key, state)
        return said

    def close(self, n: int, answers: dict[str, tuple[float, float]], homes: Sequence[int] = HOMES) -> list[Any]:
        """`answers`: probability and edge by instrument; of whom none is told there is no answer."""
        vectors = [vector(n, name) for name in INSTRUMENTS if ids.partition_of(name) in homes]
        for each in vectors:
            p_up, edge = answers.get(each.instrument, (0.5, 0.0))
            self.answers[each.event_id] = Answers(Answer("ensemble", "m-a", "abc", 3, p_up, edge=edge))
        return self.take(*vectors, *(hot.Barrier(f"b{p}-{n}", "market.barrier", (n + 1) * BAR, p, "5m") for p in homes))


def vector(n: int, instrument: str) -> hot.Features:
    values = [0.0] * len(NAMES)
    values[signals.RETURN], values[signals.DEVIATION] = 0.001, 0.001
    prices = (1.0,) * 5
    return hot.Features(
        f"{instrument}-{n}",
        "market.features",
        (n + 1) * BAR,
        instrument,
        "5m",
        "c",
        n * BAR,
        *prices,
        FEATURE_SET,
        "abc",
        True,
        700,
        values,
        "synthetic",
    )


def entries(said: Sequence[Any]) -> list[Decision]:
    return [event for event in said if isinstance(event, Decision) and event.action is not Action.HOLD]


def test_thirty_instruments_of_twelve_partitions_are_ranked_in_one_round() -> None:
    street = Street()
    said = street.close(1, {})
    assert {event.action for event in said if isinstance(event, Decision)} == {Action.HOLD}
    wanted = {name: (0.9, 0.002 + n / 1e4) if n % 2 else (0.1, -0.002 - n / 1e4) for n, name in enumerate(INSTRUMENTS[:12])}
    *first, last = HOMES
    early = street.close(2, wanted, first)
    assert entries(early) == [], "the last partition has not closed"
    found = entries(street.close(2, wanted, [last]))
    assert [one.instrument for one in found] == list(reversed(INSTRUMENTS[:12]))
    assert [one.rank for one in found] == list(range(1, 13))
    holds = [event for event in early if isinstance(event, Decision)]
    assert holds, "what holds has not waited"
    assert {one.rank for one in holds} == {None}


def test_a_model_that_wants_only_long_is_stopped_and_can_be_seen_to_be() -> None:
    street = Street()
    street.close(1, {})
    said = street.close(2, dict.fromkeys(INSTRUMENTS, (0.9, 0.005)))
    blocked = [one.blocked for one in entries(said)]
    assert blocked == [None] * 20 + [Block.BIAS] * 10, "the window is full behind the twentieth"
    metrics = {
        (sample.name, *sample.labels.values()): sample.value for metric in street.supervised.collect() for sample in metric.samples
    }
    assert metrics["qt_model_signals", "LONG"] == 20
    assert metrics["qt_model_entries_blocked_total", "BIAS", "LONG"] == 10
    for n in range(3, 6):
        said = street.close(n, {})
    (seen,) = [event for event in said if isinstance(event, Supervision)]
    assert (seen.matured, seen.hit_rate) == (60, 1.0), "two closes have matured, and prices rose; p = 0.5 takes no side"
