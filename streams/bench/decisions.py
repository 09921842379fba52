"""`quantum bench decisions`: from the close of a candle to the decision on it, for 100 symbols, through the workers of the street.

The broker and the workers `features` and `signals` are the street's own, on free ports; a feeder stands where the gateway would be:
past candles to warm up on, then frames and ticks of made-up symbols, a candle every `pace_s` of wall time. A pair begins when the
tick that closes the candle in its partition is handed to the broker's client, and ends when the decision is read by a consumer
outside. Between them stand the record times of what each worker wrote (whole milliseconds, one clock):

close_to_vector     the tick's way to `features`, candles and the kernel, until the vector of this instrument is written
vector_to_barrier   the vectors of the other instruments of the partition
barrier_to_decision the barrier's way to `signals`, other partitions before it, the model's run; a round for what wants to enter
decision_to_read    the way out
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import logs
from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.errors import UserError
from processors.features.step import BAR_MS
from schemas import hot, ids, topics
from schemas.models import ModelVersion
from streams.bench.features import market
from streams.bench.own import own_broker, own_worker
from streams.envelope import seal
from streams.store import state_topic_spec

START = 1_722_470_400_000
PAST = 1000
WARM = 5
"""Candles before those that are measured."""
PATIENCE_S = 60.0
LATER = (topics.MARKET_FEATURES, topics.SIGNAL_PREDICTIONS)
"""Read afterwards, from the log: whoever reads along costs the broker as much as a worker does."""


class Seen(msgspec.Struct):
    """What is looked at of any record."""

    type: str
    at: int = 0
    instrument: str = ""
    partition: int = -1
    action: str = ""
    reason: str = ""
    latency_us: int = 0
    forming: bool = False


class Decided(NamedTuple):
    made: float
    read: float
    action: str
    reason: str


class Sight:
    """What has been seen, in ms of the wall: by close and instrument, or by close and partition."""

    def __init__(self) -> None:
        self.closed: dict[tuple[int, int], float] = {}
        self.vectors: dict[tuple[int, str], float] = {}
        self.barriers: dict[tuple[int, int], float] = {}
        self.decided: dict[tuple[int, str], Decided] = {}
        self.runs: dict[tuple[int, int], int] = {}


def run(symbols: int = 100, candles: int = 30, pace_s: float = 2.0, model: str | None = None) -> dict[str, Any]:
    """Starts broker and workers, measures `candles` closes, stops them. `model`: of the registry; None: the built-in one.

    Raises UserError when decisions do not come.
    """
    began = time.monotonic()
    names = [ids.instrument("binance", "usdm", f"S{n:03d}USDT") for n in range(symbols)]
    specs = [state_topic_spec("features"), state_topic_spec("signals")]
    with own_broker(specs) as broker, tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "logger": logs.librdkafka})
        if model is not None:
            _send(producer, _pointers(model))
        with (
            own_worker(["streams.cli", "worker", "features"], broker.bootstrap, Path(folder)) as features,
            own_worker(["streams.cli", "worker", "signals"], broker.bootstrap, Path(folder)),
        ):
            sight = Sight()
            reader = _reader(broker.bootstrap)
            feed = _Feed(names)
            _send(producer, *feed.ticks(), *feed.ticks())  # as the gateway's: one tick proves the other (streams/market_clock.py)
            _send(producer, *_past(names))
            features.wait_processed(symbols + 2 * ids.PARTITIONS)
            for n in range(WARM + candles):
                _play(feed, n, producer, reader, sight, pace_s if n >= WARM else 0.5)
            _rest(reader, sight, feed.at, names)
            reader.close()
        _look_back(broker.bootstrap, sight)
    measured = {START + (n + 1) * BAR_MS for n in range(WARM, WARM + candles)}
    return _told(sight, measured, names) | {
        "model": model or "built-in",
        "pace_s": pace_s,
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": round(time.monotonic() - began, 1),
    }


# -- the feeder


class _Feed:
    """Prices walk; one frame an instrument and minute."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.at = names, START
        self._prices = {name: 100.0 for name in names}
        self._chance = Random(1)
        self._id = 0

    def minute(self) -> list[Any]:
        """Frames of the next minute of market time, without its tick."""
        frames = []
        for name in self.names:
            p = [self._prices[name] * (1 + self._chance.gauss(0, 0.0005)) for _ in range(8)]
            self._prices[name] = p[-1]
            t = [self.at + 5_000 * (i + 1) for i in range(8)]
            made = hot.TradeFrame(
                ids.event_id("f", name, t[-1]),
                "market.trade-frame",
                t[-1],
                name,
                1 + self._id,
                t,
                p,
                [1.0] * 8,
                [0, 1] * 4,
                "synthetic",
            )
            frames.append(made)
        self._id += 8
        self.at += 60_000
        return frames

    def ticks(self) -> list[hot.Tick]:
        return [hot.Tick(ids.event_id("k", p, self.at), "market.tick", self.at, p, True, 0) for p in range(ids.PARTITIONS)]


