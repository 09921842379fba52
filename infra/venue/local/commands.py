"""What a client can ask of the engine, already parsed: the door checks form, the engine checks meaning."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from infra.venue.local.orders import AlgoType, OrderType, PositionSide, Side, TimeInForce, WorkingType


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    price: Decimal | None = None
    tif: TimeInForce = "GTC"
    reduce_only: bool = False
    client_id: str = ""  # empty: the exchange makes one
    position_side: PositionSide = "BOTH"


@dataclass(frozen=True, slots=True)
class PlaceAlgo:
    symbol: str
    side: Side
    type: AlgoType
    trigger: Decimal
    working_type: WorkingType = "CONTRACT_PRICE"
    qty: Decimal | None = None
    close_position: bool = False
    reduce_only: bool = False
    tif: str = "GTC"
    price_protect: bool = False
    client_id: str = ""
    position_side: PositionSide = "BOTH"
    price: Decimal | None = None  # STOP and TAKE_PROFIT: the limit
    activate: Decimal | None = None
    callback: Decimal | None = None  # trailing, percent


@dataclass(frozen=True, slots=True)
class CancelOrder:
    symbol: str
    order_id: int | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class AmendOrder:
    """A new price and quantity for a resting limit order."""

    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    order_id: int | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class CancelAllOrders:
    symbol: str


@dataclass(frozen=True, slots=True)
class CancelAlgo:
    algo_id: int | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class CancelAllAlgos:
    symbol: str


@dataclass(frozen=True, slots=True)
class SetLeverage:
    symbol: str
    leverage: int


@dataclass(frozen=True, slots=True)
class SetMarginType:
    symbol: str
    margin_type: Literal["CROSSED", "ISOLATED"]


@dataclass(frozen=True, slots=True)
class SetPositionMode:
    """Hedged (LONG and SHORT side by side) or one-way."""

    dual: bool


@dataclass(frozen=True, slots=True)
class MoveMargin:
    """Add to an isolated position's margin, or take from it (negative)."""

    symbol: str
    amount: Decimal
    position_side: PositionSide = "BOTH"


@dataclass(frozen=True, slots=True)
class SetSymbolStatus:
    """Not a client's: the exchange itself takes a symbol out of trading, or back in."""

    symbol: str
    status: str


@dataclass(frozen=True, slots=True)
class AutoClose:
    """Not a client's: the exchange itself takes a part of a position, to delever it (ADL) or as a step of a liquidation."""

    symbol: str
    qty: Decimal
    client_id: str
    position_side: PositionSide = "BOTH"


Command = (
    PlaceOrder
    | PlaceAlgo
    | CancelOrder
    | AmendOrder
    | CancelAllOrders
    | CancelAlgo
    | CancelAllAlgos
    | SetLeverage
    | SetMarginType
    | SetPositionMode
    | MoveMargin
    | SetSymbolStatus
    | AutoClose
)
