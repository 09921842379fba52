"""One stack, two histories. Positions that no order of ours has opened: it finds them at its start, adopts them, gives each its
stop. Then two `features` workers share the partitions; one is killed and stays away: the other takes over with its state."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from infra import children
from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.ports import free_port
from infra.settings import Settings, load
from infra.venue.binance.filters import instrument_of
from infra.venue.by_hand import tell
from schemas import ids, topics
from streams.cli import any_ports
from streams.launcher import Stack, environment, python
from streams.report import exchange_audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BY_HAND = {
    "BTCUSDT": ("BUY", "0.004"),
    "ETHUSDT": ("SELL", "0.10"),
    "SOLUSDT": ("BUY", "2"),
    "XRPUSDT": ("SELL", "150"),
    "ADAUSDT": ("BUY", "800"),
    "DOGEUSDT": ("SELL", "2000"),
    "AVAXUSDT": ("BUY", "20"),
}
WITHIN_S = 10.0
MINUTE = 60_000
AWAY_S = 20.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Begins over an exchange with those positions, at a minute a second."""
    settings = load(run_dir=tmp_path_factory.mktemp("stack"), speed=60.0, **any_ports())
    by_hand(settings)
    with Stack(settings) as found:
        found.start()
        yield found


def by_hand(settings: Settings) -> None:
    """An exchange with these positions, kept in the run directory; then it ends."""
    stack = Stack(settings)
    exchange = stack._exchange()
    exchange.start()
    try:
        exchange.wait_ready()
        for symbol, (side, quantity) in BY_HAND.items():
            tell(settings.exchange_control_url, "trade", symbol=symbol, side=side, quantity=quantity)
    finally:
        exchange.stop()


def records(settings: Settings, topic: topics.Topic) -> list[tuple[int, dict[str, Any]]]:
    """(partition, event) of a whole topic in order, by a consumer without a group; tombstones left out."""
    messages = read_all(settings.bootstrap, topic.name, offsets(settings.bootstrap, [topic.name])[topic.name])
    return [(message.partition(), msgspec.json.decode(value)) for message in messages if (value := message.value()) is not None]


def test_seven_positions_opened_by_hand_are_adopted_and_protected_soon_after_ready(stack: Stack) -> None:
    opened, settings = stack.opened, stack.settings
    assert opened is not None
    deadline = time.monotonic() + WITHIN_S
    first: dict[str, float] = {}

    def all_protected() -> bool:
        for episode in exchange_audit(settings, 0.0)["episodes"]:
            if episode["symbol"] in BY_HAND and episode["first_protected_wall"] is not None:
                first.setdefault(episode["symbol"], episode["first_protected_wall"])
        return set(first) == set(BY_HAND)

    stack.watch(lambda: all_protected() or time.monotonic() > deadline)
    late = {symbol: wall - opened for symbol, wall in first.items()}
    assert set(late) == set(BY_HAND)
    assert all(seconds < WITHIN_S for seconds in late.values()), late
    positions, plans = ([e for _, e in records(settings, topic)] for topic in (topics.TRADE_POSITIONS, topics.TRADE_EXIT_PLANS))
    for symbol, (side, quantity) in BY_HAND.items():
        adopted = next(event for event in positions if event["instrument"] == instrument_of(symbol))
        assert Decimal(adopted["quantity"]) == Decimal(quantity)
        assert adopted["side"] == ("LONG" if side == "BUY" else "SHORT")
        assert adopted["entry_client_id"].startswith("web_")
        assert [plan for plan in plans if plan["instrument"] == instrument_of(symbol)], f"no plan for {symbol}"


def test_a_killed_half_is_taken_over_with_its_state(stack: Stack) -> None:
    settings = stack.settings

    def run_for(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        stack.watch(lambda: time.monotonic() > deadline)

    def second() -> Any:
        env = os.environ | environment(settings) | {"QT_WORKER_INDEX": "1", "QT_PROBE_PORT": str(free_port())}
        with (settings.run_dir / "second.jsonl").open("ab") as log:
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
    log = records(settings, topics.MARKET_TRADES)
    made = [event for _, event in records(settings, topics.MARKET_CANDLES)]
    for interval, length, least in (("1m", MINUTE, 20), ("5m", 5 * MINUTE, 6)):
        wanted = folded(log, length)
        assert len(wanted) > 8 * least
        found: dict[tuple[str, int], tuple[Any, ...]] = {}
        for c in made:
            if c["interval"] == interval and not c["flat"]:
                what = (c["o"], c["h"], c["l"], c["c"], c["v"], c["trades"], c["first_id"], c["last_id"])
                where = c["instrument"], c["open_at"]
                assert found.setdefault(where, what) == what, f"two different candles for {where}"
        assert set(found) == set(wanted)
        for where, candle in wanted.items():
            assert found[where] == pytest.approx(candle, rel=1e-12), where


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
