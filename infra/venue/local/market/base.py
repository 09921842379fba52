"""What the exchange's engine and its market sources say to each other: exact integers, market time, one truth.

Prices are counted in ticks, quantities in steps, `t` is market time in milliseconds since the epoch (UTC). Trades
are the only truth: every candle that the exchange serves is aggregated from them. A source tells the past as closed
5-minute candles and the present as an ordered stream of events.

Refinements of the first sketch: `Trade.id` keeps a recorded id (0: the exchange numbers it);
`MarketSource.history_is_generated` and `mark_origin` say what was made up; `resume_t` means "everything up to and
including that millisecond has been seen". Within one millisecond a symbol's Quote stands before the Trade that meets
it, and its Mark after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, Protocol

CANDLE_MS: Final = 300_000
FUNDING_MS: Final = 8 * 3_600_000


@dataclass(frozen=True, slots=True)
class Symbol:
    """Filters as in exchangeInfo: price = ticks x tick, quantity = steps x step. A precision is never a tick."""

    name: str
    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    min_notional: Decimal
    price_precision: int
    quantity_precision: int
    base_price: Decimal  # where the synthetic market starts


@dataclass(frozen=True, slots=True)
class Candle5m:
    symbol: str
    open_t: int
    open: int
    high: int
    low: int
    close: int
    volume: int


@dataclass(frozen=True, slots=True)
class Trade:
    symbol: str
    t: int
    price: int
    qty: int
    buyer_is_maker: bool
    id: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """The best of the book."""

    symbol: str
    t: int
    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


@dataclass(frozen=True, slots=True)
class Mark:
    symbol: str
    t: int
    mark: Decimal
    index: Decimal
    funding_rate: Decimal
    next_funding_t: int


Levels = dict[int, int]  # ticks -> steps


@dataclass(frozen=True, slots=True)
class Depth:
    """Where a source knows what stands behind the best: levels that have changed (0 steps: gone), or all there are."""

    symbol: str
    t: int
    bids: Levels
    asks: Levels
    is_whole: bool = False


MarketEvent = Trade | Quote | Mark | Depth
Label = Literal["synthetic", "ticks", "candles"]
MarkOrigin = Literal["generated", "recorded-mid"]


class MarketSource(Protocol):
    @property
    def label(self) -> Label: ...

    @property
    def symbols(self) -> tuple[Symbol, ...]: ...

    @property
    def start_t(self) -> int:
        """Market time at which the live part begins: a 5-minute boundary; for recordings of ticks the time of the first event."""
        ...

    @property
    def history_is_generated(self) -> bool:
        """True where the past was made up to warm up features, beside a recorded present."""
        ...

    @property
    def mark_origin(self) -> MarkOrigin: ...

    def history(self) -> Iterable[Candle5m]:
        """At least 1,000 closed candles a symbol, in time order, ending exactly at the 5-minute boundary at or before `start_t`."""
        ...

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        """Events in time order, endless (synthetic) or ending (recordings).

        With `resume_t` only those after it, the very same as in an unbroken run.
        """
        ...


def _symbol(
    base: str,
    tick: str,
    step: str,
    max_qty: str,
    market_max_qty: str,
    min_notional: str,
    price_precision: int,
    quantity_precision: int,
    base_price: str,
) -> Symbol:
    return Symbol(
        name=f"{base}USDT",
        base=base,
        quote="USDT",
        tick=Decimal(tick),
        step=Decimal(step),
        min_qty=Decimal(step),
        max_qty=Decimal(max_qty),
        market_max_qty=Decimal(market_max_qty),
        min_notional=Decimal(min_notional),
        price_precision=price_precision,
        quantity_precision=quantity_precision,
        base_price=Decimal(base_price),
    )


# BTC, ETH, XRP, ADA and BNB as recorded from exchangeInfo; SOL, DOGE and AVAX from an older recording,
# with the tick and step that their recorded candles show.
SYMBOLS: Final[dict[str, Symbol]] = {
    s.name: s
    for s in (
        _symbol("BTC", "0.10", "0.001", "1000", "120", "100", 2, 3, "96000.0"),
        _symbol("ETH", "0.01", "0.001", "10000", "2000", "20", 2, 3, "3300.00"),
        _symbol("SOL", "0.0100", "0.01", "10000000", "20000", "5", 4, 2, "146.00"),
        _symbol("XRP", "0.0001", "0.1", "10000000", "2000000", "5", 4, 1, "2.1000"),
        _symbol("ADA", "0.00010", "1", "6000000", "1300000", "5", 5, 0, "0.4100"),
        _symbol("DOGE", "0.000010", "1", "10000000", "5000000", "5", 6, 0, "0.14700"),
        _symbol("AVAX", "0.0010", "1", "10000000", "25000", "5", 4, 0, "14.600"),
        _symbol("BNB", "0.010", "0.01", "100000", "2000", "5", 3, 2, "930.00"),
    )
}


def price_of(symbol: Symbol, ticks: int) -> Decimal:
    """Exact price of a number of ticks."""
    return ticks * symbol.tick


def qty_of(symbol: Symbol, steps: int) -> Decimal:
    """Exact base quantity of a number of steps."""
    return steps * symbol.step


def candle_start(t: int) -> int:
    """The 5-minute boundary at or before `t`."""
    return t - t % CANDLE_MS


def next_funding(t: int) -> int:
    """The first funding time after `t`."""
    return t - t % FUNDING_MS + FUNDING_MS