def _play(feed: _Feed, n: int, producer: Producer, reader: Consumer, sight: Sight, pace_s: float) -> None:
    """One candle: its minutes in the first 0.6 of its time, a while behind the close before; then its own close, alone."""
    began = time.monotonic()
    for minute in range(5):
        _look(reader, sight, until=began + pace_s * 0.12 * (minute + 1))
        _send(producer, *feed.minute())
        if closes := minute == 4:
            _look(reader, sight, until=began + pace_s)
            now = time.time() * 1000
            sight.closed.update({(feed.at, p): now for p in range(ids.PARTITIONS)})
        _send(producer, *feed.ticks(), wait=not closes)


def _past(names: Sequence[str]) -> Iterator[hot.CandleHistory]:
    columns = market(len(names), PAST)
    open_at = [START - (PAST - n) * BAR_MS for n in range(PAST)]
    for n, name in enumerate(names):
        o, h, low, c, v = columns[:, :, n].tolist()
        yield hot.CandleHistory(
            ids.event_id("h", name), "market.candle-history", START, name, "5m", open_at, o, h, low, c, v, 1, "synthetic"
        )


def _pointers(model: str) -> ModelVersion:
    return ModelVersion(
        event_id="bench", at=START, number=1, active=model, previous=None, shadow=None, reason="bench", actor="bench"
    )


def _send(producer: Producer, *events: Any, wait: bool = True) -> None:
    for event in events:
        out = seal(event, "bench")
        headers = cast("list[tuple[str, str | bytes | None]]", out.headers)
        producer.produce(out.topic, out.value, out.key, out.partition, headers=headers)
    if wait and producer.flush(PATIENCE_S):
        raise UserError("the broker of the bench takes no records", f"none acknowledged in {PATIENCE_S:.0f} s", "try again")
    producer.poll(0)


# -- the reader


def _reader(bootstrap: str) -> Consumer:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        | {"logger": logs.librdkafka}
    )
    bounds = offsets(bootstrap, [topics.SIGNAL_DECISIONS.name])
    consumer.assign([TopicPartition(name, p, high) for name, found in bounds.items() for p, (_, high) in found.items()])
    return consumer


_decode = msgspec.json.Decoder(Seen).decode


def _look(reader: Consumer, sight: Sight, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        message = reader.poll(min(left, 0.05))
        if message is None or message.error() is not None:
            continue
        read, made = time.time() * 1000, float(message.timestamp()[1])
        seen = _decode(message.value() or b"")
        sight.decided[seen.at, seen.instrument] = Decided(made, read, seen.action, seen.reason)


def _look_back(bootstrap: str, sight: Sight) -> None:
    for name, bounds in offsets(bootstrap, [topic.name for topic in LATER]).items():
        for message in read_all(bootstrap, name, bounds):
            seen, made = _decode(message.value() or b""), float(message.timestamp()[1])
            match seen.type:
                case "market.features":
                    sight.vectors[seen.at, seen.instrument] = made
                case "market.barrier":
                    sight.barriers[seen.at, seen.partition] = made
                case "signal.prediction" if not seen.forming:
                    sight.runs[seen.at, ids.partition_of(seen.instrument)] = seen.latency_us


def _rest(reader: Consumer, sight: Sight, last: int, names: Sequence[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while any((last, name) not in sight.decided for name in names):
        if time.monotonic() > until:
            missing = sum((last, name) not in sight.decided for name in names)
            raise UserError(
                f"{missing} of {len(names)} decisions on the last candle have not come",
                f"none for {PATIENCE_S:.0f} s: the machine does not keep up",
                "give it more time with --pace, or fewer --symbols",
            )
        _look(reader, sight, time.monotonic() + 0.2)


# -- what came out


def _told(sight: Sight, closes: set[int], names: Sequence[str]) -> dict[str, Any]:
    hops: dict[str, list[float]] = {
        name: [] for name in ("close_to_vector", "vector_to_barrier", "barrier_to_decision", "decision_to_read")
    }
    whole, last, actions, reasons = [], [], {"entries": 0, "holds": 0}, set()
    for close in sorted(closes):
        mine = []
        for name in names:
            place = close, ids.partition_of(name)
            decided = sight.decided.get((close, name))
            if decided is None or place not in sight.barriers or (close, name) not in sight.vectors:
                continue
            began, vector, barrier = sight.closed[place], sight.vectors[close, name], sight.barriers[place]
            mine.append(decided.read - began)
            stations = (began, vector, barrier, decided.made, decided.read)
            for hop, one, other in zip(hops.values(), stations, stations[1:], strict=False):
                hop.append(other - one)
            actions["holds" if decided.action == "HOLD" else "entries"] += 1
            reasons.add(decided.reason)
        whole += mine
        last.append(max(mine, default=0.0))
    runs = [sum(us for (at, _), us in sight.runs.items() if at == close) / 1000 for close in sorted(closes)]
    return {
        "p50_ms": _at(whole, 0.50),
        "p99_ms": _at(whole, 0.99),
        "n": len(whole),
        "symbols": len(names),
        "last_of_close_p50_ms": _at(last, 0.50),
        "last_of_close_p99_ms": _at(last, 0.99),
        "hops": {
            f"{name}_p{share:.0%}_ms".replace("%", ""): _at(values, share) for name, values in hops.items() for share in (0.5, 0.99)
        },
        "model_runs_of_close_p50_ms": _at(runs, 0.50),
        "candles": len(closes),
        **actions,
        "reasons": sorted(reasons),
    }


def _at(values: Sequence[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2) if values else None
