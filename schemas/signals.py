"""What models say (predictions) and what is wished of it (decisions). A decision without an entry has its reason too."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas.events import InstrumentEvent
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
    WARMING_UP = "WARMING_UP"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"


class Prediction(InstrumentEvent):
    """One model's view of one feature vector; confidence = calibrated probability of the chosen side."""

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


class Decision(InstrumentEvent):
    """What a strategy wants on this candle. `reference_price`: close of the candle; `candle_at`: its close time."""

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
