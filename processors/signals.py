"""Signals: a feature vector becomes predictions, and predictions become decisions. No trade is a decision too, with its reason.

| features          | model            | decision of strategy `model`                         |
|-------------------|------------------|------------------------------------------------------|
| not ready         | any              | HOLD WARMING_UP                                      |
| ready             | none, or not fit | HOLD MODEL_UNAVAILABLE, never another strategy       |
| ready             | p < threshold    | HOLD BELOW_THRESHOLD                                 |
| ready             | p >= threshold   | LONG or SHORT, CONFIDENT                             |

The strategy `scripted` (a demonstration for recorded markets, switched on by policy and marked in every event) decides beside the
model: every n-th candle of an instrument, spread over instruments by a hash, in the direction of the last twelve candles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from processors.features.catalogue import INDEX
from processors.filters import from_text
from processors.step import Context, Step
from schemas import hot, ids
from schemas.policy import Policy
from schemas.signals import Action, Decision, DecisionReason, Prediction, Strategy
from schemas.units import Side, Source

TREND = INDEX["ret_12"]


class Model(NamedTuple):
    """A loaded model. `predict`: feature values -> calibrated probability that the price is higher after the horizon."""

    name: str
    version: str
    feature_hash: str
    horizon_bars: int
    predict: Callable[[Sequence[float]], float]


class State(msgspec.Struct, frozen=True):
    """`decided_to`: open time of the last candle decided. An equal or older one was decided already."""

    version: int = 1
    decided_to: int = -1


def step(state: State | None, features: hot.Features, ctx: Context, model: Model | None = None) -> Step[State]:
    """One feature vector, once: a prediction if there is a model that fits, and one decision for each strategy that is on."""
    state = state or State()
    if features.open_at <= state.decided_to:
        return Step(state)
    events: list[Prediction | Decision] = []
    prediction, missing = _predict(features, model)
    if prediction is not None:
        events.append(prediction)
    if Strategy.MODEL in ctx.policy.models.strategies:
        events.append(_of_model(features, prediction, missing, ctx))
    if Strategy.SCRIPTED in ctx.policy.models.strategies:
        scripted = _of_script(features, ctx)
        if scripted is not None:
            events.append(scripted)
    return Step(State(decided_to=features.open_at), events)


def is_due(instrument: str, open_at: int, bar_ms: int, every_bars: int) -> bool:
    """Whether this candle is one of the instrument's scripted ones: a property of the candle alone, so no memory can lose it."""
    phase = ids.partition_of(instrument, every_bars)
    return (open_at // bar_ms) % every_bars == phase


def _predict(features: hot.Features, model: Model | None) -> tuple[Prediction | None, str]:
    """(prediction, why there is none)."""
    if not features.ready:
        return None, ""
    if model is None:
        return None, "no model is loaded"
    if model.feature_hash != features.feature_hash:
        return None, f"{model.name} {model.version} was trained on features {model.feature_hash}, these are {features.feature_hash}"
    p_up = float(model.predict(features.values))
    if not math.isfinite(p_up) or not 0 <= p_up <= 1:
        return None, f"{model.name} {model.version} answered {p_up}, which is no probability"
    side = Side.LONG if p_up >= 0.5 else Side.SHORT
    return Prediction(
        event_id=ids.event_id("signal.prediction", features.event_id, model.name, model.version),
        at=features.at,
        instrument=features.instrument,
        features_id=features.event_id,
        model=model.name,
        model_version=model.version,
        feature_hash=features.feature_hash,
        horizon_bars=model.horizon_bars,
        p_up=p_up,
        p_down=1 - p_up,
        side=side,
        confidence=max(p_up, 1 - p_up),
        source=Source(features.source),
    ), ""


def _of_model(features: hot.Features, prediction: Prediction | None, missing: str, ctx: Context) -> Decision:
    threshold = ctx.policy.models.threshold
    action, confidence, version = Action.HOLD, 0.0, None
    if not features.ready:
        reason, detail = DecisionReason.WARMING_UP, f"{features.bars} candles seen"
    elif prediction is None:
        reason, detail = DecisionReason.MODEL_UNAVAILABLE, missing
    else:
        confidence, version = prediction.confidence, prediction.model_version
        word = f"{prediction.side} {confidence:.4f}, threshold {threshold:g}"
        if confidence >= threshold:
            action, reason, detail = Action(prediction.side.value), DecisionReason.CONFIDENT, word
        else:
            reason, detail = DecisionReason.BELOW_THRESHOLD, word
    return _decision(features, ctx, Strategy.MODEL, action, reason, detail, confidence, prediction, version)


def _of_script(features: hot.Features, ctx: Context) -> Decision | None:
    """None between its candles."""
    policy: Policy = ctx.policy
    every = policy.models.scripted_every_bars
    if not is_due(features.instrument, features.open_at, features.at - features.open_at, every):
        return None
    if not features.ready:
        action, reason, detail = Action.HOLD, DecisionReason.WARMING_UP, f"{features.bars} candles seen"
    else:
        trend = features.values[TREND]
        action = Action.LONG if trend >= 0 else Action.SHORT
        reason, detail = DecisionReason.SCRIPTED, f"every {every} candles with the last twelve ({trend:+.5f}); no model was asked"
    return _decision(features, ctx, Strategy.SCRIPTED, action, reason, detail, policy.models.threshold, None, None)


def _decision(
    features: hot.Features,
    ctx: Context,
    strategy: Strategy,
    action: Action,
    reason: DecisionReason,
    detail: str,
    confidence: float,
    prediction: Prediction | None,
    model_version: str | None,
) -> Decision:
    return Decision(
        event_id=ids.event_id("signal.decision", features.event_id, strategy, model_version or ""),
        at=features.at,
        instrument=features.instrument,
        strategy=strategy,
        action=action,
        reason=reason,
        detail=detail,
        confidence=confidence,
        reference_price=from_text(features.c),
        features_id=features.event_id,
        prediction_id=prediction.event_id if prediction else None,
        model_version=model_version,
        candle_at=features.at,
        policy_version=ctx.policy_version,
        source=Source(features.source),
    )
