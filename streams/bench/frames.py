"""Trades a second through the real features worker on a real broker, beside single messages and a bare loop.

frames    100 trades a message: the whole worker, from fetch to acknowledged state
capture   frames as the gateway cuts the recorded market: small ones, most of the time
single    the same trades, one a message, through a Faust agent as the manual writes it (it only decodes)
bare      the same single messages through a confluent consumer that only decodes
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, cast

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from infra import children, logs
from infra.broker.admin import TopicSpec
from infra.errors import UserError
from infra.paths import shared_data_dir
from processors.features import step as features
from processors.market import Cutter
from processors.market import Trade as Cut
from processors.step import Context
from schemas import hot, ids, topics
from schemas.policy import Policy
from streams.bench.own import own_broker, own_worker
from streams.bench.stock import Trade
from streams.envelope import decode, encode
from streams.store import state_topic_spec

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "AVAXUSDT", "BNBUSDT")
START = 1_722_470_400_000
STEP_MS = 10
SINGLES = "bench.singles"
LAPS = 6
CAPTURE = "usdm_{}_20240808.gz"

Event = hot.TradeFrame | hot.Tick


def run(trades: int = 2_000_000, singles: int = 400_000, stock: int = 60_000) -> dict[str, Any]:
    """Everything in trades a second. Starts and stops a broker of its own for each feed, so that each begins with an empty log.

    Of the `singles` the Faust agent reads the first `stock`: more would only take longer.
    """
    began = time.monotonic()
    full = list(full_frames(trades))
    frames_per_s, _ = _through_features(full)
    single_per_s, bare_per_s = _singles(singles, stock)
    found: dict[str, Any] = {
        "frames_per_s": round(frames_per_s),
        "single_per_s": round(single_per_s),
        "bare_per_s": round(bare_per_s),
        "ratio_single": round(frames_per_s / single_per_s, 2),
        "ratio_bare": round(frames_per_s / bare_per_s, 2),
        "frame_us": _where_the_time_goes(full, frames_per_s),
    }
    found |= _capture()
    load = round(os.getloadavg()[0], 1)
    return found | {"trades": trades, "singles": singles, "load_average": load, "seconds": round(time.monotonic() - began, 1)}


# -- feeds


def full_frames(trades: int, size: int = 100) -> Iterator[Event]:
    """Eight instruments in turn, a trade each 10 ms of market time, ticks at the minutes: candles and features do close."""
    names = [f"binance.usdm.{symbol}" for symbol in SYMBOLS]
    minute = START + 60_000
    for n in range(trades // (size * len(names))):
        at = START + n * size * STEP_MS
        if at >= minute:
            yield from _ticks(minute)
            minute += 60_000
        for name in names:
            t = [at + i * STEP_MS for i in range(size)]
            p = [64_000.0 + (n + i) % 97 * 0.1 for i in range(size)]
            q = [0.001 * (1 + i % 9) for i in range(size)]
            m = [i % 2 for i in range(size)]
            yield hot.TradeFrame(
                ids.event_id("f", name, n), "market.trade-frame", t[-1], name, 1 + n * size, t, p, q, m, "synthetic"
            )


def captured_frames(folder: Path) -> Iterator[Event]:
    """The recording, cut by the gateway's own cutter at the pace at which it was received, several times over."""
    trades = list(_laps(sorted(_captured(folder))))
    first = {name: next(trade.id for _, n, trade in trades if n == name) for name in {name for _, name, _ in trades}}
    cutter = Cutter("recorded", first, trades[0][2].t)
    for now_ms, name, trade in trades:
        yield from cutter.due(now_ms)
        yield from cutter.passed(trade.t)
        yield from cutter.add(name, trade, now_ms)
    yield from cutter.cut_all()


def _laps(trades: list[tuple[float, str, Cut]]) -> Iterator[tuple[float, str, Cut]]:
    """Ids and times go on from lap to lap, as if the market did the same again."""
    names = sorted({name for _, name, _ in trades})
    counts = {name: sum(n == name for _, n, _ in trades) for name in names}
    length_ms = trades[-1][0] - trades[0][0] + 1_000
    for lap in range(LAPS):
        for received, name, trade in trades:
            again = trade._replace(id=trade.id + lap * counts[name], t=trade.t + lap * int(length_ms))
            yield received + lap * length_ms, name, again


def _captured(folder: Path) -> Iterator[tuple[float, str, Cut]]:
    for symbol in ("btcusdt", "ethusdt"):
        with gzip.open(folder / CAPTURE.format(symbol), "rb") as lines:
            for line in lines:
                received, _, text = line.partition(b" ")
                if b"@trade" in text[:40]:
                    said = json.loads(text)["data"]
                    trade = Cut(said["t"], said["T"], float(said["p"]), float(said["q"]), said["m"])
                    yield int(received) / 1e6, f"binance.usdm.{said['s']}", trade


