"""What a strategy says of a candle, and what it says when it cannot say anything."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal as D
from typing import Any

import pytest

from processors import signals
from processors.features.catalogue import NAMES
from processors.signals import Model, State
from processors.step import Context
from schemas import hot
from schemas.policy import Models, Policy
from schemas.signals import Action, Decision, DecisionReason, Prediction, Strategy

BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
BAR = 300_000


def features(n: int = 1, *, ready: bool = True, trend: float = 0.01, instrument: str = BTC, close: float = 64000.1) -> hot.Features:
    values = [0.0] * len(NAMES)
    values[signals.TREND] = trend
    return hot.Features(
        event_id=f"features-{instrument}-{n}",
        type="market.features",
        at=(n + 1) * BAR,
        instrument=instrument,
        interval="5m",
        candle_id=f"candle-{n}",
        open_at=n * BAR,
        o=close,
        h=close,
        l=close,
        c=close,
        v=1.0,
        feature_set="u49.v1",
        feature_hash="abc",
        ready=ready,
        bars=n,
        values=values,
        source="candles",
    )


def says(p_up: float) -> Model:
    def predict(values: Sequence[float]) -> float:
        return p_up

    return Model("seed", "7", "abc", 3, predict)


def context(*strategies: Strategy, every: int = 6) -> Context:
    policy = Policy(models=Models(strategies=list(strategies), scripted_every_bars=every))
    return Context("market.features", 0, 0, policy, 4, "sim", {})


MODEL = context(Strategy.MODEL)


def decide(event: hot.Features, ctx: Context, model: Model | None) -> list[Any]:
    return list(signals.step(None, event, ctx, model).events)


@pytest.mark.parametrize(
    ("p_up", "action", "reason", "confidence"),
    [
        (0.70, Action.LONG, DecisionReason.CONFIDENT, 0.70),
        (0.25, Action.SHORT, DecisionReason.CONFIDENT, 0.75),
        (0.69, Action.HOLD, DecisionReason.BELOW_THRESHOLD, 0.69),
        (0.40, Action.HOLD, DecisionReason.BELOW_THRESHOLD, 0.60),
    ],
)
def test_the_model_decides_by_its_confidence(p_up: float, action: Action, reason: DecisionReason, confidence: float) -> None:
    prediction, decision = decide(features(), MODEL, says(p_up))
    assert isinstance(prediction, Prediction)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.confidence == pytest.approx(confidence)
    assert (decision.prediction_id, decision.model_version, decision.policy_version) == (prediction.event_id, "7", 4)
    assert decision.reference_price == D("64000.1")


def test_without_a_model_nobody_else_decides() -> None:
    (decision,) = decide(features(), MODEL, None)
    assert (decision.strategy, decision.action, decision.reason) == (Strategy.MODEL, Action.HOLD, DecisionReason.MODEL_UNAVAILABLE)


def test_a_model_of_other_features_is_no_model() -> None:
    (decision,) = decide(features(), MODEL, says(0.9)._replace(feature_hash="old"))
    assert decision.reason is DecisionReason.MODEL_UNAVAILABLE
    assert "old" in decision.detail


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), 1.2, -0.1])
def test_an_answer_that_is_no_probability_is_no_prediction(nonsense: float) -> None:
    (decision,) = decide(features(), MODEL, says(nonsense))
    assert decision.reason is DecisionReason.MODEL_UNAVAILABLE


def test_features_that_warm_up_are_not_shown_to_the_model() -> None:
    (decision,) = decide(features(ready=False), MODEL, says(0.9))
    assert (decision.action, decision.reason) == (Action.HOLD, DecisionReason.WARMING_UP)


def test_a_candle_is_decided_once() -> None:
    first = signals.step(None, features(5), MODEL, says(0.9))
    for again in (5, 4):
        result = signals.step(first.state, features(again), MODEL, says(0.9))
        assert (result.state, result.events) == (first.state, ())
    assert signals.step(first.state, features(6), MODEL, says(0.9)).events


def test_the_same_candle_gives_the_same_ids() -> None:
    assert decide(features(), MODEL, says(0.9)) == decide(features(), MODEL, says(0.9))


def test_the_script_decides_every_sixth_candle_beside_the_model() -> None:
    both = context(Strategy.MODEL, Strategy.SCRIPTED)
    state: State | None = None
    scripted: list[Decision] = []
    modelled = 0
    for n in range(60):
        state, events = signals.step(state, features(n, trend=0.01 if n < 30 else -0.01), both, None)
        modelled += sum(isinstance(e, Decision) and e.strategy is Strategy.MODEL for e in events)
        scripted += [e for e in events if isinstance(e, Decision) and e.strategy is Strategy.SCRIPTED]
    assert modelled == 60
    assert len(scripted) == 10
    assert {e.action for e in scripted[:5]} == {Action.LONG}
    assert {e.action for e in scripted[5:]} == {Action.SHORT}
    assert all(e.reason is DecisionReason.SCRIPTED and e.prediction_id is None for e in scripted)
    assert {e.confidence for e in scripted} == {both.policy.models.threshold}


def test_instruments_are_scripted_on_different_candles() -> None:
    names = [f"binance.usdm.{s}USDT" for s in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "BNB")]
    due = {name: [n for n in range(6) if signals.is_due(name, n * BAR, BAR, 6)] for name in names}
    assert all(len(when) == 1 for when in due.values())
    assert len({when[0] for when in due.values()}) > 2


def test_the_script_alone_leaves_the_model_out() -> None:
    alone = context(Strategy.SCRIPTED, every=1)
    kinds = [type(event).__name__ for event in decide(features(instrument=ETH), alone, None)]
    assert kinds == ["Decision"]
