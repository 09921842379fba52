"""One suite for both markets over real sockets: what protects a position rests, moves, triggers, and is never silently missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from infra.settings import load
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.binance.spot import BinanceSpot
from infra.venue.local.scripted import START_T, at_price, walk
from infra.venue.local.staged import KEY, SECRET, Staged, staged
from infra.venue.port import Meaning, OrderRequest, Protection, VenueError
from infra.venue.protection import Bare, move
from schemas.trading import OrderType
from schemas.units import OrderSide

P = 960_000
SCRIPT = [*walk("BTCUSDT", [P, P + 10, P - 5]), *at_price("BTCUSDT", START_T + 10_000, P - 9_000)]
STOP, TIGHTER, PASSED, GOAL = Decimal(95_000), Decimal(95_500), Decimal(97_000), Decimal(98_000)


@dataclass
class Market:
    here: Staged
    venue: Any
    instrument: str
    paired: bool

    def protection(self, name: str, stop: Decimal, quantity: Decimal) -> Protection:
        return Protection(self.instrument, OrderSide.SELL, stop, name, quantity, GOAL if self.paired else None)

    async def bought(self) -> Decimal:
        """A position; what of it can be sold (spot takes its fee from it)."""
        await self.here.go_to(2)
        order = OrderRequest(self.instrument, OrderSide.BUY, OrderType.MARKET, Decimal("0.01"), "entry")
        await self.venue.place_order(order)
        step = (await self.venue.filters())[self.instrument].step
        return Decimal((await self.held()) // step * step)

    async def held(self) -> Decimal:
        return sum((p.quantity for p in await self.venue.positions() if p.instrument == self.instrument), Decimal(0))

    async def levels(self) -> list[tuple[str, Decimal]]:
        return [(p.client_id, p.stop_price) for p in await self.venue.protections(self.instrument)]

    async def fault(self, kind: str, route: str, count: int = 1) -> None:
        await self.here.order_control("POST", "faults", {"route": route, "kind": kind, "count": count})

    @property
    def route(self) -> str:
        return "POST api/v3/orderList/oco" if self.paired else "POST algoOrder"


@pytest.fixture(params=["usdm", "spot"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    name, kind = request.param, BinanceUsdm if request.param == "usdm" else BinanceSpot

    @asynccontextmanager
    async def enter() -> AsyncIterator[Market]:
        async with staged(SCRIPT, tmp_path) as here:
            async with kind(load(venue_url=here.http, api_key=KEY, api_secret=SECRET), timeout_s=1.0) as venue:  # type: ignore[arg-type]
                yield Market(here, venue, instrument_of("BTCUSDT", name), paired=name == "spot")

    return enter


async def test_a_protection_rests_moves_and_ends_the_position_when_it_triggers(opened: Callable[[], Any]) -> None:
    async with opened() as market:
        quantity = await market.bought()
        first, second = market.protection("one", STOP, quantity), market.protection("two", TIGHTER, quantity)
        await market.venue.protect(first)
        assert await market.venue.protections(market.instrument) == [first]
        moved = await move(market.venue, first, second)
        assert (moved.protection, moved.refused) == (second, None)
        assert (moved.bare_s > 0) is market.paired, "only where two cannot rest side by side is there a time between"
        assert await market.venue.protections(market.instrument) == [second]
        await market.here.go_to(11)  # the price falls through it
        assert await market.held() == 0
        assert await market.levels() == []
        with pytest.raises(VenueError) as told:
            await move(market.venue, second, market.protection("three", STOP, quantity))
        assert told.value.outcome.meaning is Meaning.NO_SUCH_ORDER, told.value
        trades = await market.venue.user_trades(market.instrument)
        assert [trade.side for trade in trades] == [OrderSide.BUY, OrderSide.SELL]


async def test_a_level_that_the_market_has_passed_leaves_the_old_one_at_work(opened: Callable[[], Any]) -> None:
    async with opened() as market:
        quantity = await market.bought()
        first, passed = market.protection("one", STOP, quantity), market.protection("two", PASSED, quantity)
        await market.venue.protect(first)
        if market.paired:
            moved = await move(market.venue, first, passed)
            assert moved.refused is not None
            assert moved.refused.outcome.meaning is Meaning.WOULD_TRIGGER
        else:
            with pytest.raises(VenueError) as told:
                await move(market.venue, first, passed)
            assert told.value.outcome.meaning is Meaning.WOULD_TRIGGER
        assert [stop for _, stop in await market.levels()] == [STOP]


@pytest.mark.parametrize("kind", ["accept-then-drop", "accept-then-503", "accept-then-hang"])
async def test_an_answer_that_is_lost_is_asked_for_and_nothing_rests_twice(opened: Callable[[], Any], kind: str) -> None:
    async with opened() as market:
        quantity = await market.bought()
        first, second = market.protection("one", STOP, quantity), market.protection("two", TIGHTER, quantity)
        await market.venue.protect(first)
        await market.fault(kind, market.route)
        moved = await move(market.venue, first, second)
        assert moved.protection == second
        assert await market.levels() == [("two", TIGHTER)]


async def test_who_ends_bare_is_told_so(opened: Callable[[], Any]) -> None:
    """Spot alone can: neither the new level nor the old one is taken."""
    async with opened() as market:
        quantity = await market.bought()
        first, second = market.protection("one", STOP, quantity), market.protection("two", TIGHTER, quantity)
        await market.venue.protect(first)
        await market.fault("refuse-503", market.route, count=2)
        with pytest.raises(Bare if market.paired else VenueError) as told:
            await move(market.venue, first, second)
        if isinstance(told.value, Bare):
            assert told.value.bare_s > 0
            assert await market.levels() == []
        else:
            assert await market.levels() == [("one", STOP)]


async def test_the_rest_of_a_protection_is_what_it_still_covers(opened: Callable[[], Any]) -> None:
    """Orders of others are told as what they are: nothing that could grow a position counts as protection."""
    async with opened() as market:
        quantity = await market.bought()
        order = OrderRequest(market.instrument, OrderSide.BUY, OrderType.LIMIT, Decimal("0.01"), "resting", Decimal(90_000))
        await market.venue.place_order(order)
        assert await market.levels() == []
        await market.venue.protect(market.protection("one", STOP, quantity))
        assert await market.levels() == [("one", STOP)]
        await market.venue.unprotect(market.instrument, "one")
        assert await market.levels() == []
        assert [o.client_id for o in await market.venue.open_orders(market.instrument)] == ["resting"]
