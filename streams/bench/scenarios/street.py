"""The street of the scenarios: broker, exchange, and the workers that protect, each as the launcher starts it.

The market stands still at PRICE, a hundred times as fast as the wall, until somebody moves it; it has one instrument a scenario.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from infra.broker.admin import TopicSpec
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.port import OrderRequest
from schemas import topics
from schemas.policy import Breaker, Emergency, Policy, Universe, UniverseMode
from schemas.trading import OrderType
from schemas.units import OrderSide
from streams.bench.matrix.street import Member, Street, Waits
from streams.commands import first_policy
from streams.launcher import python
from streams.nursery import ALONE, Nursery
from streams.worker import state_topics

NAMES = tuple(f"P{n:02d}USDT" for n in range(1, 49))
SPEED = 100.0
SCALE = 1.0
"""Of the waits of the order path: the true ones."""
TOKEN = "token-of-the-scenarios-4c1b"
LIVE = ("market", "control", "risk", "execution", "account", "positions", "exits", "guardian")
STEP = Decimal("0.01")
LOOK_S = 0.1
Row = dict[str, Any]


class Forked(Member):
    """A worker as the launcher bears it; `down`: it stays away until `start`."""

    def __init__(self, name: str, env: dict[str, str], log: Path, nursery: Nursery) -> None:
        self._nursery, self.down = nursery, False
        self._one_at_a_time = threading.Lock()
        super().__init__(name, 0, env, ["streams.cli", "worker", name], log)

    def start(self) -> None:
        self.down = False
        if self.name in ALONE:
            super().start()
            return
        self.restarts += 1
        self.popen = self._nursery.spawn(self.name, self._env, self._log)  # type: ignore[assignment]  # what is used of both is the same

    def ready(self) -> bool:
        return self.down or super().ready()

    def tend(self) -> None:
        """From any thread."""
        with self._one_at_a_time:
            if not self.down:
                super().tend()

    def fell(self) -> None:
        """kill -9, and nobody starts it again."""
        self.down = True
        self.kill()


@dataclass
class Book:
    """One instrument on the exchange, by its own log."""

    orders: dict[int, Row] = field(default_factory=dict)
    algos: dict[int, Row] = field(default_factory=dict)
    fills: list[Row] = field(default_factory=list)
    net: Decimal = Decimal(0)

    def take(self, record: Row) -> None:
        match record["k"]:
            case "order":
                self.orders[record["order"]["id"]] = record["order"]
            case "algo":
                self.algos[record["algo"]["id"]] = record["algo"]
            case "fill":
                self.fills.append(record)
                self.net += Decimal(record["qty"]) * (1 if record["side"] == "BUY" else -1)


class LiveStreet(Street):
    """`with LiveStreet(directory) as street:`; `books` follow the exchange, `log` the topics, whole as they are."""

    reads = (
        topics.TRADE_ORDERS.name,
        topics.TRADE_FILLS.name,
        topics.TRADE_POSITIONS.name,
        topics.TRADE_CLOSED.name,
        topics.TRADE_EXIT_PLANS.name,
        topics.RISK_VERDICTS.name,
        topics.RISK_STATES.name,
        topics.BREAKER_STATES.name,
        topics.GUARDIAN_REPORTS.name,
        topics.ACCOUNT_CORRECTIONS.name,
    )

    def __init__(self, directory: Path, workers: tuple[str, ...] = LIVE) -> None:
        super().__init__(directory, Waits(SCALE), workers=[(name, 0) for name in workers])
        self.books: dict[str, Book] = defaultdict(Book)
        self.numbers = itertools.count(1)
        self._market = [",".join(NAMES), str(SPEED)]
        self._env |= {"QT_SYMBOLS": ",".join(NAMES), "QT_SPEED": str(SPEED)}
        self._nursery = Nursery(python("streams.nursery"), directory / "nursery.log")
        common: dict[str, Any] = {
            "kafka_bootstrap": self.kafka.bootstrap,
            "exchange_port": self._port,
            "exchange_control_port": self._control,
            "run_dir": directory / "run",
            "symbols": ",".join(NAMES),
        }
        self.person = Settings(**common)
        self.boss = Settings(**common, admin_token=SecretStr(TOKEN))

    def _start(self) -> None:
        super()._start()
        if "control" in [member.name for member in self.members]:
            path = self.directory / "policy.json"
            path.write_text(self.policy().model_dump_json())
            first_policy(self.person, path)
        threading.Thread(target=self._follow, daemon=True).start()

    def __exit__(self, *about: object) -> None:
        super().__exit__(*about)
        self._nursery.stop()

    def specs(self) -> list[TopicSpec]:
        """Of these workers: every partition costs a broker that starts."""
        here = {*LIVE, "*"}
        own = [t for t in topics.ALL if here & {*t.produced_by, *t.consumed_by} or t in topics.FOLLOWED]
        states = [spec for spec in state_topics() if spec.name.removeprefix("state.") in here]
        return [TopicSpec(t.name, t.partitions, t.config) for t in own] + states

    def policy(self) -> Policy:
        """Nothing here stops all: the brakes have tests of their own."""
        never = Decimal("0.99")
        return Policy(
            name="scenarios",
            execution=self.waits.policy().execution,
            universe=Universe(mode=UniverseMode.ALL, min_volume_24h=Decimal(0), min_depth=Decimal(0)),
            breaker=Breaker(symbols=1000),
            emergency=Emergency(daily_drawdown=never, weekly_drawdown=never, brake=never, errors_in_a_row=1000),
        )

    def _bear(self, name: str, index: int) -> Member:
        env = self._env | ({"QT_ADMIN_TOKEN": TOKEN} if name == "control" else {})
        return Forked(name, env, self.directory / f"{name}.log", self._nursery)

    def _tick(self) -> None:
        """The market worker tells the time."""

    def _follow(self) -> None:
        while not self._over.is_set():
            self.look()
            for member in self.members:
                member.tend()
            time.sleep(LOOK_S)

    def look(self) -> None:
        """Reads on in the exchange's log; by one thread alone."""
        told = self.control("GET", f"log?after={self._read}")
        if told is None:
            return
        new = told["records"]
        self._read += len(new)
        for record in new:
            about = record.get("order") or record.get("algo") or record
            if symbol := about.get("symbol"):
                self.books[symbol].take(record)

    def fall(self) -> None:
        """kill -9 of everything but the exchange, the nursery and the broker too."""
        for member in self.members:
            self.worker(member.name).down = True
        self._nursery.abandon()
        for member in self.members:
            member.kill()
        self.kafka.kill()

    def rise(self) -> None:
        """What is away starts again."""
        self.kafka.start()
        self.kafka.wait_ready()
        for member in self.members:
            if self.worker(member.name).down:
                member.start()
        self.all_ready()

    def worker(self, name: str) -> Forked:
        found = self.member(name)
        assert isinstance(found, Forked)
        return found

    def said(self, topic: topics.Topic, symbol: str) -> list[Row]:
        """What the log has of an instrument, or of a scope."""
        return list(self.log[topic.name][instrument_of(symbol) if symbol.endswith("USDT") else symbol])

    def hedge(self, dual: bool) -> None:
        """The account's position mode, set by another hand."""
        self._by_hand(lambda venue: venue.rest.futures_change_position_mode(dualSidePosition="true" if dual else "false"))

    def take_profit(self, symbol: str, quantity: str, price: str) -> None:
        """A reduce-only LIMIT order that nobody here has placed."""
        name, amount, at = instrument_of(symbol), Decimal(quantity), Decimal(price)
        order = OrderRequest(name, OrderSide.SELL, OrderType.LIMIT, amount, f"web-{symbol}", at, reduce_only=True)
        self._by_hand(lambda venue: venue.place_order(order))

    def _by_hand(self, what: Callable[[BinanceUsdm], Awaitable[Any]]) -> None:
        async def ask() -> None:
            async with BinanceUsdm(self.person) as venue:
                await venue.sync_time()
                await what(venue)

        asyncio.run(ask())
