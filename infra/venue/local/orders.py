"""What rests or has rested on the exchange: ordinary orders and conditional (algo) orders, the two books that never
show each other.

Prices are ticks and quantities are steps, as in the market events; only triggers are also kept as Decimal, because
marks are Decimal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

Side = Literal["BUY", "SELL"]
OrderType = Literal["MARKET", "LIMIT"]
TimeInForce = Literal["GTC", "IOC", "FOK", "GTX"]
AlgoType = Literal["STOP_MARKET", "TAKE_PROFIT_MARKET"]
WorkingType = Literal["MARK_PRICE", "CONTRACT_PRICE"]

OPEN_STATUSES: Final = ("NEW", "PARTIALLY_FILLED")
LIVE_ALGO_STATUS: Final = "NEW"


def sign(side: Side) -> int:
    return 1 if side == "BUY" else -1


@dataclass(slots=True)
class Order:
    """An ordinary order, also the child of a triggered algo order (`algo_id` then names its parent)."""

    id: int
    client_id: str
    symbol: str
    side: Side
    type: OrderType
    tif: TimeInForce
    price: int  # ticks; 0 for MARKET
    qty: int
    reduce_only: bool
    created_t: int
    updated_t: int
    status: str = "NEW"
    filled: int = 0
    turnover: Decimal = Decimal(0)  # quote value of what is filled
    queue_ahead: int = 0  # steps displayed at our price before we came
    close_position: bool = False
    orig_type: str = ""
    stop_price: Decimal = Decimal(0)
    working_type: str = "CONTRACT_PRICE"
    algo_id: int = 0

    @property
    def left(self) -> int:
        return self.qty - self.filled

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    def frozen(self) -> Order:
        return replace(self)


@dataclass(slots=True)
class Algo:
    """A conditional order: NEW until its trigger, then TRIGGERING, TRIGGERED (with a child order), FINISHED."""

    id: int
    client_id: str
    symbol: str
    side: Side
    type: AlgoType
    tif: str
    trigger: Decimal
    trigger_ticks: int
    working_type: WorkingType
    qty: int  # 0 with close_position
    close_position: bool
    reduce_only: bool
    created_t: int
    updated_t: int
    price_protect: bool = False
    status: str = LIVE_ALGO_STATUS
    trigger_t: int = 0
    order_id: int = 0
    actual_qty: int = 0
    actual_turnover: Decimal = Decimal(0)
    reason: str = ""

    @property
    def is_live(self) -> bool:
        return self.status == LIVE_ALGO_STATUS

    @property
    def fires_upwards(self) -> bool:
        """Whether it fires when the price rises to its trigger: a stop that buys, a take-profit that sells."""
        return (self.side == "BUY") == (self.type == "STOP_MARKET")

    def fires_at(self, price: Decimal) -> bool:
        return price >= self.trigger if self.fires_upwards else price <= self.trigger

    def frozen(self) -> Algo:
        return replace(self)


def order_row(order: Order | Algo) -> dict[str, Any]:
    """The whole order as JSON-able values; `order_from` and `algo_from` read it back."""
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in asdict(order).items()}


def order_from(row: dict[str, Any]) -> Order:
    return Order(**{**row, "turnover": Decimal(row["turnover"]), "stop_price": Decimal(row["stop_price"])})


def algo_from(row: dict[str, Any]) -> Algo:
    return Algo(**{**row, "trigger": Decimal(row["trigger"]), "actual_turnover": Decimal(row["actual_turnover"])})
