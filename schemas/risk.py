"""Risk's answer to a decision: yes with a size, no with a reason, or "close what stands against it". And the brakes' states."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import AccountEvent, Event
from schemas.ids import AccountId
from schemas.regime import Regime
from schemas.units import Money, Price, Probability, Side, Signed, Source, UtcMs


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
    BREAKER_OPEN = "BREAKER_OPEN"
    EMERGENCY_STOP = "EMERGENCY_STOP"
    MODEL_BIAS = "MODEL_BIAS"
    MODEL_QUALITY = "MODEL_QUALITY"
    MODEL_IMPORTANCE_DRIFT = "MODEL_IMPORTANCE_DRIFT"


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


ALL = "*"
"""The scope of the breaker that holds back every symbol."""


class Phase(StrEnum):
    """CLOSED lets entries through, OPEN none, HALF_OPEN one, on trial."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Trip(StrEnum):
    """Why a breaker is as it is: what opened it, or what changed it since."""

    EXECUTION_ERRORS = "EXECUTION_ERRORS"
    PROTECTION_LOST = "PROTECTION_LOST"
    RECONCILIATION = "RECONCILIATION"
    SYMBOLS_OPEN = "SYMBOLS_OPEN"
    TRIAL_FAILED = "TRIAL_FAILED"
    COOLED = "COOLED"
    TRIAL_PASSED = "TRIAL_PASSED"
    RESET = "RESET"
    OVERRIDE = "OVERRIDE"


class BreakerState(Event):
    """A breaker after a change. Compacted by account/scope; a scope that never tripped has none. `scope`: an instrument, or `*`.

    `may_reset_at`: venue time from which it lets one entry through by itself. `trips`: in a row, without a trial that passed.
    `actor`: the administrator who changed it.
    """

    type: Literal["breaker.state"] = "breaker.state"
    account: AccountId
    scope: str
    phase: Phase
    reason: Trip
    evidence: str
    since: UtcMs
    may_reset_at: UtcMs
    trips: int
    actor: str = ""
    policy_version: int


class Alarm(StrEnum):
    """What engages the emergency stop."""

    DAILY_DRAWDOWN = "DAILY_DRAWDOWN"
    WEEKLY_DRAWDOWN = "WEEKLY_DRAWDOWN"
    EMERGENCY_BRAKE = "EMERGENCY_BRAKE"
    SYSTEM_HEALTH = "SYSTEM_HEALTH"
    EXECUTION_ERRORS = "EXECUTION_ERRORS"
    FEED_SILENT = "FEED_SILENT"
    MANUAL = "MANUAL"


class RiskState(Event):
    """The emergency stop after a change. Compacted by account; none has ever been written while it never was engaged.

    `closing`: instruments whose positions are closed for it, each by a verdict CLOSE. Drawdowns and profit are shares of that
    moment; `since` is venue time. `actor`: who stopped or resumed.
    """

    type: Literal["risk.state"] = "risk.state"
    account: AccountId
    stopped: bool
    alarms: list[Alarm]
    evidence: list[str]
    since: UtcMs
    closing: list[str]
    equity: Money | None
    daily_drawdown: Signed
    weekly_drawdown: Signed
    profit: Signed
    actor: str = ""
    policy_version: int
