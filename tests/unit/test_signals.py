"""What a strategy says of a candle, and what it says when it cannot say anything."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import msgspec
import numpy as np
import pytest

from processors import signals
from processors.features.catalogue import NAMES, feature_hash
from processors.features.step import WINDOW
from processors.signals import Answer, Answers, Heard, State
from processors.step import Context
from schemas import hot
from schemas.ids import partition_of
from schemas.policy import Models, Policy
from schemas.signals import Action, Decision, DecisionReason, Proposal, Strategy, Wish

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


def says(p_up: float, **more: Any) -> Answer:
    return Answer("seed", "7", "abc", 3, p_up, **more)


def context(*strategies: Strategy, every: int = 6) -> Context:
    policy = Policy(models=Models(strategies=list(strategies), scripted_every_bars=every))
    return Context("market.features", 0, 0, policy, 4, "sim", {}, "", BTC)


MODEL = context(Strategy.MODEL)
BARRIER = hot.Barrier("b", "market.barrier", 0, 0, "5m")


def close(state: State | None, event: hot.Features, ctx: Context, *answers: Answer | None) -> tuple[State, list[Any]]:
    """A vector and the barrier behind it, without regimes. `answers`: what serves, and the shadow."""
    joined = signals.step(state, event, ctx)
    assert joined.events == ()
    serving, shadow = (*answers, None, None)[:2]
    heard = Heard({event.event_id: Answers(serving, "no model is loaded", shadow)}, {})
    after, events = signals.step(joined.state, BARRIER, ctx._replace(key=event.instrument), heard)
    assert after is not None
    said = [event for event in events if isinstance(event, hot.Prediction | Wish)]
    return msgspec.json.decode(msgspec.json.encode(after), type=State), said


def decide(event: hot.Features, ctx: Context, *answers: Answer | None) -> list[Any]:
    return close(None, event, ctx, *answers)[1]


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
    assert isinstance(prediction, hot.Prediction)
    assert isinstance(decision, Decision if action is Action.HOLD else Proposal)
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


@pytest.mark.parametrize(
    "nonsense",
    [
        says(float("nan")),
        says(float("inf")),
        says(1.2),
        says(-0.1),
        says(0.9, edge=float("nan")),
        says(0.9, volatility=float("inf")),
    ],
)
def test_an_answer_that_is_no_number_is_no_prediction(nonsense: Answer) -> None:
    (decision,) = decide(features(), MODEL, nonsense)
    assert decision.reason is DecisionReason.MODEL_UNAVAILABLE


def test_features_that_warm_up_are_not_shown_to_the_model() -> None:
    (decision,) = decide(features(ready=False), MODEL, says(0.9))
    assert (decision.action, decision.reason) == (Action.HOLD, DecisionReason.WARMING_UP)


def test_a_candle_is_decided_once() -> None:
    first, events = close(None, features(5), MODEL, says(0.9))
    assert len(events) == 2
    for again in (5, 4):
        assert close(first, features(again), MODEL, says(0.9)) == (first, [])
    assert close(first, features(6), MODEL, says(0.9))[1]


def test_nothing_is_decided_before_the_barrier_and_everything_behind_it() -> None:
    """A tick that jumps over closes: all vectors wait, each sees the window as it was then."""
    state: State | None = None
    for n in range(1, 71):
        state, events = signals.step(state, features(n, trend=n / 100), MODEL)
        assert events == ()
    assert state is not None
    found = list(signals.asked(state))
    assert [one.at for one in found] == [(n + 1) * BAR for n in range(1, 71)]
    for n, one in enumerate(found, 1):
        expected = np.arange(max(1, n - WINDOW + 1), n + 1, dtype=np.float32) / np.float32(100)
        np.testing.assert_allclose(one.window[:, signals.TREND], expected, rtol=1e-6)
    answers = {one.features_id: Answers(says(0.9)) for one in found}
    state, events = signals.step(state, BARRIER, MODEL, Heard(answers, {}))
    assert [event.at for event in events if isinstance(event, Wish)] == [one.at for one in found]
    assert state is not None
    assert (state.seen, len(state.rows)) == ((), signals.ROW * WINDOW)
    assert list(signals.asked(state)) == []


def test_a_window_goes_on_from_the_past_and_begins_anew_behind_a_gap() -> None:
    past = [[float(n)] * len(NAMES) for n in range(1, WINDOW + 1)]
    history = hot.FeatureHistory("h", "market.feature-history", 10 * BAR, BTC, "5m", BAR, "u49.v1", feature_hash(), past, "candles")
    state, _ = signals.step(None, history, MODEL)
    state, _ = signals.step(state, features(10), MODEL)
    (one,) = signals.asked(state or State())
    assert (len(one.window), one.window[0, 0], one.window[-2, 0]) == (WINDOW, 2.0, float(WINDOW))
    assert signals.step(state, history, MODEL).state == state, "an old past changes nothing"
    state, _ = signals.step(state, BARRIER, MODEL)
    state, _ = signals.step(state, features(12), MODEL)
    (one,) = signals.asked(state or State())
    assert len(one.window) == 1


@pytest.mark.parametrize(
    "foreign",
    [
        hot.FeatureHistory(
            "h", "market.feature-history", 20 * BAR, BTC, "5m", BAR, "u48.v1", feature_hash(), [[0.0] * 48], "candles"
        ),
        hot.FeatureHistory(
            "h", "market.feature-history", 20 * BAR, BTC, "5m", BAR, "u49.v1", "old", [[0.0] * len(NAMES)], "candles"
        ),
        msgspec.structs.replace(features(20), values=[0.0] * 48),
        msgspec.structs.replace(features(20), open_at=features(20).at),
    ],
    ids=["narrow history", "history of other features", "narrow vector", "a candle of no length"],
)
def test_vectors_of_other_features_are_refused_and_harm_no_barrier(foreign: Any) -> None:
    state, _ = signals.step(None, features(10), MODEL)
    with pytest.raises(ValueError, match=r"features|values|candle"):
        signals.step(state, foreign, MODEL)
    _, said = signals.step(state, BARRIER, MODEL)
    assert [event for event in said if isinstance(event, Decision)]


def test_an_edge_that_does_not_pay_its_cost_is_no_trade() -> None:
    for p_up, edge, reason in (
        (0.9, 0.0011, DecisionReason.CONFIDENT),
        (0.9, 0.0010, DecisionReason.EDGE_BELOW_COST),
        (0.9, -0.0011, DecisionReason.EDGE_BELOW_COST),
        (0.1, -0.0011, DecisionReason.CONFIDENT),
        (0.5, 0.0011, DecisionReason.BELOW_THRESHOLD),
    ):
        answer = says(p_up, edge=edge, volatility=0.002, votes=(("lightgbm", 0.3, 1.0),))
        prediction, decision = decide(features(), MODEL, answer)
        assert decision.reason is reason, (p_up, edge)
        assert (decision.edge, decision.cost, decision.volatility, decision.probability) == (edge, 0.001, 0.002, p_up)
        assert [vote.model_dump() for vote in decision.votes] == [msgspec.structs.asdict(vote) for vote in prediction.votes]
        assert decision.votes[0].member == "lightgbm"


def test_a_shadow_is_recorded_and_decides_nothing() -> None:
    alone, beside, decision = decide(features(), MODEL, says(0.2), says(0.95)._replace(version="8"))
    assert (alone.shadow, alone.model_version, beside.shadow, beside.model_version) == (False, "7", True, "8")
    assert (decision.action, decision.model_version) == (Action.SHORT, "7")
    beside, decision = decide(features(), MODEL, None, says(0.95))
    assert beside.shadow
    assert decision.reason is DecisionReason.MODEL_UNAVAILABLE


def test_the_same_candle_gives_the_same_ids() -> None:
    assert decide(features(), MODEL, says(0.9)) == decide(features(), MODEL, says(0.9))


def test_the_script_decides_every_sixth_candle_beside_the_model() -> None:
    both = context(Strategy.MODEL, Strategy.SCRIPTED)
    state: State | None = None
    scripted: list[Wish] = []
    modelled = 0
    for n in range(60):
        state, events = close(state, features(n, trend=0.01 if n < 30 else -0.01), both)
        modelled += sum(isinstance(e, Wish) and e.strategy is Strategy.MODEL for e in events)
        scripted += [e for e in events if isinstance(e, Wish) and e.strategy is Strategy.SCRIPTED]
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
    assert kinds == ["Proposal"]


def test_a_prediction_matures_when_its_horizon_is_over_and_not_across_a_gap() -> None:
    """The model looks three candles ahead: what it said of the first candle is told with the barrier of the fourth."""

    def told(*candles: int) -> list[tuple[int, float, float]]:
        state: State | None = None
        found = []
        for n in candles:
            vector = features(n)
            vector.values[signals.RETURN], vector.values[signals.DEVIATION] = n / 1000, 0.004
            joined = signals.step(state, vector, MODEL).state
            partition = partition_of(BTC)
            barrier = hot.Barrier(f"b{n}", "market.barrier", vector.at, partition, "5m")
            ctx = MODEL._replace(states={BTC: joined}, key=signals.barrier_key(partition))
            nothing, (said,) = signals.step(None, barrier, ctx)
            assert (nothing, said.at, said.source_partition) == (None, vector.at, partition)
            found += [(one.made_at // BAR, one.p_up, one.deviations) for one in said.matured]
            heard = Heard({vector.event_id: Answers(says(0.5 + n / 100))}, {})
            state = signals.step(joined, barrier, MODEL, heard).state
        return found

    whole = told(1, 2, 3, 4, 5)
    assert [(at, p_up) for at, p_up, _ in whole] == [(2, 0.51), (3, 0.52)]
    assert [deviations for *_, deviations in whole] == pytest.approx([(2 + 3 + 4) / 4 / 3**0.5, (3 + 4 + 5) / 4 / 3**0.5])
    (behind,) = told(1, 2, 4, 5, 6, 7)
    assert behind == pytest.approx((5, 0.54, (5 + 6 + 7) / 4 / 3**0.5))


def test_a_peek_is_predicted_on_and_changes_nothing() -> None:
    peek = hot.Peek("peek", "market.peek", 7, BTC, "5m", 0, 1.0, 1.0, 1.0, 2.0, 1.0, "u49.v1", "abc", 700, [0.0] * 49, "candles")
    state = close(None, features(), MODEL, says(0.9))[0]
    assert signals.step(state, peek, MODEL) == (state, [])
    after, (said,) = signals.step(state, peek, MODEL, Heard({"peek": Answers(says(0.9))}, {}))
    assert after is state
    assert isinstance(said, hot.Prediction)
    assert (said.forming, said.at, said.features_id, said.confidence) == (True, 7, "peek", 0.9)
