"""What rests or has rested on the exchange: ordinary orders and conditional (algo) orders, the two books that never
show each other.

Prices are ticks and quantities are steps, as in the market events; only triggers are also kept as Decimal, because
marks are Decimal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, Literal

Side = Literal["BUY", "SELL"]
PositionSide = Literal["BOTH", "LONG", "SHORT"]
OrderType = Literal["MARKET", "LIMIT"]
TimeInForce = Literal["GTC", "IOC", "FOK", "GTX"]
AlgoType = Literal["STOP_MARKET", "TAKE_PROFIT_MARKET", "STOP", "TAKE_PROFIT", "TRAILING_STOP_MARKET"]
WorkingType = Literal["MARK_PRICE", "CONTRACT_PRICE"]

OPEN_STATUSES: Final = ("NEW", "PARTIALLY_FILLED")
LIVE_ALGO_STATUS: Final = "NEW"
LOWEST: Final = Decimal("-Infinity")
HIGHEST: Final = Decimal("Infinity")


def sign(side: Side) -> int:
    return 1 if side == "BUY" else -1


def closes(side: Side, position_side: PositionSide) -> bool:
    """Whether an order of this side takes from that leg of a hedged account."""
    return position_side == ("LONG" if side == "SELL" else "SHORT")


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
    position_side: PositionSide = "BOTH"
    amended: int = 0  # how often

    @property
    def left(self) -> int:
        return self.qty - self.filled

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    def frozen(self) -> Order:
        return Order(*_order_values(self))


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
    position_side: PositionSide = "BOTH"
    price: int = 0  # ticks; of the limit order that STOP and TAKE_PROFIT become
    activate: Decimal = Decimal(0)  # trailing: from where it follows; 0: at once
    callback: Decimal = Decimal(0)  # trailing: percent
    is_active: bool = False
    extreme: Decimal = Decimal(0)  # trailing: the best price since it follows

    @property
    def is_live(self) -> bool:
        return self.status == LIVE_ALGO_STATUS

    @property
    def fires_upwards(self) -> bool:
        """Whether it fires when the price rises to its trigger: a stop that buys, a take-profit that sells."""
        return (self.side == "BUY") == (self.type in ("STOP", "STOP_MARKET", "TRAILING_STOP_MARKET"))

    def fires_at(self, price: Decimal) -> bool:
        return price >= self.trigger if self.fires_upwards else price <= self.trigger

    def quiet_between(self) -> tuple[Decimal, Decimal]:
        """Prices between which it neither fires nor follows."""
        low, high = (LOWEST, self.trigger) if self.fires_upwards else (self.trigger, HIGHEST)
        if not self.callback:
            return low, high
        selling = self.side == "SELL"
        if not self.is_active:
            return (LOWEST, self.activate) if selling else (self.activate, HIGHEST)
        return (low, self.extreme) if selling else (self.extreme, high)

    def follow(self, price: Decimal) -> None:
        """Trailing: move with the price, and the trigger with it; SELL follows upwards, BUY downwards."""
        selling = self.side == "SELL"
        if not self.is_active:
            if self.activate and (price < self.activate if selling else price > self.activate):
                return
            self.is_active, self.extreme = True, price
        self.extreme = max(self.extreme, price) if selling else min(self.extreme, price)
        self.trigger = self.extreme * (1 + (-self.callback if selling else self.callback) / 100)

    def frozen(self) -> Algo:
        return Algo(*_algo_values(self))


_order_values: Final[Callable[[Order], tuple[Any, ...]]] = attrgetter(*(f.name for f in fields(Order)))
_algo_values: Final[Callable[[Algo], tuple[Any, ...]]] = attrgetter(*(f.name for f in fields(Algo)))


def order_row(order: Order | Algo) -> dict[str, Any]:
    """The whole order as JSON-able values; `order_from` and `algo_from` read it back."""
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in asdict(order).items()}


def order_from(row: dict[str, Any]) -> Order:
    return Order(**{**row, "turnover": Decimal(row["turnover"]), "stop_price": Decimal(row["stop_price"])})


def algo_from(row: dict[str, Any]) -> Algo:
    numbers = ("trigger", "actual_turnover", "activate", "callback", "extreme")
    return Algo(**{**row, **{key: Decimal(row[key]) for key in numbers if key in row}})
