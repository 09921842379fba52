"""One stack, two histories. Positions that no order of ours has opened: it finds them at its start, adopts them, gives each its
stop. Then two `features` workers share the partitions; one is killed and stays away: the other takes over with its state."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from infra import children
from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.paths import CHECKOUT
from infra.ports import free_port
from infra.settings import Settings, load
from infra.venue.binance.filters import instrument_of
from infra.venue.by_hand import tell
from schemas import ids, topics
from streams import bootstrap
from streams.chart import CHART
from streams.cli import any_ports
from streams.dashboards import BOARDS, queries
from streams.doctor import examine
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


def test_a_street_that_is_prepared_takes_a_heartbeat_from_kafka_to_clickhouse(stack: Stack) -> None:
    assert bootstrap.make(stack.settings, 5.0) == bootstrap.wait(stack.settings, 5.0)
    assert [check for check in examine(stack.settings, round_trip=True) if not check["ok"]] == []


def test_every_metric_of_alerts_and_boards_is_exported_by_a_worker(stack: Stack) -> None:
    exported = {"up"}  # Prometheus' own
    for url in probes(stack):
        with urllib.request.urlopen(f"http://{url}/metrics", timeout=10) as answer:
            for name, kind in re.findall(r"^# TYPE (\w+) (\w+)", answer.read().decode(), re.M):
                exported |= {f"{name}_count", f"{name}_sum"} if kind == "summary" else {name}
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    asked = [*queries(), *(rule["expr"] for group in alerts for rule in group["rules"])]
    named = {name for query in asked for name in re.findall(r"\b(?:qt|process)_\w+", query)}
    assert named - exported == set()


@pytest.mark.full
def test_prometheus_scrapes_every_worker_and_finds_something_for_every_panel(
    stack: Stack, say: Callable[[str], None], tmp_path: Path
) -> None:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("NOT TESTED: there is no prometheus (package prometheus)")
    config = yaml.safe_load((CHECKOUT / "compose" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(CHART / "files" / "alerts.yaml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": probes(stack)}]
    (file := tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()

    def ask(what: str, **asked: str) -> Any:
        url = f"http://127.0.0.1:{port}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        return json.loads(urllib.request.urlopen(url, timeout=10).read())["data"]

    def numbers(query: str) -> list[float]:
        found = ask("query", query=query.replace("$__rate_interval", "30s"))["result"]
        return [number for each in found if not math.isnan(number := float(each["value"][1]))]

    with (tmp_path / "log").open("wb") as log:
        where = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        server = children.spawn([binary, f"--config.file={file}", *where], stdout=log, stderr=log)
    try:
        wanted = set(queries())
        left, deadline = set(wanted), time.monotonic() + 240

        def all_found() -> bool:
            for query in sorted(left):
                with contextlib.suppress(OSError):
                    if numbers(query):
                        left.discard(query)
            time.sleep(1.0)
            return not left or time.monotonic() > deadline

        stack.watch(all_found)
        assert not left
        scraped = {each["labels"]["instance"]: each["health"] for each in ask("targets")["activeTargets"]}
        assert scraped == dict.fromkeys(probes(stack), "up")
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] == "err"} == {}
        for query in (panel.query for panel in BOARDS["workers"][1] if panel.legend == "{{instance}}"):
            assert len(numbers(query)) == len(topics.WORKERS), query
        firing = sorted({rule["name"] for rule in rules if rule.get("state") == "firing"})
        say(
            f"{len(wanted)} of {len(queries())} queries answered, {len(scraped)} of {len(topics.WORKERS)} workers scraped, "
            f"{len(rules)} rules evaluated, firing: {', '.join(firing) or 'none'}"
        )
    finally:
        children.stop(server, 10)


def probes(stack: Stack) -> list[str]:
    """host:port of every worker's probe."""
    return [str(vars(worker.server)["ready_url"]).split("/")[2] for worker in stack.workers()]


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
