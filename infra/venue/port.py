"""What we ask of a venue, in our own words: no wire name, no float money and no exception of a client library passes here.

Values are frozen; money is Decimal; times are milliseconds. Two clocks: `at` is venue (market) time as the venue states it,
`request_ms` is the real clock as the venue sees it, which signs requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from schemas.trading import OrderType
from schemas.units import OrderSide, Side


class Book(StrEnum):
    """Ordinary and conditional orders rest in two books that never show each other's."""

    ORDER = "ORDER"
    ALGO = "ALGO"


class OutcomeKind(StrEnum):
    """What an attempt came to. Only UNKNOWN leaves open whether the venue acted: it is resolved by a query, never by resending."""

    OK = "OK"
    UNKNOWN = "UNKNOWN"
    NOT_ACCEPTED_RETRY = "NOT_ACCEPTED_RETRY"
    FIX = "FIX"
    TERMINAL = "TERMINAL"
    SEMANTIC = "SEMANTIC"
    AUTH = "AUTH"


class Meaning(StrEnum):
    """What a SEMANTIC answer says about the world."""

    NONE = ""
    WOULD_TRIGGER = "WOULD_TRIGGER"
    """The level has been passed: close at market."""
    NOTHING_TO_REDUCE = "NOTHING_TO_REDUCE"
    """Re-read the position; if it is flat the intent is done."""
    NO_SUCH_ORDER = "NO_SUCH_ORDER"
    ALREADY_SO = "ALREADY_SO"
    """Nothing to change: a success."""
    CANNOT_CHANGE_NOW = "CANNOT_CHANGE_NOW"
    STOP_EXISTS = "STOP_EXISTS"
    """A closePosition order rests on that side already: adopt it."""
    DUPLICATE_ID = "DUPLICATE_ID"
    """The id is in the book: proof that an earlier attempt was accepted."""
    REDUCE_ONLY_FULL = "REDUCE_ONLY_FULL"
    """Resting reduce-only orders take the whole position already."""
    BOOK_FULL = "BOOK_FULL"
    """The account has as many conditional orders as it may: no stop can rest."""
    WRONG_BOOK = "WRONG_BOOK"
    """A conditional order was sent to the ordinary book."""
    NOT_SENT = "NOT_SENT"
    """Our own rate budget held it back: it has not left the house, and nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`retry_after_s`: how long the venue wants to be left alone; `banned`: by every request of this address."""

    kind: OutcomeKind
    code: int | None = None
    detail: str = ""
    meaning: Meaning = Meaning.NONE
    retry_after_s: float | None = None
    banned: bool = False


class VenueError(Exception):
    """A verb that did not succeed, with what that means. `verb` is ours, e.g. `place_order`."""

    def __init__(self, verb: str, outcome: Outcome) -> None:
        super().__init__(f"{verb}: {outcome.kind} {outcome.code if outcome.code is not None else ''} {outcome.detail}".strip())
        self.verb = verb
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Filters:
    """What an instrument's orders must obey. `trading` False: no new exposure."""

    instrument: str
    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    min_price: Decimal
    max_price: Decimal
    up_multiplier: Decimal
    down_multiplier: Decimal
    trading: bool


class PublicTrade(NamedTuple):
    """One (aggregated) trade of the market; ids are contiguous per instrument."""

    id: int
    t: int
    p: float
    q: float
    buyer_maker: bool


class Kline(NamedTuple):
    """`trades`: how many single trades made it; `quote`: price x quantity; `taker_buy`: quantity that takers bought."""

    open_at: int
    o: float
    h: float
    l: float  # noqa: E741 - the field's standard letter
    c: float
    v: float
    trades: int
    quote: float
    taker_buy: float


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """`at` is market time."""

    instrument: str
    at: int
    mark: float
    index: float
    funding_rate: float
    next_funding_at: int


class TradeSeen(NamedTuple):
    """A trade on the stream. `at`: venue time of the message."""

    instrument: str
    at: int
    trade: PublicTrade


class BestQuote(NamedTuple):
    instrument: str
    bid: float
    ask: float


