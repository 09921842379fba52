"""Filters come from the filters, and what we round the exchange does not object to."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.venue.binance.filters import objection, parse_filters
from processors import filters as rounding
from schemas.units import Side

BTC = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "contractType": "PERPETUAL",
    "pricePrecision": 2,
    "quantityPrecision": 3,
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "556.80", "maxPrice": "4529764"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "120"},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
    ],
}
FILTERS = parse_filters(BTC)
OURS = rounding.Filters(FILTERS.tick, FILTERS.step, FILTERS.min_quantity, FILTERS.market_max_quantity, FILTERS.min_notional)
MARK = Decimal(64000)


def test_a_precision_is_no_tick() -> None:
    assert FILTERS.instrument == "binance.usdm.BTCUSDT"
    assert FILTERS.tick == Decimal("0.1")
    assert FILTERS.market_max_quantity == 120
    assert FILTERS.trading


@pytest.mark.parametrize("status", ["SETTLING", "PENDING_TRADING", "CLOSE"])
def test_what_is_not_trading_is_not_open(status: str) -> None:
    assert not parse_filters(BTC | {"status": status}).trading


@given(st.decimals("0.001", "2000", places=6))
def test_a_quantity_never_grows_and_is_taken(wanted: Decimal) -> None:
    found = rounding.quantity(wanted, OURS)
    assert found <= wanted
    if found:
        assert objection(FILTERS, found, None, MARK, reduces=True, market=True) is None


@given(st.decimals("557", "200000", places=5), st.sampled_from(Side))
def test_a_stop_never_loosens_and_is_taken(level: Decimal, side: Side) -> None:
    found = rounding.stop_price(level, side, OURS)
    assert found >= level if side is Side.LONG else found <= level
    assert abs(found - level) < FILTERS.tick
    assert objection(FILTERS, Decimal(1), found, MARK, reduces=True) is None


@pytest.mark.parametrize(
    ("quantity", "price", "reduces", "word"),
    [
        ("0.0015", None, False, "multiple"),
        ("0", None, False, "positive"),
        ("121", None, False, "outside"),
        ("0.001", None, False, "notional"),
        ("1", "64000.05", False, "multiple"),
        ("1", "500.00", False, "outside"),
        ("-1", None, True, "positive"),
    ],
)
def test_objections_name_what_is_wrong(quantity: str, price: str | None, reduces: bool, word: str) -> None:
    found = objection(FILTERS, Decimal(quantity), Decimal(price) if price else None, MARK, reduces=reduces, market=True)
    assert found is not None
    assert word in found


def test_an_order_that_only_reduces_may_be_small_and_needs_no_open_market() -> None:
    closed = parse_filters(BTC | {"status": "SETTLING"})
    assert objection(closed, Decimal("0.001"), None, MARK, reduces=True) is None
    assert objection(closed, Decimal("0.1"), None, MARK, reduces=False) is not None
