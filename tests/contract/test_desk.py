"""The desk that sends orders, against the real local exchange over sockets; the log is kept in memory and folded as the stage does.

What needs a broker, or a worker that dies, is in tests/e2e/test_order_path.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.ports import free_ports
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.binance.sockets import user_stream
from infra.venue.local.auth import Keys
from infra.venue.local.runtime import Exchange
from infra.venue.port import OrderRequest, OrderSeen, StopRequest
from processors import execution
from processors.execution import State
from processors.step import Context
from schemas import hot
from schemas.ids import partition_of
from schemas.policy import Execution, Policy
from schemas.trading import Order, OrderState, OrderType
from schemas.units import OrderSide, Source
from streams.bench.matrix.cases import Case
from streams.bench.matrix.exchange import FlatMarket
from streams.bench.matrix.run import QUANTITY, Play
from streams.brakes import StopFile
from streams.desk import Desk
from streams.envelope import Cause
from streams.user_events import fill_event, update_event

SYMBOL = "Q000USDT"
KEY = instrument_of(SYMBOL)
POLICY = Policy(
    execution=Execution(recv_window_ms=1000, request_timeout_s=1.0, resolve_after_s=0.2, ask_every_s=0.2, entry_ttl_s=600)
)


class Log:
    """trade.orders in memory: whatever is said is folded, as the stage does, and the desk hears of the state."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.state, self.said = desk, State(), list[Order]()
        self.current = True

    async def send_now(self, event: Any, cause: Cause | None = None) -> None:
        self.said.append(event)
        asyncio.get_running_loop().call_soon(self.take, event)

    async def prove_ownership(self, partition: int) -> None:
        """Nobody else is there."""

    def is_current(self, topic: str, partition: int) -> bool:
        return self.current

    def policy(self) -> tuple[int, Policy]:
        return 1, POLICY

    def take(self, event: Any) -> None:
        context = Context("any", 0, 0, POLICY, 1, "sim", MappingProxyType({}), "trace")
        step = execution.step(self.state, event, context)
        assert step.state is not None
        self.state = step.state
        self.said += step.events
        self.desk.on_state(KEY, self.state)

    def states(self, client_id: str) -> list[OrderState]:
        return [order.state for order in self.said if order.client_id == client_id]


