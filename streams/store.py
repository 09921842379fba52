"""The state store: a compacted topic `state.<stage>`, written every 0.1 s, read when partitions are assigned.

Not Faust's Tables: those lose records and state across rebalances. Here nothing is lost, whoever dies, freezes or wakes:

1.  One flush writes, each step acknowledged before the next: outputs, then changed keys, then positions; once a second Kafka's
    offsets behind them (only so that lag can be seen). So a stored position never runs ahead of a value, nor a value of
    its outputs.
2.  A key's value names the last offset of every input that is in it. After a crash events are replayed from the stored
    position; a key skips what is in it already.
3.  Who gets partitions reads them to the end, claims an epoch above all that it saw by writing it into each partition's position,
    and reads on to the end as it stands once all claims are acknowledged. If another record of that epoch (or above) is
    there by then, it claims again. So no two eras share an epoch, and the later claimant has read all that the earlier had
    written before its own claims.
4.  Per key, and for the position, the record of the highest (epoch, seq) counts, not the last one written. An era writes a
    key at its first touch, even if nothing changed or the event was in it already; so an older era's value counts only for a
    key that no newer era has touched, and then every event of that key below the newer era's position is in the older value.
    A worker that was frozen and wakes may write what it likes: it is either outranked or right. This holds for joined inputs
    too, as each is counted for itself, in the value and in the position. (tests/property/test_shares.py plays it through.)
5.  Compaction keeps the last record of a key, which could be a zombie's. It waits 10 minutes (min.compaction.lag.ms), and an
    era writes everything again every 4.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from infra import logs
from infra.broker.access import reach
from infra.broker.admin import TopicSpec, offsets
from infra.errors import UserError
from schemas import ids
from streams.hands import Hands
from streams.shares import Held, Ledger, Share, StateRecord, position

log = logs.get(__name__)
LAG_MS = 600_000
REWRITE_S = 240.0
READ_S = 60.0
CLAIMS = 20
_draw = random.SystemRandom()

Send = Callable[[StateRecord], Awaitable[int]]
"""Writes to the state topic; resolves to the record's offset when the broker has acknowledged it."""


def state_topic(stage: str) -> str:
    return f"state.{stage}"


def state_topic_spec(stage: str, partitions: int = ids.PARTITIONS) -> TopicSpec:
    """Not in the registry: state is a stage's own, no worker reads another's."""
    config = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(LAG_MS),
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.1",
    }
    return TopicSpec(state_topic(stage), partitions, config)


@dataclass(frozen=True)
class Loaded:
    """`ends`: where each input stood while we loaded. `took_s`: for the log."""

    epoch: int
    shares: dict[int, Share]
    ends: dict[tuple[str, int], int]
    took_s: float


class _Version(msgspec.Struct):
    version: int


