"""Market data: what the gateway writes and what features make of it.

A frame is one instrument's trades of at most 20 ms or 100 trades, as columns; ids are contiguous from `first_id` (a gap splits the
frame and is refilled). A tick is the watermark: every trade of its partition with t < at stands before it. Sample frame:
    {"event_id":"..","type":"market.trade-frame","at":1722470400120,"instrument":"binance.usdm.BTCUSDT","first_id":7,
     "t":[1722470400100,1722470400120],"p":[64000.1,64000.2],"q":[0.01,0.2],"m":[0,1],"backfilled":false,"source":"synthetic"}
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import Event, InstrumentEvent, Value
from schemas.ids import Instrument
from schemas.units import MarketPrice, MarketQuantity, Source, UtcMs


class TradeFrame(InstrumentEvent):
    """Trades of one instrument. `at` = time of the last one; `m` = 1 where the buyer was the maker."""

    type: Literal["market.trade-frame"] = "market.trade-frame"
    first_id: int
    t: list[UtcMs]
    p: list[MarketPrice]
    q: list[MarketQuantity]
    m: list[int]
    backfilled: bool = False
    source: Source


class Tick(Event):
    """Watermark of one partition: all trades with t < at are in the log before it. Only ticks close candles.

    `boundary`: at a market minute; otherwise the wall second's. When the feed is silent `at` stands still and the age grows.
    """

    type: Literal["market.tick"] = "market.tick"
    partition: int
    boundary: bool
    feed_age_ms: int


class CandleHistory(InstrumentEvent):
    """Closed past candles of one instrument, oldest first, written before its first frame: what features warm up on.

    `at` = close of the last one; the frames that follow begin there. `next_id`: id of the first trade after it.
    `generated`: made up, because the recording has no past. `quote_volume`, `taker_buy_volume`, `trades` (of single trades):
    for the longer candles that `at` falls into; empty in the oldest messages, whose longer candles begin at `at`.
    """

    type: Literal["market.candle-history"] = "market.candle-history"
    interval: str
    open_at: list[UtcMs]
    o: list[MarketPrice]
    h: list[MarketPrice]
    l: list[MarketPrice]  # noqa: E741 - the field's standard letter
    c: list[MarketPrice]
    v: list[MarketQuantity]
    next_id: int
    generated: bool = False
    quote_volume: list[MarketQuantity] = []
    taker_buy_volume: list[MarketQuantity] = []
    trades: list[int] = []
    source: Source


class Mark(Value):
    """One instrument in a marks record; high and low of the mark price since the previous record."""

    instrument: Instrument
    mark: MarketPrice
    high: MarketPrice
    low: MarketPrice
    last: MarketPrice
    index: MarketPrice
    funding_rate: float
    next_funding_at: UtcMs
    bid: MarketPrice | None = None
    ask: MarketPrice | None = None


class Marks(Event):
    """All marks of one partition, once a wall second: the clock of protection."""

    type: Literal["market.marks"] = "market.marks"
    partition: int
    marks: list[Mark]
    source: Source


class Candle(InstrumentEvent):
    """A closed candle; `at` = its close. Built from trades. `flat`: nothing traded, v = 0 and o = h = l = c = the close before.

    `first_id` 0: the candle began before the log, and that part is known by the candle history (`backfilled`).
    """

    type: Literal["market.candle"] = "market.candle"
    interval: str
    open_at: UtcMs
    o: MarketPrice
    h: MarketPrice
    l: MarketPrice  # noqa: E741 - the field's standard letter
    c: MarketPrice
    v: MarketQuantity
    quote_volume: MarketQuantity
    taker_buy_volume: MarketQuantity
    trades: int
    first_id: int
    last_id: int
    flat: bool
    backfilled: bool
    late: int = 0
    source: Source


class Features(InstrumentEvent):
    """The feature vector of one closed 5-minute candle, float32 values in the catalogue's order; `at` = the candle's close.

    `atr_1h`: ATR14 of the closed hourly candles, a share of this close; None until there are fourteen. No feature: exits use it.
    """

    type: Literal["market.features"] = "market.features"
    interval: str
    candle_id: str
    open_at: UtcMs
    o: MarketPrice
    h: MarketPrice
    l: MarketPrice  # noqa: E741 - the field's standard letter
    c: MarketPrice
    v: MarketQuantity
    feature_set: str
    feature_hash: str
    ready: bool
    bars: int
    values: list[float]
    source: Source
    atr_1h: float | None = None


class FeatureHistory(InstrumentEvent):
    """Vectors of the closed candles before the first live one, oldest first: what windows begin with. `at` = close of the last one.

    Written once behind a candle history that told something new. `bar_ms`: the candles follow each other so far apart.
    """

    type: Literal["market.feature-history"] = "market.feature-history"
    interval: str
    bar_ms: int
    feature_set: str
    feature_hash: str
    rows: list[list[float]]
    source: Source


class Barrier(Event):
    """Behind all vectors of a partition that closed at or before `at`: they are complete, and may be decided together."""

    type: Literal["market.barrier"] = "market.barrier"
    partition: int
    interval: str


class OutsideReason(StrEnum):
    """Why an instrument may not be entered; what is open in it may be reduced and closed."""

    BLACKLISTED = "BLACKLISTED"
    NOT_LISTED = "NOT_LISTED"
    NOT_TRADING = "NOT_TRADING"
    NOT_CHOSEN = "NOT_CHOSEN"
    OTHER_CLASS = "OTHER_CLASS"
    VOLUME = "VOLUME"
    DEPTH = "DEPTH"
    DEPTH_UNKNOWN = "DEPTH_UNKNOWN"
    TOO_MANY = "TOO_MANY"


class Outside(Value):
    instrument: Instrument
    reason: OutsideReason
    detail: str


class UniverseSeen(Event):
    """Who may be entered, as the exchange and the policy say it now. `at` is market time. Told anew when it changes.

    `outside`: of those that the settings name.
    """

    type: Literal["market.universe"] = "market.universe"
    members: list[Instrument]
    outside: list[Outside]
    policy_version: int


class Peek(InstrumentEvent):
    """What `Features` would be if the forming 5-minute candle closed now; `at` = its last trade, `bars` = closed candles behind it.

    Shown and recorded, at most four in a second of an instrument. It is no `Features`, so nothing that decides can take it for one.
    """

    type: Literal["market.peek"] = "market.peek"
    interval: str
    open_at: UtcMs
    o: MarketPrice
    h: MarketPrice
    l: MarketPrice  # noqa: E741 - the field's standard letter
    c: MarketPrice
    v: MarketQuantity
    feature_set: str
    feature_hash: str
    bars: int
    values: list[float]
    source: Source
