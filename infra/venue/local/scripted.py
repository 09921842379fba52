"""A market that says exactly what it was given: for tests and for showing one case at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from infra.venue.local.market.base import (
    CANDLE_MS,
    SYMBOLS,
    Candle5m,
    Label,
    Mark,
    MarketEvent,
    MarkOrigin,
    Quote,
    Symbol,
    Trade,
    next_funding,
)

START_T = 1_767_225_600_000


class ScriptedMarket:
    """`events` in time order, after `history` flat candles at each symbol's base price."""

    label: Label = "ticks"
    history_is_generated = True
    mark_origin: MarkOrigin = "generated"

    def __init__(self, script: Sequence[MarketEvent], symbols: Sequence[str] = ("BTCUSDT",), *, history: int = 1000) -> None:
        self.symbols: tuple[Symbol, ...] = tuple(SYMBOLS[name] for name in symbols)
        self.start_t = START_T
        self._script = list(script)
        self._history = history

    def history(self) -> Iterator[Candle5m]:
        for index in range(self._history, 0, -1):
            for symbol in self.symbols:
                price = int(symbol.base_price / symbol.tick)
                yield Candle5m(symbol.name, self.start_t - index * CANDLE_MS, price, price + 2, price - 3, price + 1, 1_003)

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        return (event for event in self._script if resume_t is None or event.t > resume_t)


def at_price(symbol: str, t: int, price: int, *, qty: int = 5, depth: int = 1_000, sold: bool = True) -> list[MarketEvent]:
    """A quote around a price (in ticks), a trade at it, and a mark on it."""
    bid, ask = (price, price + 1) if sold else (price - 1, price)
    value = price * SYMBOLS[symbol].tick
    return [
        Quote(symbol, t, bid, depth, ask, depth),
        Trade(symbol, t, price, qty, sold),
        Mark(symbol, t, value, value, Decimal("0.0001"), next_funding(t)),
    ]


def walk(symbol: str, prices: Iterable[int], *, start_t: int = START_T, every_ms: int = 1_000) -> list[MarketEvent]:
    """One `at_price` after the other."""
    return [event for i, price in enumerate(prices) for event in at_price(symbol, start_t + i * every_ms, price)]
