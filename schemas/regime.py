"""The regime of a market: what kind of movement it is in, per symbol and over all of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import Event, InstrumentEvent, Value
from schemas.ids import Instrument
from schemas.units import Source, UtcMs


class Regime(StrEnum):
    TREND = "TREND"
    RANGE = "RANGE"
    VOLATILE = "VOLATILE"
    QUIET = "QUIET"
    CRASH = "CRASH"


class SymbolRegime(InstrumentEvent):
    """Of one instrument at the close of a candle, and since which close. The numbers that decided are features of that candle:
    `drop` = rel_momentum, `volatility_ratio` = hv_20/hv_50, `adx`, `trend_strength`."""

    type: Literal["market.symbol-regime"] = "market.symbol-regime"
    features_id: str
    regime: Regime
    since: UtcMs
    drop: float
    volatility_ratio: float
    adx: float
    trend_strength: float
    source: Source


class Coupling(Value):
    """One instrument in the whole: its regime, and the correlation of its returns with the mean return of the others."""

    instrument: Instrument
    regime: Regime
    correlation: float


class MarketRegime(Event):
    """Of all instruments together, when the last of them has closed the candle. Stands in partition 0.

    `correlation`: mean over all pairs of their last `bars` returns; `members`: sorted by instrument.
    """

    type: Literal["market.market-regime"] = "market.market-regime"
    partition: int
    regime: Regime
    correlation: float
    bars: int
    members: list[Coupling]
