"""Intents, orders, fills, positions and plans.

`Entry` and `Exit` are different types on different topics: whatever brakes entries cannot be handed an exit.
An `Entry` cannot be built without a stop on the right side of its price and inside its liquidation.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.events import AccountEvent, Event, Value
from schemas.ids import AccountId, ClientId, Purpose
from schemas.policy import Profile, Style, TpSlMode
from schemas.regime import Regime
from schemas.signals import Strategy
from schemas.units import MarketPrice, Money, OrderSide, Price, Quantity, Side, Signed, Source, UtcMs


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"


class Entry(AccountEvent):
    """Intent to open. `not_after`: venue time after which it is not sent any more, and what rests of it is cancelled."""

    type: Literal["trade.entry"] = "trade.entry"
    decision_id: str
    verdict_id: str
    strategy: Strategy
    side: Side
    order_type: OrderType
    quantity: Quantity
    limit_price: Price | None
    reference_price: Price
    stop_price: Price
    leverage: int = Field(ge=1, le=125)
    client_id: ClientId
    stop_client_id: ClientId
    not_after: UtcMs
    policy_version: int
    source: Source

    @model_validator(mode="after")
    def _protected(self) -> Self:
        distance = (self.reference_price - self.stop_price) * self.side.sign / self.reference_price
        if distance <= 0:
            raise ValueError(f"stop {self.stop_price} is on the wrong side of {self.reference_price} for {self.side}")
        if distance * self.leverage >= 1:
            raise ValueError(f"leverage {self.leverage} liquidates before a stop {distance:.2%} away")
        return self


class ExitAction(StrEnum):
    PLACE_STOP = "PLACE_STOP"
    PLACE_TAKE_PROFIT = "PLACE_TAKE_PROFIT"
    CANCEL = "CANCEL"
    CLOSE = "CLOSE"


class ExitReason(StrEnum):
    """Why a position is, or was, left. Reports count closed positions by it."""

    STOP = "STOP"
    TAKE_PROFIT = "TAKE_PROFIT"
    BREAK_EVEN = "BREAK_EVEN"
    TRAILING = "TRAILING"
    TIME_STOP = "TIME_STOP"
    LIQUIDATION_GUARD = "LIQUIDATION_GUARD"
    OPPOSITE_DECISION = "OPPOSITE_DECISION"
    EMERGENCY_STOP = "EMERGENCY_STOP"
    PROTECTION_LOST = "PROTECTION_LOST"
    STOP_PASSED = "STOP_PASSED"
    MANUAL = "MANUAL"
    ORPHAN = "ORPHAN"
    GUARDIAN = "GUARDIAN"
    LIQUIDATION = "LIQUIDATION"
    FOREIGN = "FOREIGN"


class Exit(AccountEvent):
    """Intent that can only reduce: place protection, take profit, cancel a leg, or close.

    PLACE_STOP: `trigger_price`, and either `close_position` or `quantity`. PLACE_TAKE_PROFIT: `price` and `quantity`.
    CANCEL: `client_id` of the order to cancel, `book` where it rests. CLOSE: `quantity` (all that is left), reduce-only.
    """

    type: Literal["trade.exit"] = "trade.exit"
    action: ExitAction
    reason: ExitReason
    detail: str
    position_id: str
    plan_id: str
    plan_revision: int
    side: Side
    client_id: ClientId
    quantity: Money | None = None
    price: Price | None = None
    trigger_price: Price | None = None
    close_position: bool = False
    book: Literal["ORDER", "ALGO"] = "ORDER"
    policy_version: int

    @model_validator(mode="after")
    def _complete(self) -> Self:
        match self.action:
            case ExitAction.PLACE_STOP:
                whole = self.trigger_price is not None and (self.close_position != (self.quantity is not None))
            case ExitAction.PLACE_TAKE_PROFIT:
                whole = self.price is not None and self.quantity is not None
            case ExitAction.CLOSE:
                whole = self.quantity is not None and not self.close_position
            case ExitAction.CANCEL:
                whole = True
        if not whole:
            raise ValueError(f"{self.action} lacks a level or a quantity")
        return self


class OrderState(StrEnum):
    """PLANNED -> SENDING -> ACKED -> terminal | REFUSED | UNKNOWN -> (ACKED | ABANDONED | SENDING, next attempt)."""

    PLANNED = "PLANNED"
    SENDING = "SENDING"
    ACKED = "ACKED"
    UNKNOWN = "UNKNOWN"
    REFUSED = "REFUSED"
    ABANDONED = "ABANDONED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({OrderState.REFUSED, OrderState.ABANDONED, OrderState.FILLED, OrderState.CANCELED, OrderState.EXPIRED})


class Order(AccountEvent):
    """One step in the life of an order as the executor lives it, and its outbox: SENDING is in the log before the call.

    `sent_at`: request time of the call (real clock, ms). `attempt` counts from 1. For a cancel `cancels` names the order and
    `client_id` is the cancel's own id.
    """

    type: Literal["trade.order"] = "trade.order"
    intent_id: str
    client_id: ClientId
    purpose: Purpose
    side: OrderSide
    order_type: OrderType
    state: OrderState
    attempt: int
    quantity: Money | None
    price: Money | None
    trigger_price: Money | None
    close_position: bool
    reduce_only: bool
    cancels: str | None = None
    book: Literal["ORDER", "ALGO"] = "ORDER"
    exchange_id: str | None = None
    sent_at: UtcMs | None = None
    filled_quantity: Money = Decimal(0)
    reason: str = ""
    error_code: int | None = None
    decision_id: str | None = None
    position_id: str | None = None


class Fill(AccountEvent):
    """One trade of ours on the exchange; (instrument, trade_id) is its identity. `source` says where the price came from."""

    type: Literal["trade.fill"] = "trade.fill"
    trade_id: int
    order_id: str
    client_id: str
    purpose: Purpose
    side: OrderSide
    price: Price
    quantity: Quantity
    fee: Signed
    fee_asset: str
    realized_pnl: Signed
    maker: bool
    backfilled: bool
    source: Source


class OrderUpdate(AccountEvent):
    """What the exchange says of an order's life on the user stream (fills apart): both books."""

    type: Literal["account.order-update"] = "account.order-update"
    book: Literal["ORDER", "ALGO"]
    client_id: str
    purpose: Purpose
    exchange_id: str
    child_order_id: str | None
    status: str
    execution: str
    order_type: str
    side: OrderSide
    quantity: Money
    filled_quantity: Money
    price: Money
    trigger_price: Money
    close_position: bool
    reduce_only: bool
    detail: str


