"""The guardian alone against a real exchange: without a broker, without any other worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import OrderRequest, StopRequest, VenueOrder, VenuePosition
from schemas import topics
from schemas.ids import Purpose, client_id, purpose_of
from schemas.trading import OrderType
from schemas.units import OrderSide

pytestmark = pytest.mark.broker
Eventually = Callable[[Callable[[], bool], float], None]
BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"


def ask(street: Any, what: Callable[[BinanceUsdm], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with BinanceUsdm(street.direct) as venue:
            return await what(venue)

    return asyncio.run(run())


def stops(street: Any) -> list[VenueOrder]:
    found: list[VenueOrder] = ask(street, lambda venue: venue.open_algo_orders())
    return found


def positions(street: Any) -> list[VenuePosition]:
    found: list[VenuePosition] = ask(street, lambda venue: venue.positions())
    return found


@pytest.mark.timeout(120)
def test_without_the_log_it_protects_restores_and_cancels_and_tells_when_the_log_is_back(
    street: Any, eventually: Eventually
) -> None:
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")
    street.by_hand("trade", symbol="ETHUSDT", side="SELL", quantity="0.1")
    street.make_topics_of("guardian")
    street.kafka.kill()
    guardian = street.worker("guardian")
    guardian.wait_ready()
    eventually(lambda: len(stops(street)) == 2, 10)
    resting = {order.instrument: order for order in stops(street)}
    for held in positions(street):
        stop = resting[held.instrument]
        assert stop.close_position
        assert purpose_of(stop.client_id) is Purpose.GUARDIAN
        assert stop.side is held.side.closes_with
        assert abs(stop.trigger_price / held.entry_price - 1) <= Decimal("0.0251")

    ask(street, lambda venue: venue.cancel_algo(BTC, resting[BTC].client_id))
    began = time.monotonic()
    eventually(lambda: len(stops(street)) == 2, 5)
    assert time.monotonic() - began < 4

    async def ladder(venue: BinanceUsdm) -> None:
        [held] = [position for position in await venue.positions() if position.instrument == BTC]
        price = (held.mark * Decimal("1.04")).quantize(Decimal("0.1"))
        name = client_id(Purpose.TAKE_PROFIT, "orphan")
        await venue.place_order(OrderRequest(BTC, OrderSide.SELL, OrderType.LIMIT, Decimal("0.01"), name, price, reduce_only=True))

    ask(street, ladder)
    street.by_hand("trade", symbol="BTCUSDT", side="SELL", quantity="0.01")
    open_of_btc: Callable[[BinanceUsdm], Awaitable[Any]] = lambda venue: venue.open_orders(BTC)  # noqa: E731
    eventually(lambda: not ask(street, open_of_btc) and {order.instrument for order in stops(street)} == {ETH}, 20)

    street.kafka.start()
    street.kafka.wait_ready()
    eventually(lambda: len(street.records(topics.GUARDIAN_REPORTS)) >= 3, 20)
    reports = [event for _, event in street.records(topics.GUARDIAN_REPORTS)]
    assert sum(report.action == "STOP_PLACED" for report in reports) >= 3
    assert {report.instrument for report in reports if report.action == "PROTECTED"} == {BTC, ETH}
    assert all(report.unprotected_s < 6 for report in reports)
    assert len({report.event_id for report in reports}) == len(reports)
    assert guardian.end() < 3
    assert guardian.process.returncode == 0


@pytest.mark.timeout(90)
def test_a_far_foreign_stop_makes_way_and_one_near_enough_is_left_alone(street: Any, eventually: Eventually) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        street.by_hand("trade", symbol=symbol, side="BUY", quantity="0.1")

    async def place(venue: BinanceUsdm) -> None:
        for held in await venue.positions():
            share = Decimal("0.9") if held.instrument == BTC else Decimal("0.985")
            level = (held.entry_price * share).quantize(Decimal("0.1"))
            await venue.place_algo(StopRequest(held.instrument, OrderSide.SELL, level, f"web-{held.instrument[-7:]}"))

    ask(street, place)
    guardian = street.worker("guardian", QT_GUARDIAN_SWEEP_S="2")
    guardian.wait_ready()
    eventually(lambda: {purpose_of(s.client_id) for s in stops(street) if s.instrument == BTC} == {Purpose.GUARDIAN}, 12)
    eventually(lambda: len(stops(street)) == 2, 5)
    (stop,) = [stop for stop in stops(street) if stop.instrument == BTC]
    assert stop.close_position
    assert [s.client_id for s in stops(street) if s.instrument == ETH] == ["web-ETHUSDT"]
    eventually(lambda: bool(street.records(topics.GUARDIAN_REPORTS)), 10)
    [report] = [event for _, event in street.records(topics.GUARDIAN_REPORTS) if event.action != "PROTECTED"]
    assert report.action == "SWAPPED"
    assert "web-BTCUSDT" in report.detail
    assert guardian.end() < 3


@pytest.mark.timeout(90)
def test_with_its_stream_cut_a_sweep_finds_it_and_what_no_stop_is_taken_for_is_closed(street: Any, eventually: Eventually) -> None:
    guardian = street.worker("guardian", QT_GUARDIAN_SWEEP_S="2")
    guardian.wait_ready()
    street.by_hand("faults", route="*", kind="event-drop", for_s=60)
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")
    eventually(lambda: len(stops(street)) == 1, 10)
    street.by_hand("faults", route="POST algoOrder", kind="refuse-503", for_s=60)
    street.by_hand("trade", symbol="ETHUSDT", side="BUY", quantity="0.1")
    eventually(lambda: {held.instrument for held in positions(street)} == {BTC}, 35)
    told = [event for _, event in street.records(topics.GUARDIAN_REPORTS) if event.instrument == ETH]
    assert {event.action for event in told[:-1]} == {"FAILED"}
    assert told[-1].action == "CLOSED"
    assert "no stop was taken for 1" in told[-1].detail
    assert guardian.end() < 3


@pytest.mark.timeout(90)
def test_a_level_that_has_been_passed_is_closed_at_market(street: Any, eventually: Eventually) -> None:
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")
    street.by_hand("price-shock", symbol="BTCUSDT", pct=-8)
    time.sleep(0.5)
    guardian = street.worker("guardian")
    guardian.wait_ready()
    eventually(lambda: not positions(street), 12)
    eventually(lambda: bool(street.records(topics.GUARDIAN_REPORTS)), 10)
    [report] = [event for _, event in street.records(topics.GUARDIAN_REPORTS)]
    assert report.action == "CLOSED"
    assert "passed" in report.detail


@pytest.mark.timeout(90)
def test_what_is_protected_is_left_alone(street: Any, eventually: Eventually) -> None:
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")
    first = street.worker("guardian")
    eventually(lambda: len(stops(street)) == 1, 20)
    first.end()
    before = stops(street)
    second = street.worker("guardian", QT_GUARDIAN_SWEEP_S="1")
    second.wait_ready()
    time.sleep(5)
    assert stops(street) == before
    assert second.end() < 3


@pytest.mark.timeout(120)
def test_a_position_whose_stop_finds_no_place_is_closed(street: Any, eventually: Eventually) -> None:
    """The account may have 200 conditional orders, and somebody else has taken them all."""

    async def fill_the_book(venue: BinanceUsdm) -> None:
        price = (await venue.klines(ETH, "5m", 1))[-1].c
        level = (Decimal(str(price)) * Decimal("0.5")).quantize(Decimal(1))
        for n in range(200):
            stop = StopRequest(ETH, OrderSide.SELL, level + n, f"foreign-{n}", Decimal("0.01"))
            await venue.place_algo(stop)

    ask(street, fill_the_book)
    guardian = street.worker("guardian")
    guardian.wait_ready()
    street.by_hand("trade", symbol="BTCUSDT", side="BUY", quantity="0.01")
    assert positions(street)
    eventually(lambda: not [held for held in positions(street) if held.instrument == BTC], 20)
