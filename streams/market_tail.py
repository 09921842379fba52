"""Where the gateway left off: the last trade of each instrument and the last tick of each partition, read from the log's tail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.errors import UserError
from schemas import hot, topics
from schemas.ids import partition_of

Event = hot.TradeFrame | hot.Tick | hot.CandleHistory

WINDOWS = (500, 5_000, 50_000, 500_000)
"""Records read back from the end of a partition, until every instrument has been found."""
PATIENCE_S = 30.0


class _Peek(msgspec.Struct):
    type: str


_peek = msgspec.json.Decoder(_Peek)
_decoders: dict[str, msgspec.json.Decoder[Event]] = {
    "market.trade-frame": msgspec.json.Decoder(hot.TradeFrame),
    "market.tick": msgspec.json.Decoder(hot.Tick),
    "market.candle-history": msgspec.json.Decoder(hot.CandleHistory),
}


@dataclass(frozen=True, slots=True)
class Last:
    """`next_id`: the id after the last trade in the log; `price` of that trade."""

    next_id: int
    price: float


@dataclass(slots=True)
class Tail:
    last: dict[str, Last] = field(default_factory=dict)
    ticked: dict[int, int] = field(default_factory=dict)


def read_tail(bootstrap: str, instruments: Sequence[str]) -> Tail:
    """Blocks. An instrument that is not in the last half million records of its partition counts as never seen."""
    topic = topics.MARKET_TRADES
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "market-tail", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
    )
    tail = Tail()
    try:
        for partition in range(topic.partitions):
            _read_partition(consumer, partition, {name for name in instruments if partition_of(name) == partition}, tail)
    except KafkaException as e:
        raise UserError(
            f"the tail of {topic.name} cannot be read", e.args[0].str(), "is Kafka there, with its topics? `quantum doctor` says"
        ) from e
    finally:
        consumer.close()
    return tail


def _read_partition(consumer: Consumer, partition: int, wanted: set[str], tail: Tail) -> None:
    topic = topics.MARKET_TRADES.name
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
    end = high
    for window in WINDOWS:
        start = max(low, high - window)
        if start < end:
            for event in _events(consumer, partition, start, end):
                _note(event, partition, tail)  # earlier windows are read later: what is known already stays
        end = start
        if start == low or (partition in tail.ticked and wanted <= tail.last.keys()):
            return


def _events(consumer: Consumer, partition: int, start: int, end: int) -> list[Event]:
    """The newest first."""
    topic = topics.MARKET_TRADES.name
    consumer.assign([TopicPartition(topic, partition, start)])
    found = []
    deadline = time.monotonic() + PATIENCE_S
    position = start
    while position < end:
        for message in consumer.consume(1000, timeout=1.0):
            if (error := message.error()) is not None:
                raise KafkaException(error)
            position = (message.offset() or 0) + 1
            if position <= end and (value := message.value()) is not None:
                found.append(_decoders[_peek.decode(value).type].decode(value))
        if time.monotonic() > deadline:
            raise UserError(
                f"{topic}/{partition} cannot be read", f"offset {position} of {end} after {PATIENCE_S:.0f} s", "look at Kafka"
            )
    consumer.unassign()
    return found[::-1]


def _note(event: Event, partition: int, tail: Tail) -> None:
    match event:
        case hot.Tick():
            tail.ticked.setdefault(partition, event.at)
        case hot.TradeFrame():
            tail.last.setdefault(event.instrument, Last(event.first_id + len(event.t), event.p[-1]))
        case hot.CandleHistory():
            tail.last.setdefault(event.instrument, Last(event.next_id, event.c[-1]))