class CorrectionKind(StrEnum):
    """FILLS_MISSED: trades that the user stream had not told. POSITION_UNEXPLAINED: one that our fills do not add up to.
    FOREIGN_ORDER: one that rests and is none of ours; it is left alone."""

    FILLS_MISSED = "FILLS_MISSED"
    POSITION_UNEXPLAINED = "POSITION_UNEXPLAINED"
    FOREIGN_ORDER = "FOREIGN_ORDER"


class Correction(AccountEvent):
    """Where the exchange and our log differed, and why; the exchange is right. `ours` and `theirs`: what differed, as text."""

    type: Literal["account.correction"] = "account.correction"
    kind: CorrectionKind
    reason: str
    ours: str
    theirs: str
    client_id: str = ""


class HeldPosition(Value):
    instrument: str
    quantity: Signed
    entry_price: Money
    unrealized_pnl: Signed


class AccountSnapshot(Event):
    """The account as the exchange states it. `at` = venue time at the reading."""

    type: Literal["account.snapshot"] = "account.snapshot"
    account: AccountId
    wallet: Money
    equity: Money
    available: Money
    unrealized_pnl: Signed
    positions: list[HeldPosition]


class PositionStatus(StrEnum):
    OPEN = "OPEN"
    FLAT = "FLAT"


