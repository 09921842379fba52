"""The one policy: every number that decides, versioned as a whole. Shares of one are fractions (0.025 = 2.5 %).

Contradictions refuse to exist: a policy that cannot hold raises when it is built, so no worker ever starts with one.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from schemas.events import Value
from schemas.ids import Instrument
from schemas.regime import Regime
from schemas.signals import Strategy, SupervisorMode
from schemas.units import Money


class Section(Value):
    model_config = ConfigDict(frozen=True, extra="forbid")


_LAYER_1 = (
    "BTC ETH SOL ADA AVAX BNB TRX DOT ATOM NEAR APT SUI SEI TON ALGO "
    "HBAR ICP INJ TIA EGLD XTZ KAS S ETC XLM VET FLOW MINA KAVA CELO"
)
_LAYER_2 = "POL ARB OP STRK IMX MNT METIS ZK MANTA STX LRC SKL"
_MEGA_CAPS = "BTC ETH BNB SOL XRP DOGE ADA TRX LINK LTC BCH"


class UniverseMode(StrEnum):
    """L1L2_TOP: bases of the classes only; ALL: any base."""

    L1L2_TOP = "l1l2-top"
    ALL = "all"


class Universe(Section):
    """Which instruments may be entered (processors/universe.py). `instruments`: these and no others; empty: by mode.

    Classes are lists of base assets. `blacklist`: instruments or symbols. `min_volume_24h`, `min_depth` (within 10 bp) in quote.
    """

    mode: UniverseMode = UniverseMode.L1L2_TOP
    layer_1: list[str] = _LAYER_1.split()
    layer_2: list[str] = _LAYER_2.split()
    mega_caps: list[str] = _MEGA_CAPS.split()
    instruments: list[str] = Field(default=[], max_length=100)
    blacklist: list[str] = []
    max_instruments: int = Field(default=100, ge=1, le=100)
    min_volume_24h: Money = Decimal(1_000_000)
    min_depth: Money = Decimal(50_000)

    @property
    def bases(self) -> frozenset[str]:
        return frozenset((*self.layer_1, *self.layer_2, *self.mega_caps))


class Risk(Section):
    """Units: position size in USDT = margin; notional = margin x leverage; exposure = sum of notional / equity."""

    margin_share: Money = Field(default=Decimal("0.03"), ge=Decimal("0.01"), le=Decimal("0.05"))
    margin_min: Money = Field(default=Decimal(100), gt=0)
    margin_max: Money = Field(default=Decimal(2000), gt=0)
    leverage: int = Field(default=3, ge=1, le=30)
    max_loss_share: Money = Field(default=Decimal("0.01"), gt=0, le=Decimal("0.05"))
    max_positions: int = Field(default=20, ge=1)
    max_exposure: Money = Field(default=Decimal("2.0"), gt=0)
    liquidation_buffer: Money = Field(default=Decimal("0.01"), ge=0)
    maintenance_margin_rate: Money = Field(default=Decimal("0.01"), ge=0)
    confidence_min: float = Field(default=0.60, ge=0, le=1)
    cool_down_s: int = Field(default=120, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.margin_min > self.margin_max:
            raise ValueError(f"risk.margin_min {self.margin_min} is above risk.margin_max {self.margin_max}")
        return self


class Opposite(StrEnum):
    CLOSE = "close"
    IGNORE = "ignore"


class Execution(Section):
    """`entry_ttl_s` counts in venue time; the rest are wall seconds.

    A request may arrive until its window (`recv_window_ms`) is over. An order whose answer was lost is absent when the exchange has
    denied it three times, `ask_every_s` apart, the first time `resolve_after_s` behind the window.
    """

    order_type: str = Field(default="MARKET", pattern="^(MARKET|LIMIT)$")
    entry_ttl_s: int = Field(default=600, ge=1)
    recv_window_ms: int = Field(default=5000, ge=100, le=5000)
    request_timeout_s: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    resolve_after_s: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    ask_every_s: float = Field(default=3.5, gt=0, allow_inf_nan=False)
    on_opposite: Opposite = Opposite.CLOSE
    max_slippage: Money = Field(default=Decimal("0.01"), gt=0, lt=1)


class ExitMode(StrEnum):
    """Whether the chosen plan orders, or is only recorded beside the baseline that orders."""

    LIVE = "LIVE"
    SHADOW = "SHADOW"


class Profile(StrEnum):
    """Which levels. R = the initial stop distance, fixed at entry."""

    STANDARD_LADDER = "STANDARD_LADDER"
    DEFAULT = "DEFAULT"
    CHALLENGE_100 = "CHALLENGE_100"


class Style(StrEnum):
    AGGRESSIVE = "AGGRESSIVE"
    BALANCED = "BALANCED"
    CONSERVATIVE = "CONSERVATIVE"


class TpSlMode(StrEnum):
    """HYBRID: the profile's own levels. DYNAMIC: they follow volatility and regime. EXIT_BRAIN: and the model's confidence."""

    HYBRID = "HYBRID"
    DYNAMIC = "DYNAMIC"
    EXIT_BRAIN = "EXIT_BRAIN"


class Rung(Section):
    """A take-profit: `distance` from the entry price, `share` of the position."""

    distance: Money = Field(gt=0, lt=1)
    share: Money = Field(gt=0, le=1)


class RungOfR(Section):
    """A take-profit `r` initial stop distances away, for `share` of the position."""

    r: Money = Field(gt=0, le=20)
    share: Money = Field(gt=0, le=1)


class Scale(Section):
    """Factors of a plan's distances."""

    stop: Money = Field(default=Decimal(1), gt=0, le=2)
    target: Money = Field(default=Decimal(1), gt=0, le=3)
    trail: Money = Field(default=Decimal(1), gt=0, le=3)


