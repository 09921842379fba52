"""Positions that no order of ours has opened: the stack finds them at its start, adopts them, and gives each its stop."""

from __future__ import annotations

import json
import time
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.ports import free_ports
from infra.settings import Settings, load
from infra.venue.binance.filters import instrument_of
from schemas import topics
from streams.launcher import Stack
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


def by_hand(settings: Settings) -> None:
    """An exchange with these positions, kept in the run directory; then it ends."""
    stack = Stack(settings)
    exchange = stack._exchange()
    exchange.start()
    try:
        exchange.wait_ready()
        for symbol, (side, quantity) in BY_HAND.items():
            body = json.dumps({"symbol": symbol, "side": side, "quantity": quantity}).encode()
            url = f"{settings.exchange_control_url}/control/trade"
            urllib.request.urlopen(urllib.request.Request(url, method="POST", data=body), timeout=10).close()
    finally:
        exchange.stop()


def events(settings: Settings, topic: topics.Topic) -> list[dict[str, Any]]:
    found = read_all(settings.bootstrap, topic.name, offsets(settings.bootstrap, [topic.name])[topic.name])
    return [json.loads(value) for message in found if (value := message.value()) is not None]


def test_seven_positions_opened_by_hand_are_adopted_and_protected_soon_after_ready(tmp_path: Path) -> None:
    names = ("kafka_port", "kafka_controller_port", "clickhouse_port", "exchange_port", "exchange_control_port")
    settings = load(run_dir=tmp_path, probe_port=0, speed=1.0, **dict(zip(names, free_ports(len(names)), strict=True)))
    by_hand(settings)
    with Stack(settings) as stack:
        stack.start()
        assert stack.opened is not None
        deadline = time.monotonic() + WITHIN_S

        def protected() -> set[str]:
            return {row["symbol"] for row in exchange_audit(settings, 0.0)["open"] if row["protected"]}

        stack.watch(lambda: protected() >= set(BY_HAND) or time.monotonic() > deadline)
        audit = exchange_audit(settings, 0.0)
        positions, plans = events(settings, topics.TRADE_POSITIONS), events(settings, topics.TRADE_EXIT_PLANS)
    assert {row["symbol"] for row in audit["open"] if row["protected"]} == set(BY_HAND)
    late = {e["symbol"]: e["first_protected_wall"] - stack.opened for e in audit["episodes"]}
    assert all(seconds < WITHIN_S for seconds in late.values()), late
    for symbol, (side, quantity) in BY_HAND.items():
        mine = [event for event in positions if event["instrument"] == instrument_of(symbol)]
        assert Decimal(mine[-1]["quantity"]) == Decimal(quantity)
        assert mine[-1]["side"] == ("LONG" if side == "BUY" else "SHORT")
        assert mine[-1]["entry_client_id"].startswith("web_")
        assert [plan for plan in plans if plan["instrument"] == instrument_of(symbol)], f"no plan for {symbol}"
