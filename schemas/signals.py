"""What models say (predictions) and what is wished of it (decisions). A decision without an entry has its reason too."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import InstrumentEvent, Value
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
    `latency_us`: of the run that it was part of.
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


class Decision(InstrumentEvent):
    """What a strategy wants on this candle. `reference_price`: close of the candle; `candle_at`: its close time.

    What it was decided on, where a model knows it: `votes`, `probability` (that the price rises), `edge` (log return before cost,
    signed), `cost` (of a round trip, by policy), `volatility` (of one candle over the horizon). `regime`: of the instrument.
    `atr`: ATR14 of its hourly candles, a share of the price; None until fourteen are known.
    """

    type: Literal["signal.decision"] = "signal.decision"
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