def _scale(stop: str, target: str, trail: str) -> Scale:
    return Scale(stop=Decimal(stop), target=Decimal(target), trail=Decimal(trail))


class Exits(Section):
    """How positions are left. Distances are shares of the entry price, ATR is ATR14 of hourly candles as a share of the price.

    `ladder`, `stop_distance`: of STANDARD_LADDER. The other profiles count in R = `r_atr` x ATR within `r_min`..`r_max`, or
    `r_static` where no ATR is known. `modes`: by instrument, instead of `mode`. A quantity stop in front of the net moves only by
    `tighten_min_r` x R and two ticks, and not more often than every `tighten_every_s` of venue time.
    """

    profile: Profile = Profile.STANDARD_LADDER
    style: Style = Style.BALANCED
    tp_sl_mode: TpSlMode = TpSlMode.HYBRID
    mode: ExitMode = ExitMode.LIVE
    modes: dict[Instrument, ExitMode] = {}
    ladder: list[Rung] = [
        Rung(distance=Decimal("0.015"), share=Decimal("0.30")),
        Rung(distance=Decimal("0.025"), share=Decimal("0.30")),
        Rung(distance=Decimal("0.040"), share=Decimal("0.40")),
    ]
    stop_distance: Money = Field(default=Decimal("0.025"), gt=0, lt=1)
    r_atr: Money = Field(default=Decimal(2), gt=0, le=10)
    r_min: Money = Field(default=Decimal("0.008"), gt=0, lt=1)
    r_max: Money = Field(default=Decimal("0.025"), gt=0, lt=1)
    r_static: Money = Field(default=Decimal("0.020"), gt=0, lt=1)
    trail_atr: Money = Field(default=Decimal(2), gt=0, le=10)
    trail_static: Money = Field(default=Decimal("0.015"), gt=0, lt=1)
    default_target_r: Money = Field(default=Decimal("1.5"), gt=0, le=20)
    challenge_ladder: list[RungOfR] = [
        RungOfR(r=Decimal(1), share=Decimal("0.30")),
        RungOfR(r=Decimal(2), share=Decimal("0.70")),
    ]
    challenge_widest_r: Money = Field(default=Decimal("1.5"), ge=1, le=5)
    challenge_time_stop_s: int = Field(default=7200, ge=1)
    styles: dict[Style, Scale] = {
        Style.AGGRESSIVE: _scale("1", "1.25", "1.25"),
        Style.BALANCED: Scale(),
        Style.CONSERVATIVE: _scale("0.8", "0.8", "0.8"),
    }
    regimes: dict[Regime, Scale] = {
        Regime.TREND: _scale("1", "1.25", "1.25"),
        Regime.RANGE: _scale("1", "0.8", "0.8"),
        Regime.VOLATILE: _scale("1.2", "1.2", "1.3"),
        Regime.QUIET: _scale("0.8", "0.8", "0.8"),
        Regime.CRASH: _scale("0.8", "0.7", "0.6"),
    }
    break_even_after_rung: int = Field(default=1, ge=0)
    break_even_margin: Money = Field(default=Decimal("0.0012"), ge=0, lt=Decimal("0.1"))
    tighten_min_r: Money = Field(default=Decimal("0.1"), ge=0, le=1)
    tighten_every_s: float = Field(default=5.0, ge=0, le=3600, allow_inf_nan=False)
    grace_s: float = Field(default=3.0, ge=0, le=60)

    @model_validator(mode="after")
    def _ladders(self) -> Self:
        ladders = {
            "ladder": [(rung.distance, rung.share) for rung in self.ladder],
            "challenge_ladder": [(rung.r, rung.share) for rung in self.challenge_ladder],
        }
        for name, rungs in ladders.items():
            if sum((share for _, share in rungs), Decimal(0)) > 1:
                raise ValueError(f"exits.{name} sells more than the position: the shares must sum to at most 1")
            distances = [distance for distance, _ in rungs]
            if distances != sorted(set(distances)):
                raise ValueError(f"exits.{name} distances must rise from rung to rung")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.r_min <= self.r_static <= self.r_max:
            raise ValueError(f"exits.r_static {self.r_static} is not within r_min {self.r_min} and r_max {self.r_max}")
        missing = [str(style) for style in Style if style not in self.styles]
        if missing:
            raise ValueError(f"exits.styles lacks {', '.join(missing)}")
        wider = [str(style) for style, scale in self.styles.items() if scale.stop > 1]
        if wider:
            raise ValueError(f"exits.styles may not widen a stop: {', '.join(wider)}")
        return self

    @property
    def widest_stop(self) -> Decimal:
        """No plan of this policy begins with a stop farther away."""
        fixed = self.profile is Profile.STANDARD_LADDER and self.tp_sl_mode is TpSlMode.HYBRID
        baseline = self.mode is ExitMode.SHADOW or ExitMode.SHADOW in self.modes.values()
        if fixed:
            return self.stop_distance
        return max(self.stop_distance, self.r_max) if baseline else self.r_max


