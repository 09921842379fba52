"""Where the gateway left off: the last trade of each instrument and the last tick of each partition, read from the log's tail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.broker.access import reach
from infra.broker.admin import offsets
from infra.errors import UserError
from schemas import hot, topics
from schemas.ids import partition_of
from streams.envelope import Undecodable, decode

Event = hot.TradeFrame | hot.Tick | hot.CandleHistory

WINDOWS = (500, 5_000, 50_000, 500_000)
"""Records read back from the end of a partition, until every instrument has been found."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Last:
    """`next_id`: the id after the last trade in the log; `price` of that trade."""

    next_id: int
    price: float


@dataclass(slots=True)
class Tail:
    last: dict[str, Last] = field(default_factory=dict)
    ticked: dict[int, int] = field(default_factory=dict)

    def knows(self, partition: int, instruments: set[str]) -> bool:
        return partition in self.ticked and instruments <= self.last.keys()

    def note(self, event: Event, partition: int) -> None:
        """Only the first word on an instrument or partition counts: come with the newest."""
        match event:
            case hot.Tick():
                self.ticked.setdefault(partition, event.at)
            case hot.TradeFrame():
                self.last.setdefault(event.instrument, Last(event.first_id + len(event.t), event.p[-1]))
            case hot.CandleHistory():
                self.last.setdefault(event.instrument, Last(event.next_id, event.c[-1]))


def read_tail(bootstrap: str, instruments: Sequence[str]) -> Tail:
    """Blocks. An instrument that is not in the last half million records of its partition counts as never seen."""
    topic = topics.MARKET_TRADES
    consumer = Consumer({**reach(bootstrap), "group.id": "market-tail", "enable.auto.commit": False, "fetch.wait.max.ms": 50})
    tail = Tail()
    wanted = {p: {name for name in instruments if partition_of(name) == p} for p in range(topic.partitions)}
    try:
        bounds = offsets(bootstrap, [topic.name])[topic.name]
        ends = {p: high for p, (_, high) in bounds.items()}
        for window in WINDOWS:
            spans = {p: (max(bounds[p][0], bounds[p][1] - window), end) for p, end in ends.items() if not tail.knows(p, wanted[p])}
            for partition, event in _newest_first(consumer, {p: span for p, span in spans.items() if span[0] < span[1]}):
                tail.note(event, partition)  # what a later window, further back, says of the known is older
            ends |= {p: start for p, (start, _) in spans.items()}
    except KafkaException as e:
        raise UserError(
            f"the tail of {topic.name} cannot be read", e.args[0].str(), "is Kafka there, with its topics? `quantum doctor` says"
        ) from e
    finally:
        consumer.close()
    return tail


def _newest_first(consumer: Consumer, spans: dict[int, tuple[int, int]]) -> list[tuple[int, Event]]:
    """All records of these spans (offsets, end exclusive), each partition's newest first."""
    topic = topics.MARKET_TRADES.name
    left = {p: end - start for p, (start, end) in spans.items()}
    found: list[tuple[int, Event]] = []
    consumer.assign([TopicPartition(topic, p, start) for p, (start, _) in spans.items()])
    deadline = time.monotonic() + PATIENCE_S
    while any(left.values()):
        for message in consumer.consume(min(1000, sum(left.values())), timeout=0.2):
            if (error := message.error()) is not None:
                raise KafkaException(error)
            partition, value = message.partition() or 0, message.value()
            if left[partition] and value is not None:
                left[partition] -= 1
                with suppress(Undecodable):  # poison is history's to tell; the tail is what we wrote ourselves
                    found.append((partition, decode(topic, value)))
        if time.monotonic() > deadline:
            behind = ", ".join(str(p) for p, n in left.items() if n)
            raise UserError(
                f"{topic} cannot be read", f"partitions {behind} gave no records for {PATIENCE_S:.0f} s", "look at Kafka"
            )
    consumer.unassign()
    return found[::-1]
