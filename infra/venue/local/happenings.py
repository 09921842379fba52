"""What the engine says has happened: the source of the user stream, of the exchange's own log and of what survives a restart."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from infra.venue.local.account import Position
from infra.venue.local.orders import Algo, Order, Side


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


@dataclass(frozen=True, slots=True)
class OrderChanged:
    order: Order  # as it is after the change
    execution: Literal["NEW", "TRADE", "CANCELED", "EXPIRED"]
    t: int
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class AlgoChanged:
    algo: Algo
    t: int


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The balance and the one position that a fill moved."""

    wallet: Decimal
    position: Position
    mark: Decimal
    t: int


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    symbol: str
    leverage: int
    margin_type: str
    t: int
    leverage_changed: bool


@dataclass(frozen=True, slots=True)
class StatusChanged:
    symbol: str
    status: str
    t: int


Happening = OrderChanged | AlgoChanged | AccountChanged | ConfigChanged | StatusChanged