class Supervisor(Section):
    """Of the model's signals. More than `max_share` of the last `window` on one side blocks further entries that way; an
    information coefficient of the last `quality_closes` candles that is below 0 by `quality_deviations` blocks all entries; so
    does an importance of features that is farther than `max_importance_drift`, 0..1, from the version's before (docs/models.md)."""

    mode: SupervisorMode = SupervisorMode.ENFORCED
    window: int = Field(default=20, ge=5, le=500)
    max_share: float = Field(default=0.70, ge=0.5, le=1)
    quality_closes: int = Field(default=288, ge=24, le=2016)
    quality_deviations: float = Field(default=1.645, gt=0, allow_inf_nan=False)
    max_importance_drift: float = Field(default=0.35, ge=0, le=1)


class Models(Section):
    """`round_trip_cost`: fees and slippage of entry and exit, as a share of the notional; a smaller expected edge is no trade."""

    threshold: float = Field(default=0.70, ge=0.5, le=1)
    strategies: list[Strategy] = [Strategy.MODEL]
    scripted_every_bars: int = Field(default=6, ge=1)
    round_trip_cost: float = Field(default=0.001, ge=0, lt=0.1)
    supervisor: Supervisor = Supervisor()


class Guardian(Section):
    """`distance`: of the stop that a position without a plan gets, a share of its entry price; never wider than exits'."""

    distance: Money = Field(default=Decimal("0.02"), gt=0, lt=1)


class Breaker(Section):
    """When entries of one symbol, or of all, are held back for a while. Times count in venue time.

    `errors`: execution errors of a symbol in a row that open its breaker. `cool_s`: from then until one entry is tried again,
    doubled each time that the trial fails, up to `cool_longest_s`. `symbols`: so many open at once open the breaker of all.
    """

    errors: int = Field(default=3, ge=1, le=8)
    cool_s: int = Field(default=300, ge=1)
    cool_longest_s: int = Field(default=3600, ge=1)
    symbols: int = Field(default=3, ge=2)


class Remedy(StrEnum):
    """What a stop for drawdown does to what is open. Positions are closed whole, the worst first."""

    CLOSE_LOSERS = "CLOSE_LOSERS"
    HALVE_EXPOSURE = "HALVE_EXPOSURE"


class Emergency(Section):
    """When nothing more is opened until an administrator resumes.

    Drawdowns are falls of equity from its highest of the venue's day and week (UTC); `brake` is the loss since the start, or since
    the last resume. More than `errors_in_a_row` execution errors without a success between, of two symbols at least. Wall seconds:
    `feed_silent_s`, and `health_silent_s`, for which one of the workers `vital` has not said that it is ready.
    """

    daily_drawdown: Money = Field(default=Decimal("0.15"), gt=0, lt=1)
    weekly_drawdown: Money = Field(default=Decimal("0.25"), gt=0, lt=1)
    brake: Money = Field(default=Decimal("0.20"), gt=0, lt=1)
    errors_in_a_row: int = Field(default=5, ge=1)
    feed_silent_s: int = Field(default=300, ge=1)
    health_silent_s: int = Field(default=120, ge=10)
    vital: list[str] = ["market", "execution", "account", "positions", "exits", "guardian"]
    remedies: list[Remedy] = [Remedy.CLOSE_LOSERS, Remedy.HALVE_EXPOSURE]


class Policy(Section):
    """Defaults are the project's stated numbers."""

    name: str = "default"
    universe: Universe = Universe()
    risk: Risk = Risk()
    execution: Execution = Execution()
    exits: Exits = Exits()
    models: Models = Models()
    guardian: Guardian = Guardian()
    breaker: Breaker = Breaker()
    emergency: Emergency = Emergency()

    @model_validator(mode="after")
    def _reachable_stop(self) -> Self:
        risk = self.risk
        widest = self.exits.widest_stop
        needed = widest + risk.liquidation_buffer + risk.maintenance_margin_rate
        if risk.leverage * needed > 1:
            raise ValueError(
                f"risk.leverage {risk.leverage} liquidates before the stop: with a stop {widest} away "
                f"it may be at most {int(1 / needed)}"
            )
        return self

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
