"""How far market time has come, so that one record of a far future cannot stop a stage for ever.

States keep the latest time that they saw: marks of 2099 end every entry, a vector of 2099 is the last one decided. So a record that
names a time more than STEP_MS ahead of all that its stage has taken is held against the ticks of `market.trades`:

| the newest tick of its partition              | the record                                       |
|-----------------------------------------------|--------------------------------------------------|
| is at most STEP_MS behind it in market time   | is taken: the street was off, or this is new     |
| stands behind it in the log, and says less    | is poison: dead letter                           |
| stands before it                              | waits for the next tick, a wall second           |
| does not come within PATIENCE_S; there is none| is taken: no fact is lost for want of a tick     |

A tick is held against the tick behind it. Whether the log jumps over days is the market's own matter: ticks jump with it.
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from infra import logs
from infra.broker.admin import offsets
from infra.errors import UserError
from schemas import hot, topics
from streams.envelope import Undecodable, decode
from streams.hands import Hands
from streams.log_reader import LogReader

log = logs.get(__name__)
STEP_MS: Final = 2 * 86_400_000
"""Longer than the gateway makes good trade by trade (499 candles of 5 minutes: streams/market_past.py), when old ticks may stand
behind new facts; and ten minutes of the wall at market speed 300, when a slow machine's ticks may be that late."""
PATIENCE_S: Final = 5.0
ASK_S: Final = 0.2
DOUBT_S: Final = 60.0
"""After a record that was taken unproven others are, without waiting: the market is away."""
WINDOWS: Final = (1_000, 20_000)
"""Records of a partition in which its newest tick is looked for; there is one each wall second."""
_NAMES: Final = ("at", "open_at", "opened_at", "closed_at", "candle_at")
_TIMES: Final = {
    event.type_name(): tuple(n for n in _NAMES if n in event.model_fields and event.model_fields[n].annotation is int)
    for topic in topics.ALL
    for event in topic.events
}
_TRADES: Final = topics.MARKET_TRADES.name


class RunsAhead(Exception):
    """A record of a time that the market has not come to."""


class Place(NamedTuple):
    """Of a record. `written_ms`: its Kafka timestamp."""

    topic: str
    partition: int
    offset: int
    written_ms: int


class NewestTick(NamedTuple):
    at: int
    place: Place


class Word(StrEnum):
    TAKE = "TAKE"
    DOUBT = "DOUBT"
    WAIT = "WAIT"
    POISON = "POISON"


def time_of(event: Any) -> int:
    """The latest moment of the past that an event names: its own, and those of what it speaks of."""
    if isinstance(event, hot.TradeFrame):
        return max(event.at, max(event.t, default=0))
    latest: int = max(getattr(event, name) for name in _TIMES[event.type])
    return latest


def judge(at: int, known: int, place: Place, tick: NewestTick | None) -> Word:
    """`known`: what the stage has come to. The table above."""
    if at <= known + STEP_MS:
        return Word.TAKE
    if tick is None:
        return Word.DOUBT
    itself = tick.place[:3] == place[:3]
    if not itself and at <= tick.at + STEP_MS:
        return Word.TAKE
    return Word.POISON if _is_behind(tick.place, place) else Word.WAIT


class MarketClock:
    """One a stage: `check` every record that is far ahead."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._hands = Hands(1, "market-clock")
        self._doubt_until = 0.0

    async def check(self, at: int, known: int, place: Place) -> bool:
        """Whether market time has come to `at`, proven; False: taken unproven. Raises RunsAhead."""
        began = time.monotonic()
        while True:
            if time.monotonic() < self._doubt_until:
                return False
            tick = await self._hands.do(newest_tick, self._bootstrap, place.partition)
            word = judge(at, known, place, tick)
            if word is Word.TAKE:
                return True
            if word is Word.POISON:
                assert tick is not None
                raise RunsAhead(f"it speaks of market time {at}, a tick behind it says {tick.at}, and we know {known}")
            if word is Word.DOUBT or time.monotonic() - began > PATIENCE_S:
                self._doubt_until = time.monotonic() + DOUBT_S
                log.warning("market time leaps and no tick says so", at=at, known=known, topic=place.topic)
                return False
            await asyncio.sleep(ASK_S)


def newest_tick(bootstrap: str, partition: int) -> NewestTick | None:
    """The last one of that partition of market.trades; None when there is none, or nobody answers. Blocks."""
    try:
        low, high = offsets(bootstrap, [_TRADES])[_TRADES][partition]
        reader = LogReader(bootstrap, "market-clock")
        try:
            for window in WINDOWS:
                first = max(low, high - window)
                found = None
                records, _ = reader.read(_TRADES, partition, first, high - 1, window) if first < high else ([], 0)
                for record in records:
                    if record.value is not None and b'"market.tick"' in record.value[:200]:
                        found = _tick(partition, record.offset, record.time_ms, record.value) or found
                if found is not None or first == low:
                    return found
        finally:
            reader.close()
    except (UserError, KafkaException, TimeoutError) as e:
        log.info("no tick to be had", partition=partition, why=str(e))
    return None


def _tick(partition: int, offset: int, written_ms: int, value: bytes) -> NewestTick | None:
    try:
        event = decode(_TRADES, value)
    except Undecodable:
        return None
    return NewestTick(event.at, Place(_TRADES, partition, offset, written_ms)) if isinstance(event, hot.Tick) else None


def _is_behind(tick: Place, record: Place) -> bool:
    """Of another topic by the time of writing, to the millisecond."""
    if tick.topic == record.topic:
        return tick.offset > record.offset
    return tick.written_ms >= record.written_ms
