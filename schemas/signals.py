"""What models say (predictions) and what is wished of it (decisions). A decision without an entry has its reason too."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import Event, InstrumentEvent, Value
from schemas.ids import Instrument
from schemas.regime import Regime
from schemas.units import Price, Probability, Side, Source, UtcMs


class Strategy(StrEnum):
    """Who decides: the model, or the scripted demonstration on recorded data (refused in live)."""

    MODEL = "model"
    SCRIPTED = "scripted"


class Action(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"
    HOLD = "HOLD"

    @property
    def side(self) -> Side:
        """Raises ValueError for HOLD."""
        return Side(self.value)


class DecisionReason(StrEnum):
    CONFIDENT = "CONFIDENT"
    SCRIPTED = "SCRIPTED"
    BELOW_THRESHOLD = "BELOW_THRESHOLD"
    EDGE_BELOW_COST = "EDGE_BELOW_COST"
    WARMING_UP = "WARMING_UP"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"


class Vote(Value):
    """One member of an ensemble: the return over the horizon that it expects, in deviations, and its share of the vote."""

    member: str
    value: float
    weight: float


class Prediction(InstrumentEvent):
    """A model version's view of one feature vector; confidence = calibrated probability of the chosen side.

    `votes`: what each member said. `volatility`: of one candle over the horizon. `edge`: log return that a trade can expect, before
    cost, signed. `shadow`: nothing is decided on it. `trees_only`: the window was not full yet, the tree members answered alone.
    `latency_us`: of the run that it was part of. `forming`: of a peek at a candle that is not closed yet; nothing is decided on it.
    """

    type: Literal["signal.prediction"] = "signal.prediction"
    features_id: str
    model: str
    model_version: str
    feature_hash: str
    horizon_bars: int
    p_up: Probability
    p_down: Probability
    side: Side
    confidence: Probability
    source: Source
    votes: list[Vote] = []
    volatility: float | None = None
    edge: float | None = None
    shadow: bool = False
    trees_only: bool = False
    latency_us: int = 0
    forming: bool = False


class SupervisorMode(StrEnum):
    """MONITOR says what it would block, and blocks nothing."""

    ENFORCED = "ENFORCED"
    MONITOR = "MONITOR"


class Block(StrEnum):
    """Why the model supervisor lets no entry through (processors/supervisor.py)."""

    BIAS = "BIAS"
    QUALITY = "QUALITY"
    IMPORTANCE_DRIFT = "IMPORTANCE_DRIFT"


class Wish(InstrumentEvent):
    """What a strategy wants on this candle. `reference_price`: close of the candle; `candle_at`: its close time.

    What it was decided on, where a model knows it: `votes`, `probability` (that the price rises), `edge` (log return before cost,
    signed), `cost` (of a round trip, by policy), `volatility` (of one candle over the horizon), `importance_drift` (of its version
    against the one before it, as `model.switches` told it; None: not judged). `regime`: of the instrument. `atr`: ATR14 of its
    hourly candles, a share of the price; None until fourteen are known.
    """

    strategy: Strategy
    action: Action
    reason: DecisionReason
    detail: str
    confidence: Probability
    reference_price: Price
    features_id: str
    prediction_id: str | None
    model_version: str | None
    candle_at: UtcMs
    policy_version: int
    source: Source
    votes: list[Vote] = []
    probability: float | None = None
    edge: float | None = None
    cost: float | None = None
    volatility: float | None = None
    regime: Regime | None = None
    atr: float | None = None
    importance_drift: Probability | None = None


class Proposal(Wish):
    """A LONG or SHORT as it was generated: it waits for the round of its candle, and becomes a decision there."""

    type: Literal["signal.proposal"] = "signal.proposal"


class Matured(Value):
    """A prediction whose horizon is over. `p_up` was said at `made_at`; `deviations`: the log return since, over hv_50 times the
    root of `bars`, cut at 5."""

    instrument: Instrument
    model_version: str
    made_at: UtcMs
    bars: int
    p_up: Probability
    deviations: float


class ProposalBarrier(Event):
    """Behind all proposals of a barrier of market.features: on candles of `source_partition` that closed at or before `at`."""

    type: Literal["signal.proposal-barrier"] = "signal.proposal-barrier"
    source_partition: int
    matured: list[Matured]


class Decision(Wish):
    """A wish as it is published: HOLD at once; LONG and SHORT from the round of their candle, the best first.

    `rank` of `ranked`: its place among all that wanted to enter, 1 the best; `score`: what it was ranked by. `blocked`: it may
    close what stands against it, and open nothing.
    """

    type: Literal["signal.decision"] = "signal.decision"
    rank: int | None = None
    ranked: int | None = None
    score: float | None = None
    blocked: Block | None = None


class Supervision(Event):
    """How the model supervisor saw the signals of one round, and what it did.

    `longs`, `shorts`: of the version's last signals, this round's among them. `biased`: the side that further entries may not
    take. `information_coefficient` and `hit_rate` of predictions whose horizon is over (`matured`, of `closes` candles); `at_best`:
    the upper end of the coefficient's interval; below 0 it is `poor`. `wishes`: in this round, `blocked` (or would be, by MONITOR)
    of them. `importance_drift` as its wishes carry it, None without any; too large, the version has `drifted`.
    """

    type: Literal["model.supervision"] = "model.supervision"
    mode: SupervisorMode
    model_version: str | None
    longs: int
    shorts: int
    biased: Side | None
    information_coefficient: float | None
    at_best: float | None
    hit_rate: float | None
    matured: int
    closes: int
    poor: bool
    wishes: int
    blocked: int
    importance_drift: Probability | None = None
    drifted: bool = False
