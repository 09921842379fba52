"""Two `features` workers share the partitions. One is killed and stays away: the other takes over with its state."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import children
from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.ports import free_port, free_ports
from infra.settings import load
from schemas import ids, topics
from streams.launcher import Stack, environment, python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MINUTE = 60_000
AWAY_S = 20.0


def records(bootstrap: str, topic: str) -> list[tuple[int, dict[str, Any]]]:
    """(partition, event) of a whole topic in order, by a consumer without a group."""
    messages = read_all(bootstrap, topic, offsets(bootstrap, [topic])[topic])
    return [(message.partition(), msgspec.json.decode(message.value())) for message in messages]


def folded(log: list[tuple[int, dict[str, Any]]], interval: int) -> dict[tuple[str, int], tuple[Any, ...]]:
    """(instrument, open time) -> (o, h, l, c, v, n, first id, last id): all trades, then the closed boundaries."""
    trades: dict[str, dict[int, tuple[int, float, float]]] = {}
    starts: dict[str, int] = {}
    watermark: dict[int, int] = {}
    for partition, event in log:
        if event["type"] == "market.tick":
            watermark[partition] = max(watermark.get(partition, 0), event["at"])
        elif event["type"] == "market.candle-history":
            starts[event["instrument"]] = event["at"]
        else:
            book = trades.setdefault(event["instrument"], {})
            for i, (t, p, q) in enumerate(zip(event["t"], event["p"], event["q"], strict=True)):
                book[event["first_id"] + i] = (t, p, q)
    candles = {}
    for instrument, begins in starts.items():
        until = watermark[ids.partition_of(instrument)]
        by_open: dict[int, list[tuple[int, float, float]]] = {}
        for number, (t, p, q) in sorted(trades.get(instrument, {}).items()):
            if t >= begins:
                by_open.setdefault(t - t % interval, []).append((number, p, q))
        for open_at, inside in by_open.items():
            if open_at + interval <= until:
                prices = [p for _, p, _ in inside]
                candles[instrument, open_at] = (
                    *(prices[0], max(prices), min(prices), prices[-1]),
                    math.fsum(q for _, _, q in inside),
                    *(len(inside), inside[0][0], inside[-1][0]),
                )
    return candles


def test_a_killed_half_is_taken_over_with_its_state(tmp_path: Path) -> None:
    names = ("kafka_port", "kafka_controller_port", "clickhouse_port", "exchange_port", "exchange_control_port")
    settings = load(run_dir=tmp_path, probe_port=0, speed=100.0, **dict(zip(names, free_ports(len(names)), strict=True)))
    with Stack(settings, fresh=True) as stack:
        stack.start()

        def run_for(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            stack.watch(lambda: time.monotonic() > deadline)

        def second() -> Any:
            env = os.environ | environment(settings) | {"QT_WORKER_INDEX": "1", "QT_PROBE_PORT": str(free_port())}
            with (tmp_path / "second.jsonl").open("ab") as log:
                return children.spawn([*python("streams.cli"), "worker", "features"], stdout=log, env=env)

        other = second()
        run_for(12)
        children.kill(other)
        run_for(AWAY_S)
        other = second()
        run_for(12)
        assert children.stop(other, 10)
        run_for(2)
        stack.drain()
        log = records(settings.bootstrap, topics.MARKET_TRADES.name)
        made = [event for _, event in records(settings.bootstrap, topics.MARKET_CANDLES.name)]

    for interval, length in (("1m", MINUTE), ("5m", 5 * MINUTE)):
        wanted = folded(log, length)
        assert len(wanted) > 8 * (20 if interval == "1m" else 8)
        found: dict[tuple[str, int], tuple[Any, ...]] = {}
        for c in made:
            if c["interval"] == interval and not c["flat"]:
                what = (c["o"], c["h"], c["l"], c["c"], c["v"], c["trades"], c["first_id"], c["last_id"])
                where = c["instrument"], c["open_at"]
                assert found.setdefault(where, what) == what, f"two different candles for {where}"
        assert set(found) == set(wanted)
        for where, candle in wanted.items():
            assert found[where] == pytest.approx(candle, rel=1e-12), where