class StateStore:
    """Loads on assignment. `inputs`: {topic: its partitions}. All of a stage's partitions that are ours are loaded together."""

    def __init__(
        self, stage: str, state: type[msgspec.Struct], version: int, inputs: Mapping[str, int], bootstrap: str, send: Send
    ) -> None:
        self.topic = state_topic(stage)
        self._stage, self._version, self._inputs = stage, version, dict(inputs)
        self._bootstrap, self._send = bootstrap, send
        self._decode = msgspec.json.Decoder(state).decode
        self._peek = msgspec.json.Decoder(_Version).decode
        self._hands = Hands(1, "state")

    async def load(self, partitions: Iterable[int]) -> Loaded:
        """Claims the partitions. UserError: unknown version or format, no answer. The caller checks that they are still ours."""
        began = time.monotonic()
        mine = sorted(partitions)
        bounds = await self._hands.do(offsets, self._bootstrap, list(self._inputs))
        reader = await self._hands.do(_Reader, self._bootstrap, self.topic, mine)
        try:
            await self._hands.do(reader.read_to_end)
            epoch = await self._claim(reader, mine)
        finally:
            await self._hands.do(reader.close)
        shares = {p: self._share(p, reader.ledgers[p], bounds) for p in mine}
        ends = {(topic, p): high for topic, found in bounds.items() for p, (_, high) in found.items() if p in shares}
        return Loaded(epoch, shares, ends, time.monotonic() - began)

    async def _claim(self, reader: _Reader, mine: list[int]) -> int:
        ledgers = reader.ledgers
        for turn in range(CLAIMS):
            await asyncio.sleep(_draw.uniform(0.0, 0.05 * turn))  # in step with each other, they would claim for ever
            epoch = max((ledger.epoch for ledger in ledgers.values()), default=0) + 1
            claims = [position(p, ledgers[p].next, epoch, 0, ledgers[p].market_at) for p in mine]
            at = await asyncio.gather(*(self._send(claim) for claim in claims))
            await self._hands.do(reader.read_to_end)
            if all(ledgers[p].epoch == epoch and ledgers[p].rivals == [offset] for p, offset in zip(mine, at, strict=True)):
                return epoch
            log.warning("another member claimed the same partitions, claiming again", stage=self._stage, epoch=epoch)
        raise UserError(
            f"state of {self._stage} cannot be claimed",
            f"others claimed the same partitions {CLAIMS} times in a row",
            "look for a second worker with the same QT_WORKER_INDEX",
        )

    def _share(self, partition: int, ledger: Ledger, bounds: Mapping[str, Mapping[int, tuple[int, int]]]) -> Share:
        """An input that was never read begins at its first record; one whose retention overtook us too, told loudly."""
        stored, next_ = ledger.next, {}
        for topic, partitions in self._inputs.items():
            if partition >= partitions:
                continue
            low, _ = bounds[topic][partition]
            next_[topic] = max(low, stored.get(topic, low))
            if topic in stored and stored[topic] < low:
                log.error(
                    "retention has overtaken this stage, records are lost to it",
                    **{"topic": topic, "partition": partition, "lost": low - stored[topic]},
                )
        share = Share(partition, next_, ledger.market_at)
        for key, found in ledger.keys():
            state = None if bytes(found.state) == b"null" else self._state(key, bytes(found.state))
            share.held[key] = Held(state, dict(found.applied))
            if key.encode() in ledger.stale:
                share.dirty[key] = share.held[key]
        return share

    def _state(self, key: str, raw: bytes) -> Any:
        try:
            version = self._peek(raw).version
            if version == self._version:
                return self._decode(raw)
            why = f"it is of version {version}, this worker knows {self._version}"
        except msgspec.MsgspecError as e:
            why = str(e)
        raise UserError(
            f"state of {self._stage}, key {key}, cannot be read",
            why,
            f"run the worker that wrote it, or delete topic {self.topic} so that the stage folds its inputs anew",
        )


class _Reader:
    """Reads partitions of one topic to their end, again and again. Blocking: lives on the store's thread."""

    def __init__(self, bootstrap: str, topic: str, partitions: Iterable[int]) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self.ledgers = {p: Ledger() for p in partitions}
        self._at = dict.fromkeys(self.ledgers, 0)
        self._consumer = Consumer(
            {
                **reach(bootstrap),
                "group.id": "none",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "logger": logs.librdkafka,
            }
        )
        self._consumer.assign([TopicPartition(topic, p, 0) for p in self.ledgers])

    def read_to_end(self) -> None:
        """Up to the end as it is now."""
        deadline = time.monotonic() + READ_S
        # asked on a connection of its own: the consumer's answers only between two fetches
        ends = {p: high for p, (_, high) in offsets(self._bootstrap, [self._topic])[self._topic].items() if p in self.ledgers}
        while any(self._at[p] < end for p, end in ends.items()):
            if time.monotonic() > deadline:
                raise self._failed(f"not read to its end within {READ_S:.0f} s")
            message = self._consumer.poll(0.5)  # consume(n) would wait for n
            if message is not None:
                self._take(message)

    def close(self) -> None:
        self._consumer.close()

    def _take(self, message: Message) -> None:
        partition, offset, error = message.partition(), message.offset(), message.error()
        assert partition is not None
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF and offset is not None:
                self._at[partition] = max(self._at[partition], offset)
            elif error.fatal() or not error.retriable():
                log.warning("reading state", error=str(error))
            return
        key = message.key()
        assert offset is not None
        headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
        try:
            self.ledgers[partition].add(key if isinstance(key, bytes) else str(key).encode(), message.value(), headers, offset)
        except msgspec.MsgspecError as e:
            raise UserError(
                f"{self._topic}/{partition} offset {offset} cannot be read",
                str(e),
                f"run the worker that wrote it, or delete topic {self._topic} so that the stage folds its inputs anew",
            ) from e
        self._at[partition] = offset + 1

    def _failed(self, why: str) -> UserError:
        return UserError(f"{self._topic} cannot be read", why, "look whether Kafka is up (`quantum doctor`)")
