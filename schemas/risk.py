"""Risk's answer to a decision: yes with a size, no with a reason, or "close what stands against it"."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import AccountEvent
from schemas.regime import Regime
from schemas.units import Money, Price, Probability, Side, Source


class Outcome(StrEnum):
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    CLOSE = "CLOSE"


class Reason(StrEnum):
    """Every reason that a verdict can have. One word, used in topics, SQL, reports and metrics."""

    WITHIN_LIMITS = "WITHIN_LIMITS"
    OPPOSITE_DECISION = "OPPOSITE_DECISION"
    OPPOSITE_IGNORED = "OPPOSITE_IGNORED"
    POSITION_EXISTS = "POSITION_EXISTS"
    ORDER_IN_FLIGHT = "ORDER_IN_FLIGHT"
    COOL_DOWN = "COOL_DOWN"
    TOO_MANY_POSITIONS = "TOO_MANY_POSITIONS"
    EXPOSURE = "EXPOSURE"
    CONFIDENCE = "CONFIDENCE"
    SIZE_BELOW_MINIMUM = "SIZE_BELOW_MINIMUM"
    MARGIN_AVAILABLE = "MARGIN_AVAILABLE"
    LEVERAGE = "LEVERAGE"
    ACCOUNT_UNKNOWN = "ACCOUNT_UNKNOWN"
    INSTRUMENT_OUTSIDE_UNIVERSE = "INSTRUMENT_OUTSIDE_UNIVERSE"
    STRATEGY_OFF = "STRATEGY_OFF"
    STALE = "STALE"


class Verdict(AccountEvent):
    """`at` = the decision's; `detail` carries the numbers that decided, in words.

    For the plan of the position that an approved one becomes: `stop_distance` (R, a share of the price), `atr` and `regime` as the
    decision knew them.
    """

    type: Literal["risk.verdict"] = "risk.verdict"
    decision_id: str
    outcome: Outcome
    reason: Reason
    detail: str
    side: Side
    confidence: Probability
    reference_price: Price
    equity: Money | None
    margin: Money | None
    leverage: int | None
    notional: Money | None
    quantity: Money | None
    stop_price: Money | None
    entry_id: str | None
    open_positions: int
    exposure: Money
    policy_version: int
    source: Source
    stop_distance: Money | None = None
    atr: float | None = None
    regime: Regime | None = None