class Stage:
    def __init__(self, exchange: Exchange, log: Log, venue: BinanceUsdm) -> None:
        self.exchange, self.log, self.venue = exchange, log, venue

    def fault(self, **body: Any) -> None:
        self.exchange.faults.plan(body)

    async def until(self, true: Callable[[], bool], timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not true():  # noqa: ASYNC110 - what is waited for has many causes
                await asyncio.sleep(0.02)

    def orders(self) -> list[dict[str, Any]]:
        """Of the ordinary book, children apart."""
        rows = {r["order"]["id"]: r["order"] for r in self.exchange.journal.records if r["k"] == "order"}
        return [row for row in rows.values() if not row["algo_id"]]


@asynccontextmanager
async def street(directory: Path) -> AsyncIterator[Stage]:
    port, control_port = free_ports(2)
    settings = Settings(exchange_port=port, exchange_control_port=control_port, symbols=SYMBOL, run_dir=directory)
    keys = Keys("local-key", "local-secret")
    exchange = Exchange(
        FlatMarket([SYMBOL]), speed=1.0, keys=keys, balance=Decimal(10_000), directory=directory, identity={}, limits=False
    )
    ready = asyncio.Event()
    serving = asyncio.create_task(exchange.serve(port, control_port, ready))
    await ready.wait()
    desk = Desk(settings, StopFile(settings))
    log = Log(desk)
    async with BinanceUsdm(settings) as venue:
        stream = user_stream(settings, venue)

        async def listen() -> None:
            async for batch in stream.batches():
                for seen in batch.messages:
                    if isinstance(seen, OrderSeen):
                        fill = seen.fill
                        told = fill_event(fill, "sim", Source.SYNTHETIC, backfilled=False) if fill else update_event(seen, "sim")
                        log.take(told)

        ear = asyncio.create_task(listen())
        desk.attach(log)
        stage = Stage(exchange, log, venue)
        await stage.until(lambda: stream.connected)
        try:
            yield stage
        finally:
            ear.cancel()
            await stream.close()
            await desk.close()
            exchange.stopping.set()
            await serving


def play() -> Play:
    return Play(Case("entry.planned", "none", "kill"), SYMBOL, 1)


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [{"kind": "accept-then-hang", "route": "POST order"}],
        [{"kind": "accept-then-drop", "route": "POST order"}, {"kind": "accept-then-hang", "route": "GET order"}],
        [{"kind": "accept-then-503", "route": "POST order"}, {"kind": "refuse-2013", "route": "GET order", "count": 9}],
        [{"kind": "accept-then-4116", "route": "POST order"}],
        [{"kind": "accept-then-1007", "route": "POST algoOrder"}, {"kind": "refuse-2013", "route": "GET algoOrder", "count": 9}],
        [{"kind": "refuse-503", "route": "POST algoOrder"}, {"kind": "refuse-1021", "route": "POST algoOrder"}],
        [{"kind": "refuse-4130", "route": "POST algoOrder"}],
    ],
    ids=lambda faults: " ".join(fault["kind"] for fault in faults) or "none",
)
async def test_an_entry_becomes_one_order_and_one_stop_whatever_happens_to_the_answers(
    faults: list[dict[str, Any]], tmp_path: Path
) -> None:
    async with street(tmp_path) as stage:
        for fault in faults:
            stage.fault(**fault)
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        case = play()
        stage.log.take(case.entry())
        await stage.until(lambda: bool([algo for algo in stage.exchange.venue.engine.floor.algos.values() if algo.is_live]))
        await stage.until(lambda: not execution.work(stage.log.state))
        assert [(row["client_id"], row["status"]) for row in stage.orders()] == [(case.ids["entry"], "FILLED")]
        assert [position.quantity for position in await stage.venue.positions()] == [QUANTITY]
        (stop,) = await stage.venue.open_algo_orders(KEY)
        assert stop.client_id in case.attempts[case.ids["stop"]]


async def test_an_order_that_never_arrived_is_sent_again_under_another_id_only_behind_its_window(tmp_path: Path) -> None:
    async with street(tmp_path) as stage:
        stage.fault(kind="refuse-drop", route="POST order")
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        case = play()
        stage.log.take(case.entry())
        await stage.until(lambda: bool(stage.orders()))
        first, second = case.attempts[case.ids["entry"]][:2]
        assert [row["client_id"] for row in stage.orders()] == [second]
        sent = {order.client_id: order.sent_at for order in stage.log.said if order.state is OrderState.SENDING}
        assert (sent[second] or 0) - (sent[first] or 0) >= 1000 + 200 + 2 * 200


async def test_entries_wait_until_a_position_from_before_is_protected(tmp_path: Path) -> None:
    async with street(tmp_path) as stage:
        case, other = play(), Play(Case("entry.planned", "none", "kill"), SYMBOL, 2)
        await stage.venue.place_order(OrderRequest(KEY, OrderSide.BUY, OrderType.MARKET, QUANTITY, "web-1"))
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        stage.log.take(case.entry())
        await asyncio.sleep(0.5)
        assert stage.log.states(case.ids["entry"]) == [OrderState.PLANNED]
        await stage.venue.place_algo(StopRequest(KEY, OrderSide.SELL, Decimal("97.00"), other.ids["stop"]))
        await stage.until(lambda: OrderState.FILLED in stage.log.states(case.ids["entry"]))


