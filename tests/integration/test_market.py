"""The gateway between a real exchange and a real broker: whatever is cut or killed, the log has every trade once, in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import PublicTrade
from schemas import hot, topics
from schemas.ids import PARTITIONS, partition_of

pytestmark = pytest.mark.broker
MINUTE_MS = 60_000
Eventually = Callable[[Callable[[], bool], float], None]


async def tape(street: Any, first: dict[str, int], last: dict[str, int]) -> dict[str, list[PublicTrade]]:
    """What the exchange itself says was traded between two ids."""
    found: dict[str, list[PublicTrade]] = {}
    async with BinanceUsdm(street.direct) as venue:
        for name, start in first.items():
            trades: list[PublicTrade] = []
            while start <= last[name]:
                page = await venue.trades(name, from_id=start, limit=1000)
                trades += [trade for trade in page if trade.id <= last[name]]
                start = page[-1].id + 1
            found[name] = trades
    return found


def trades_of(records: list[tuple[int, Any]]) -> dict[str, list[tuple[int, int, float, float]]]:
    found: dict[str, list[tuple[int, int, float, float]]] = {}
    for _, event in records:
        if isinstance(event, hot.TradeFrame):
            rows = zip(event.t, event.p, event.q, strict=True)
            found.setdefault(event.instrument, []).extend((event.first_id + i, *row) for i, row in enumerate(rows))
    return found


def check_order(records: list[tuple[int, Any]]) -> None:
    """Ticks never run backwards, miss no minute, and no trade before one stands behind it."""
    ticked: dict[int, int] = {}
    boundary: dict[int, int] = {}
    for partition, event in records:
        if isinstance(event, hot.Tick):
            assert event.partition == partition
            assert event.at >= ticked.get(partition, 0)
            ticked[partition] = event.at
            if event.boundary:
                assert event.at % MINUTE_MS == 0
                assert partition not in boundary or event.at == boundary[partition] + MINUTE_MS
                boundary[partition] = event.at
        elif isinstance(event, hot.TradeFrame):
            assert partition == partition_of(event.instrument)
            assert min(event.t) >= ticked.get(partition, 0)
            assert event.t == sorted(event.t)
            assert event.at == event.t[-1]
    assert set(ticked) == set(range(PARTITIONS))


@pytest.mark.timeout(120)
def test_cut_torn_killed_and_stopped_the_log_has_every_trade_once(street: Any, eventually: Eventually) -> None:
    def backfilled() -> int:
        frames = [e for _, e in street.records(topics.MARKET_TRADES) if isinstance(e, hot.TradeFrame)]
        return sum(len(frame.t) for frame in frames if frame.backfilled)

    market = street.worker("market")
    market.wait_ready()
    time.sleep(2)

    before = backfilled()
    street.wire.cut()
    eventually(lambda: backfilled() > before, 15)

    before = backfilled()
    street.wire.tear()
    time.sleep(1.5)
    street.wire.mend()
    eventually(lambda: backfilled() > before + 50, 15)

    market.end(signal.SIGKILL)
    poison = Producer({"bootstrap.servers": street.kafka.bootstrap})  # in the tail that the next one reads
    for value in (b"\xff garbage", b'{"type":"market.trade-frame"}'):
        poison.produce(topics.MARKET_TRADES.name, value, partition=3)
    assert poison.flush(10) == 0
    time.sleep(1)
    market = street.worker("market")
    market.wait_ready()
    time.sleep(2)
    assert market.end() < 3
    assert market.process.returncode == 0

    records = street.records(topics.MARKET_TRADES)
    assert len({event.event_id for _, event in records}) == len(records)
    check_order(records)
    histories = {event.instrument: event for _, event in records if isinstance(event, hot.CandleHistory)}
    assert {len(history.open_at) for history in histories.values()} == {1000}
    written = trades_of(records)
    first = {name: history.next_id for name, history in histories.items()}
    last = {name: rows[-1][0] for name, rows in written.items()}
    told = asyncio.run(tape(street, first, last))
    assert written == {name: [(t.id, t.t, t.p, t.q) for t in trades] for name, trades in told.items()}
    for name, history in histories.items():
        assert history.at == history.open_at[-1] + 300_000
        assert written[name][0][0] == history.next_id
        assert written[name][0][1] >= history.at

    marks = [event for _, event in street.records(topics.MARKET_MARKS)]
    assert {mark.instrument for record in marks for mark in record.marks} == set(histories)
    for record in marks:
        assert all(partition_of(mark.instrument) == record.partition for mark in record.marks)
        assert all(mark.low <= mark.mark <= mark.high for mark in record.marks)


@pytest.mark.timeout(120)
def test_when_the_broker_is_away_reading_stops_and_nothing_is_lost(street: Any, eventually: Eventually) -> None:
    market = street.worker("market")
    market.wait_ready()
    time.sleep(1)
    street.kafka.kill()
    eventually(lambda: not market.ready(), 15)
    street.kafka.start()
    street.kafka.wait_ready()
    eventually(market.ready, 30)
    time.sleep(1)
    assert market.process.poll() is None, market.log.read_text()[-2000:]
    assert market.end() < 3
    records = street.records(topics.MARKET_TRADES)
    check_order(records)
    histories = {event.instrument: event for _, event in records if isinstance(event, hot.CandleHistory)}
    for name, rows in trades_of(records).items():
        assert [row[0] for row in rows] == list(range(histories[name].next_id, rows[-1][0] + 1))


@pytest.mark.timeout(60)
def test_a_silent_feed_ages_while_its_time_stands_still(street: Any, eventually: Eventually) -> None:
    market = street.worker("market")
    market.wait_ready()
    time.sleep(1)
    street.wire.tear()
    time.sleep(3.2)
    market.end()
    ticks = [e for p, e in street.records(topics.MARKET_TRADES) if p == 0 and isinstance(e, hot.Tick) and not e.boundary][-3:]
    assert len({tick.at for tick in ticks}) == 1
    ages = [tick.feed_age_ms for tick in ticks]
    assert ages == sorted(ages)
    assert ages[-1] > 1500


@pytest.mark.timeout(90)
def test_an_exchange_that_began_anew_under_an_old_log_is_a_mistake_that_is_named(street: Any, eventually: Eventually) -> None:
    first = street.worker("market")
    first.wait_ready()
    time.sleep(2)
    first.end()
    street.restart_exchange(fresh=True)
    second = street.worker("market")
    eventually(lambda: second.process.poll() is not None, 30)
    assert second.process.returncode == 2
    assert "market.trades is ahead of the exchange" in second.log.read_text()
    assert "Traceback" not in second.log.read_text()