class Position(AccountEvent):
    """Fold of fills. Compacted by account/instrument/side; a FLAT record is followed by a tombstone."""

    type: Literal["trade.position"] = "trade.position"
    position_id: str
    revision: int
    status: PositionStatus
    side: Side
    quantity: Money
    entry_price: Price
    opened_at: UtcMs
    realized_pnl: Signed
    fees: Signed
    last_trade_id: int
    last_fill_id: str
    entry_client_id: str
    last_client_id: str
    source: Source


class Closed(AccountEvent):
    """A round trip. `exit_reason` by the order that took the last of it; prices are quantity-weighted."""

    type: Literal["trade.closed"] = "trade.closed"
    position_id: str
    side: Side
    quantity: Quantity
    entry_price: Price
    exit_price: Price
    opened_at: UtcMs
    closed_at: UtcMs
    realized_pnl: Signed
    fees: Signed
    fills: int
    exit_reason: ExitReason
    entry_client_id: str
    exit_client_id: str
    source: Source


class LegKind(StrEnum):
    NET = "NET"
    STOP = "STOP"
    TAKE_PROFIT = "TAKE_PROFIT"


class LegState(StrEnum):
    WANTED = "WANTED"
    RESTING = "RESTING"
    DONE = "DONE"
    LOST = "LOST"
    CANCELED = "CANCELED"


class Leg(Value):
    """NET = the closePosition stop; STOP = a tighter quantity stop before it; TAKE_PROFIT = a rung of the ladder."""

    kind: LegKind
    client_id: ClientId
    price: Price
    quantity: Money | None
    state: LegState


class ExitPlan(AccountEvent):
    """How a position will be left. R = `stop_distance`, fixed at entry. Compacted by account/instrument/side.

    `levels`: every number of the plan in words, `why`: of its last change. `static`: made without the market's word. `atr`:
    ATR14 of hourly candles at the decision, a share of the price. `front_price`: level of the quantity stop before the net.
    """

    type: Literal["trade.exit-plan"] = "trade.exit-plan"
    plan_id: str
    revision: int
    position_id: str
    side: Side
    profile: str
    mode: str
    entry_price: Price
    quantity: Money
    stop_distance: Money
    stop_price: Price
    break_even: bool
    legs: list[Leg]
    why: str
    closing: bool
    marks_partition: int
    marks_offset: int
    policy_version: int
    style: Style | None = None
    tp_sl_mode: TpSlMode | None = None
    regime: Regime | None = None
    atr: float | None = None
    static: bool = False
    levels: str = ""
    front_price: Price | None = None


class ExitDecision(AccountEvent):
    """One decision of exits, HOLD included. `marks_offset`: the marks record that it was made on (-1 before the first).

    `mode` SHADOW: of a plan that is only recorded; its DONE says what came of it on paper, before costs: `result_pct` per cent
    of the entry value, `result_r` in R, `held_s` seconds of venue time.
    """

    type: Literal["trade.exit-decision"] = "trade.exit-decision"
    position_id: str
    plan_id: str
    plan_revision: int
    side: Side
    decision: str
    reason: str
    detail: str
    mark: Money | None
    pnl_pct: float | None
    stop_price: Price
    intents: list[str]
    mode: Literal["LIVE", "SHADOW"]
    marks_partition: int
    marks_offset: int
    policy_version: int
    profile: Profile | None = None
    style: Style | None = None
    tp_sl_mode: TpSlMode | None = None
    regime: Regime | None = None
    result_pct: float | None = None
    result_r: float | None = None
    held_s: float | None = None


class ExitHolds(Event):
    """All plans of a partition that hold at a marks record, as columns: the decision HOLD of each. One record, whatever their
    number.

    `at` = the marks record's, `marks_offset` its place. `modes`: LIVE, or SHADOW of a plan that is only recorded.
    """

    type: Literal["trade.exit-holds"] = "trade.exit-holds"
    account: AccountId
    partition: int
    marks_offset: int
    policy_version: int
    instruments: list[str]
    plan_ids: list[str]
    plan_revisions: list[int]
    modes: list[str]
    marks: list[MarketPrice]