def _ticks(at: int) -> Iterable[hot.Tick]:
    return [hot.Tick(ids.event_id("k", p, at), "market.tick", at, p, True, 0) for p in range(ids.PARTITIONS)]


# -- measures


def _through_features(events: list[Event]) -> tuple[float, int]:
    """(trades a second, number of frames) through the worker that the launcher starts."""
    trades = sum(len(e.t) for e in events if isinstance(e, hot.TradeFrame))
    with own_broker([state_topic_spec("features")]) as broker, tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        producer = _producer(broker.bootstrap)
        for event in events:
            topic, key, partition = topics.route(event)
            _put(producer, topic.name, encode(event), key, partition)
        producer.flush()
        with own_worker(["streams.cli", "worker", "features"], broker.bootstrap, Path(folder)) as worker:
            seconds = worker.wait_processed(len(events))
    return trades / seconds, sum(isinstance(e, hot.TradeFrame) for e in events)


def _singles(n: int, stock: int) -> tuple[float, float]:
    """(stock Faust agent, bare consumer) over the same messages."""
    with own_broker([TopicSpec(SINGLES, 4)]) as broker:
        producer = _producer(broker.bootstrap)
        for i in range(n):
            name = f"binance.usdm.{SYMBOLS[i % 8]}"
            trade = Trade(i, name, START + i, 64_000.0 + i % 97 * 0.1, 0.001 * (1 + i % 9), i % 2)
            _put(producer, SINGLES, msgspec.json.encode(trade), name.encode(), ids.partition_of(name, 4))
        producer.flush()
        return _stock(broker.bootstrap, stock), max(_bare(broker.bootstrap, n) for _ in range(3))


def _stock(bootstrap: str, n: int) -> float:
    with tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        argv = [sys.executable, "-P", "-m", "streams.bench.stock", SINGLES, bootstrap, str(n), folder]
        child = children.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            out, _ = child.communicate(timeout=180)
            return float(out)
        except (ValueError, subprocess.TimeoutExpired) as e:
            raise UserError("the stock agent did not get through", f"{n} messages within 180 s", "run it by hand") from e
        finally:
            children.kill(child)


def _bare(bootstrap: str, n: int) -> float:
    """From the first fetch: the client reads ahead, so that a clock begun at the first message would flatter it."""
    read = msgspec.json.Decoder(Trade).decode
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-bare", "enable.auto.commit": False})
    began, done = time.monotonic(), 0
    consumer.assign([TopicPartition(SINGLES, p, 0) for p in range(4)])
    while done < n:
        for message in consumer.consume(500, 1.0):
            if message.error() is None:
                read(cast(bytes, message.value()))
                done += 1
    seconds = time.monotonic() - began
    consumer.close()
    return n / seconds


def _where_the_time_goes(events: list[Event], frames_per_s: float) -> dict[str, float]:
    """Microseconds a frame: decode and fold measured alone, the rest is fetch, Faust, the wrapper and the state store."""
    some = [e for e in events if isinstance(e, hot.TradeFrame)][:2_000]
    values = [encode(e) for e in some]
    began = time.perf_counter()
    decoded = [decode(topics.MARKET_TRADES.name, value) for value in values]
    decode_us = (time.perf_counter() - began) / len(some) * 1e6
    states: dict[str, Any] = {}
    context = Context("", 0, 0, Policy(), 0, "bench", states)
    began = time.perf_counter()
    for frame in decoded:
        states[frame.instrument] = features.step(states.get(frame.instrument), frame, context).state
    fold_us = (time.perf_counter() - began) / len(some) * 1e6
    total_us = mean(len(e.t) for e in some) / frames_per_s * 1e6
    rest_us = total_us - decode_us - fold_us
    parts = {"total": total_us, "decode": decode_us, "fold": fold_us, "faust_and_the_rest": rest_us}
    return {name: round(value, 1) for name, value in parts.items()}


def _capture() -> dict[str, Any]:
    folder = shared_data_dir() / "ticks"
    if not (folder / CAPTURE.format("btcusdt")).exists():
        return {"capture_per_s": None, "capture_frame_mean": None, "capture_missing": f"no recording in {folder}"}
    events = list(captured_frames(folder))
    sizes = sorted(len(e.t) for e in events if isinstance(e, hot.TradeFrame))
    per_s, _ = _through_features(events)
    return {
        "capture_per_s": round(per_s),
        "capture_frame_mean": round(mean(sizes), 2),
        "capture_frames": len(sizes),
        "capture_trades": sum(sizes),
        "capture_frame_sizes": {name: sizes[int((len(sizes) - 1) * q)] for name, q in _QUANTILES.items()},
        "capture_frames_of_one": round(sizes.count(1) / len(sizes), 3),
    }


_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def _producer(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4", "linger.ms": 5, "logger": logs.librdkafka})


def _put(producer: Producer, topic: str, value: bytes, key: bytes | None, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition=partition)
            return
        except BufferError:
            producer.poll(0.1)
