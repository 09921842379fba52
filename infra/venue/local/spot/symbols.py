"""Spot symbols: the same names and prices as the perpetuals, on a grid of their own, as on the real exchange.

A spot tick or step is a whole part of the perpetual's, so that every price and quantity of the market source is exact on
both grids.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

from infra.venue.local.market.base import Quote, Symbol, Trade

MIN_NOTIONAL: Final = Decimal(5)
MAX_NOTIONAL: Final = Decimal(9_000_000)
GRIDS: Final[dict[str, tuple[str, str]]] = {  # base: tick, step
    "BTC": ("0.01", "0.00001"),
    "ETH": ("0.01", "0.0001"),
    "SOL": ("0.01", "0.001"),
    "ADA": ("0.0001", "0.1"),
    "DOGE": ("0.00001", "1"),
    "AVAX": ("0.001", "0.01"),
    "BNB": ("0.01", "0.001"),
}


class Grid(NamedTuple):
    """A spot symbol, and how many of its ticks and steps one of the perpetual's is."""

    symbol: Symbol
    ticks: int
    steps: int

    def quote(self, quote: Quote) -> Quote:
        ticks, steps = self.ticks, self.steps
        return Quote(quote.symbol, quote.t, quote.bid * ticks, quote.bid_qty * steps, quote.ask * ticks, quote.ask_qty * steps)

    def trade(self, trade: Trade) -> Trade:
        return replace(trade, price=trade.price * self.ticks, qty=trade.qty * self.steps)


def grid_of(perpetual: Symbol) -> Grid:
    tick, step = GRIDS.get(perpetual.base, (str(perpetual.tick), str(perpetual.step)))
    symbol = replace(
        perpetual,
        tick=Decimal(tick),
        step=Decimal(step),
        min_qty=Decimal(step),
        min_notional=MIN_NOTIONAL,
        price_precision=8,
        quantity_precision=8,
    )
    return Grid(symbol, int(perpetual.tick / symbol.tick), int(perpetual.step / symbol.step))