MarketEvent = TradeSeen | MarkPrice | BestQuote


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order for the ordinary book: MARKET, or LIMIT with a price. `reduce_only` cannot open."""

    instrument: str
    side: OrderSide
    type: OrderType
    quantity: Decimal
    client_id: str
    price: Decimal | None = None
    reduce_only: bool = False


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A conditional order (STOP_MARKET, TAKE_PROFIT_MARKET) that can only reduce: the whole position, or `quantity` of it.

    Triggered by the mark price. `quantity` None = close_position: it closes what exists when it triggers; one a side.
    """

    instrument: str
    side: OrderSide
    trigger_price: Decimal
    client_id: str
    quantity: Decimal | None = None
    type: OrderType = OrderType.STOP_MARKET

    @property
    def close_position(self) -> bool:
        return self.quantity is None


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps a position safe while we are down. `side` closes it.

    Perpetuals: a stop, of the whole position where `quantity` is None; a take-profit is an order of its own there, and None here.
    Spot: a stop of a quantity, with a take-profit one order list of two, of which the first to trade ends the other.
    """

    instrument: str
    side: OrderSide
    stop_price: Decimal
    client_id: str
    quantity: Decimal | None = None
    take_profit: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The venue has taken it. Fills are never read from an ack."""

    exchange_id: str
    client_id: str
    status: str


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order of either book as the venue states it. `child_order_id`: what a triggered conditional order became."""

    book: Book
    instrument: str
    exchange_id: str
    client_id: str
    side: OrderSide
    type: str
    status: str
    quantity: Decimal
    filled: Decimal
    average_price: Decimal
    price: Decimal
    trigger_price: Decimal
    close_position: bool
    reduce_only: bool
    child_order_id: str | None
    at: int

    @property
    def live(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")


@dataclass(frozen=True, slots=True)
class VenuePosition:
    """`quantity` is signed: long > 0. Flat instruments are not listed. `liquidation_price` 0 = none."""

    instrument: str
    quantity: Decimal
    entry_price: Decimal
    mark: Decimal
    liquidation_price: Decimal
    unrealized_pnl: Decimal
    at: int

    @property
    def side(self) -> Side:
        return Side.LONG if self.quantity > 0 else Side.SHORT


@dataclass(frozen=True, slots=True)
class VenueAccount:
    """`equity` = wallet + unrealised profit."""

    wallet: Decimal
    equity: Decimal
    available: Decimal
    unrealized_pnl: Decimal


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One trade of ours. `client_id` is empty where the venue does not tell it (its trade list does not)."""

    instrument: str
    trade_id: int
    order_id: str
    client_id: str
    side: OrderSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    realized_pnl: Decimal
    maker: bool
    at: int


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """The user stream's word on an order: its state, what happened to it, and the fill if that was a trade."""

    order: VenueOrder
    execution: str
    detail: str
    fill: VenueFill | None = None


@dataclass(frozen=True, slots=True)
class PositionSeen:
    """The user stream's word that positions moved: instrument -> signed quantity."""

    at: int
    quantities: tuple[tuple[str, Decimal], ...]


UserEvent = OrderSeen | PositionSeen


class Batch(NamedTuple):
    """What a socket brought at once. A new `epoch` begins with an empty batch: a new connection, something may be missing.

    `messages` are MarketEvents or UserEvents, as the stream is one or the other, in the order of the connection.
    """

    epoch: int
    messages: Sequence[Any]


class Stream(Protocol):
    """A subscription that is rebuilt for ever. Closed by `close`, from which it does not come back."""

    def batches(self) -> AsyncIterator[Batch]: ...
    async def close(self) -> None: ...

    @property
    def connected(self) -> bool: ...

    @property
    def rebuilds(self) -> int: ...

    @property
    def silent_s(self) -> float: ...


Levels = tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]
"""(bids, asks) of an order book, (price, quantity) each, the best first."""


class Listing(NamedTuple):
    """What is listed: `status` in the venue's words; `volume_24h` in quote, None where it is not told."""

    instrument: str
    base: str
    quote: str
    status: str
    perpetual: bool
    volume_24h: Decimal | None


class MarketVenue(Protocol):
    """The public half: every call raises VenueError."""

    async def filters(self) -> dict[str, Filters]: ...
    async def listings(self) -> list[Listing]: ...
    async def levels(self, instrument: str) -> Levels: ...
    async def klines(self, instrument: str, interval: str, limit: int) -> list[Kline]: ...
    async def trades(
        self, instrument: str, *, from_id: int | None = None, start_at: int | None = None, limit: int = 1000
    ) -> list[PublicTrade]: ...
    async def marks(self) -> list[MarkPrice]: ...


class OrderVenue(Protocol):
    """Orders and what they came to, on any market. Ids are ours and deterministic; every call raises VenueError.

    `sent_at` (request time, ms) signs a placing request with a moment of the past, so that a request that was frozen on its way
    is refused by the venue once `recv_window_ms` has passed.
    """

    def request_ms(self) -> int: ...
    async def clock_is_known(self) -> None: ...
    async def filters(self) -> dict[str, Filters]: ...
    async def place_order(self, order: OrderRequest, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack: ...
    async def cancel_order(self, instrument: str, client_id: str) -> None: ...
    async def get_order(self, instrument: str, client_id: str) -> VenueOrder | None: ...
    async def open_orders(self, instrument: str | None = None) -> list[VenueOrder]: ...
    async def newest_orders(self, instrument: str) -> list[VenueOrder]: ...
    async def positions(self) -> list[VenuePosition]: ...
    async def user_trades(self, instrument: str, *, from_id: int | None = None, limit: int = 1000) -> list[VenueFill]: ...


class Protector(Protocol):
    """How a position is kept safe, on any market. `side_by_side`: a new protection may rest before the old one is gone.

    protection.py moves one.
    """

    @property
    def side_by_side(self) -> bool: ...
    async def protect(self, wanted: Protection, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack: ...
    async def unprotect(self, instrument: str, client_id: str) -> None: ...
    async def protections(self, instrument: str) -> list[Protection]: ...


class TradingVenue(OrderVenue, Protector, Protocol):
    """What perpetuals have beside: leverage, a second book of conditional orders, an account of margin."""

    async def set_leverage(self, instrument: str, leverage: int) -> None: ...
    async def set_margin_type(self, instrument: str, margin: Literal["CROSSED", "ISOLATED"]) -> None: ...
    async def place_algo(self, stop: StopRequest, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack: ...
    async def cancel_algo(self, instrument: str, client_id: str) -> None: ...
    async def get_algo(self, instrument: str, client_id: str) -> VenueOrder | None: ...
    async def open_algo_orders(self, instrument: str | None = None) -> list[VenueOrder]: ...
    async def newest_algo_orders(self, instrument: str) -> list[VenueOrder]: ...
    async def account(self) -> VenueAccount: ...
