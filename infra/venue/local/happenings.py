"""What the engine says has happened: the source of the user stream, of the exchange's own log and of what survives a restart."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from infra.venue.local.account import Position
from infra.venue.local.orders import Algo, Order, PositionSide, Side
from infra.venue.local.spot.orders import SpotHappening


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. Its id counts the account's own executions of the symbol: they are not printed on the public
    tape, which stays exact.
    """

    id: int
    symbol: str
    order_id: int
    client_id: str
    side: Side
    price: int
    qty: int
    maker: bool
    fee: Decimal
    realised: Decimal
    t: int
    position_side: PositionSide = "BOTH"


@dataclass(frozen=True, slots=True)
class OrderChanged:
    order: Order  # as it is after the change
    execution: Literal["NEW", "TRADE", "CANCELED", "EXPIRED", "AMENDMENT", "CALCULATED"]
    t: int
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class AlgoChanged:
    algo: Algo
    t: int


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The balance, and the one position that a fill, funding or a transfer of margin moved."""

    wallet: Decimal
    position: Position
    mark: Decimal
    t: int
    cross: Decimal  # the wallet without what is bound to isolated positions
    reason: str = "ORDER"
    change: Decimal = Decimal(0)  # of the balance, where it is neither profit nor fee


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    symbol: str
    leverage: int
    margin_type: str
    t: int
    leverage_changed: bool


@dataclass(frozen=True, slots=True)
class Booked:
    """Money that moved without a fill: funding, what the insurance fund took over, margin of an isolated position."""

    symbol: str
    kind: Literal["FUNDING_FEE", "INSURANCE_CLEAR", "MARGIN"]
    amount: Decimal
    position_side: PositionSide
    t: int
    number: int


@dataclass(frozen=True, slots=True)
class FundingSettled:
    """A funding time has passed for a symbol, whether anybody held it or not."""

    symbol: str
    rate: Decimal
    mark: Decimal
    t: int


@dataclass(frozen=True, slots=True)
class ModeChanged:
    dual: bool
    t: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    symbol: str
    status: str
    t: int


Futures = OrderChanged | AlgoChanged | AccountChanged | ConfigChanged | StatusChanged | Booked | FundingSettled | ModeChanged
Happening = Futures | SpotHappening