async def test_a_stop_file_ends_what_opens_before_it_is_sent_and_withdraws_what_rests_but_exits_pass(tmp_path: Path) -> None:
    async with street(tmp_path) as stage:
        resting, held, exit_ = play(), Play(Case("entry.planned", "none", "kill"), SYMBOL, 2), play().close()
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        bid = {"order_type": OrderType.LIMIT, "limit_price": Decimal("97.00"), "stop_price": Decimal("95.00")}
        stage.log.take(resting.entry().model_copy(update=bid))
        await stage.until(lambda: OrderState.ACKED in stage.log.states(resting.ids["entry"]))
        stop_file = tmp_path / "stop"
        stop_file.write_text("anna")
        await stage.until(lambda: OrderState.CANCELED in stage.log.states(resting.ids["entry"]))
        stage.log.take(held.entry())
        await stage.until(lambda: OrderState.ABANDONED in stage.log.states(held.ids["entry"]))
        (told,) = [o.reason for o in stage.log.said if o.client_id == held.ids["entry"] and o.state is OrderState.ABANDONED]
        assert told == "EMERGENCY_STOP: stop file: anna"
        assert [row["status"] for row in stage.orders()] == ["CANCELED"]
        await stage.venue.place_order(OrderRequest(KEY, OrderSide.BUY, OrderType.MARKET, QUANTITY, "web-1"))
        stage.log.take(exit_)
        await stage.until(lambda: OrderState.FILLED in stage.log.states(exit_.client_id))
        assert await stage.venue.positions() == []
        stop_file.unlink()
        again = Play(Case("entry.planned", "none", "kill"), SYMBOL, 3)
        stage.log.take(again.entry())
        await stage.until(lambda: OrderState.FILLED in stage.log.states(again.ids["entry"]))


async def test_a_close_cancels_what_stands_in_its_way_whoever_placed_it(tmp_path: Path) -> None:
    async with street(tmp_path) as stage:
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        await stage.venue.place_order(OrderRequest(KEY, OrderSide.BUY, OrderType.MARKET, QUANTITY, "web-1"))
        profit = OrderRequest(KEY, OrderSide.SELL, OrderType.LIMIT, QUANTITY, "web-2", Decimal("104.00"), reduce_only=True)
        await stage.venue.place_order(profit)
        exit_ = play().close()
        stage.log.take(exit_)
        await stage.until(lambda: [row["status"] for row in stage.orders()] == ["FILLED", "CANCELED", "FILLED"])
        assert await stage.venue.positions() == []
        codes = [order.error_code for order in stage.log.said if order.intent_id == exit_.event_id]
        assert -4118 in codes


async def test_an_entry_from_before_an_outage_waits_for_the_time_and_is_abandoned_when_it_is_late(tmp_path: Path) -> None:
    """What the state knows is the time before the outage: by that the entry would not be late."""
    async with street(tmp_path) as stage:
        stage.log.current = False
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        case = play()
        stage.log.take(case.entry().model_copy(update={"not_after": 60_000}))
        await asyncio.sleep(0.5)
        assert stage.log.states(case.ids["entry"]) == [OrderState.PLANNED]
        stage.log.take(hot.Marks("m", "market.marks", 3_600_000, 0, [], "synthetic"))
        stage.log.current = True
        await stage.until(lambda: OrderState.ABANDONED in stage.log.states(case.ids["entry"]))
        assert not stage.orders()


async def test_a_stop_of_another_hand_that_we_took_for_ours_is_missed_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.desk.RECONCILE_S", 0.2)
    monkeypatch.setattr("streams.desk.JUST_SAID_S", 0.1)
    async with street(tmp_path) as stage:
        await stage.venue.place_order(OrderRequest(KEY, OrderSide.BUY, OrderType.MARKET, QUANTITY, "web-1"))
        await stage.venue.place_algo(StopRequest(KEY, OrderSide.SELL, Decimal("99.00"), "web-2"))
        stage.log.desk.on_live(partition_of(KEY), {KEY: stage.log.state})
        case = play()
        stage.log.take(case.entry())
        await stage.until(lambda: OrderState.ACKED in stage.log.states(case.ids["stop"]))
        await asyncio.sleep(1.0)
        assert stage.log.states(case.ids["stop"])[-1] is OrderState.ACKED, "it rests, under another name"
        await stage.venue.cancel_algo(KEY, "web-2")
        await stage.until(lambda: stage.log.states(case.ids["stop"])[-1] is OrderState.EXPIRED)
