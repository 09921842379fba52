"""The rate budget: protection is never held back, everybody is sure of a share, entries leave room for what reduces."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from infra.settings import load
from infra.venue.binance.budget import SHARES, Budget, Lane, weight_of
from infra.venue.binance.client import BinanceUsdm
from infra.venue.local.routes import ROUTES
from infra.venue.port import Meaning, OrderRequest, VenueError
from schemas.trading import OrderType
from schemas.units import OrderSide


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def budget(share: float = 0.25) -> tuple[Budget, Clock]:
    clock = Clock()
    return Budget(share, 2400, clock), clock


def test_the_shares_are_the_whole_and_no_more() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_a_share_is_sure_even_when_the_address_is_nearly_used_up() -> None:
    mine, _ = budget()
    mine.told(2399, None)
    assert mine.free(Lane.TRADE, 40)
    mine.spend(500)
    assert not mine.free(Lane.TRADE, 40)
    assert mine.free(Lane.PROTECT, 40)


def test_history_goes_first_when_it_gets_tight_and_comes_back_after_a_minute() -> None:
    mine, clock = budget()
    mine.spend(310)
    mine.told(1900, None)
    assert not mine.free(Lane.CALM, 20)
    assert mine.free(Lane.TRADE, 20)
    clock.now += 60
    assert mine.free(Lane.CALM, 20)


def test_what_nobody_uses_may_be_used() -> None:
    mine, _ = budget()
    mine.spend(1500)
    mine.told(1500, None)
    assert mine.free(Lane.CALM, 20)


def test_entries_leave_the_last_fifth_of_the_orders_to_what_reduces() -> None:
    mine, clock = budget()
    mine.told(None, 239)
    assert mine.entry_fits()
    mine.told(None, 240)
    assert not mine.entry_fits()
    clock.now += 10
    assert mine.entry_fits()


def test_tightening_waits_before_entries_are_refused_and_longer_than_nothing_is_said() -> None:
    mine, clock = budget()
    assert mine.tightening_fits()
    mine.told(None, 180)
    assert (mine.tightening_fits(), mine.entry_fits(), mine.free(Lane.PROTECT, 1)) == (False, True, True)
    clock.now += 10
    assert mine.tightening_fits()


ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "openOrders", {}),
    ("GET", "openOrders", {"symbol": "BTCUSDT"}),
    ("GET", "openAlgoOrders", {}),
    ("GET", "premiumIndex", {}),
    ("GET", "klines", {"symbol": "BTCUSDT", "limit": "1000"}),
    ("GET", "klines", {"symbol": "BTCUSDT", "limit": "1500"}),
    ("GET", "aggTrades", {"symbol": "BTCUSDT"}),
    ("GET", "userTrades", {"symbol": "BTCUSDT"}),
    ("GET", "allOrders", {"symbol": "BTCUSDT"}),
    ("GET", "allAlgoOrders", {"symbol": "BTCUSDT"}),
    ("GET", "order", {"symbol": "BTCUSDT"}),
    ("POST", "order", {"symbol": "BTCUSDT"}),
    ("POST", "algoOrder", {"symbol": "BTCUSDT"}),
    ("DELETE", "algoOrder", {}),
    ("POST", "listenKey", {}),
    ("POST", "leverage", {"symbol": "BTCUSDT"}),
]


@pytest.mark.parametrize(("method", "path", "params"), ASKED)
def test_we_count_as_the_exchange_counts(method: str, path: str, params: dict[str, Any]) -> None:
    assert weight_of(method.lower(), path, params) == ROUTES[method, f"/fapi/v1/{path}"].weight(params)


def test_an_entry_that_our_own_budget_holds_back_has_not_left_the_house() -> None:
    """So that execution gives it up (ABANDONED), and no breaker takes it for an error of the exchange."""
    venue = BinanceUsdm(load(), who="execution")
    venue.budget.told(None, 299)
    wanted = OrderRequest("binance.usdm.BTCUSDT", OrderSide.BUY, OrderType.MARKET, Decimal("0.01"), "e-1")
    with pytest.raises(VenueError) as held:
        asyncio.run(venue.place_order(wanted))
    assert held.value.outcome.meaning is Meaning.NOT_SENT
