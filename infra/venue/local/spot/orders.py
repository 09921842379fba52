"""Spot orders, order lists and what is asked for: a stop is an ordinary order here, not yet on the book.

Prices are ticks and quantities steps of the spot grid; money is Decimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, Literal

from infra.venue.local.orders import OPEN_STATUSES, Side

SpotType = Literal["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
SpotTif = Literal["GTC", "IOC", "FOK"]
STOPS: Final = ("STOP_LOSS", "STOP_LOSS_LIMIT")
PROFITS: Final = ("TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
CONDITIONAL: Final = STOPS + PROFITS
PRICED: Final = ("LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")
ALONE: Final = -1  # the list id of an order of no list
NOT_YET: Final = -1  # the working time of an order that waits for its trigger


@dataclass(slots=True)
class SpotOrder:
    id: int
    client_id: str
    symbol: str
    side: Side
    type: SpotType
    tif: SpotTif
    price: int  # ticks; 0: at market
    qty: int
    created_t: int
    updated_t: int
    stop: int = 0  # ticks
    list_id: int = ALONE
    quote_qty: Decimal = Decimal(0)  # a market order by what it may spend or shall bring
    status: str = "NEW"
    filled: int = 0
    turnover: Decimal = Decimal(0)
    queue_ahead: int = 0
    working_t: int = NOT_YET
    locked: Decimal = Decimal(0)  # of the asset that it pays with
    expiry: str = ""  # why it has expired
    cancel_id: str = ""  # the client id of what has cancelled it

    @property
    def left(self) -> int:
        return self.qty - self.filled

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def is_waiting(self) -> bool:
        return self.is_open and self.type in CONDITIONAL and self.working_t == NOT_YET

    def fires_at(self, last: int) -> bool:
        """A stop-loss fires against its holder, a take-profit for him."""
        upwards = (self.side == "BUY") == (self.type in STOPS)
        return last >= self.stop if upwards else last <= self.stop

    def frozen(self) -> SpotOrder:
        return SpotOrder(*_values(self))


_values: Final[Callable[[SpotOrder], tuple[Any, ...]]] = attrgetter(*(f.name for f in fields(SpotOrder)))


@dataclass(frozen=True, slots=True)
class OrderList:
    """Two orders of which one cancels the other."""

    id: int
    client_id: str
    symbol: str
    orders: tuple[int, int]
    t: int
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class SpotFill:
    """`id` counts the account's own executions of the symbol, as with the perpetuals."""

    id: int
    symbol: str
    order_id: int
    list_id: int
    side: Side
    price: int
    qty: int
    quote: Decimal
    maker: bool
    fee: Decimal
    fee_asset: str
    t: int


# --- what is asked for --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leg:
    """What makes one order, beside its symbol, side and quantity."""

    type: SpotType
    price: Decimal | None = None
    stop: Decimal | None = None
    tif: SpotTif = "GTC"
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class PlaceSpot:
    symbol: str
    side: Side
    leg: Leg
    qty: Decimal | None = None
    quote_qty: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PlaceOco:
    symbol: str
    side: Side
    qty: Decimal
    above: Leg
    below: Leg
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class CancelSpot:
    symbol: str
    order_id: int | None = None
    client_id: str | None = None
    cancel_id: str = ""


@dataclass(frozen=True, slots=True)
class CancelSpotList:
    symbol: str
    list_id: int | None = None
    client_id: str | None = None
    cancel_id: str = ""


@dataclass(frozen=True, slots=True)
class CancelAllSpot:
    symbol: str


SpotCommand = PlaceSpot | PlaceOco | CancelSpot | CancelSpotList | CancelAllSpot


# --- what has happened --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpotChanged:
    order: SpotOrder  # as it is after the change
    execution: Literal["NEW", "TRADE", "CANCELED", "EXPIRED"]
    t: int
    number: int  # of all executions
    fill: SpotFill | None = None


@dataclass(frozen=True, slots=True)
class BalancesChanged:
    """(asset, free, locked) of what may have changed."""

    rows: tuple[tuple[str, Decimal, Decimal], ...]
    t: int


@dataclass(frozen=True, slots=True)
class ListChanged:
    list: OrderList
    clients: tuple[str, str]  # the client ids of its orders
    t: int


SpotHappening = SpotChanged | BalancesChanged | ListChanged


# --- rows of the exchange's log -----------------------------------------------------------------------------------------------


def row_of(what: SpotOrder | OrderList | SpotFill) -> dict[str, Any]:
    """As JSON-able values; the three functions below read it back."""
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in asdict(what).items()}


def order_from(row: dict[str, Any]) -> SpotOrder:
    return SpotOrder(**{**row, **{key: Decimal(row[key]) for key in ("quote_qty", "turnover", "locked")}})


def list_from(row: dict[str, Any]) -> OrderList:
    return OrderList(**{**row, "orders": tuple(row["orders"])})


def fill_from(row: dict[str, Any]) -> SpotFill:
    return SpotFill(**{**row, "quote": Decimal(row["quote"]), "fee": Decimal(row["fee"])})
