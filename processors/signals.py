"""Signals: feature vectors become predictions, and predictions become decisions. No trade is a decision too, with its reason.

| event                   | what happens                                                                        |
|-------------------------|-------------------------------------------------------------------------------------|
| market.feature-history  | the window begins with past vectors                                                 |
| market.features         | the vector joins the window of its instrument and waits for its barrier             |
| market.barrier          | all that wait in the partition are decided, by one run of the model; their regimes  |
|                         | are told, and the whole market's when this was the last partition of the close      |
| the same, own key       | behind all proposals of the partition: a barrier, with what its predictions came to |
| signal.proposal, barrier| rounds: ranked, supervised, published (processors/supervisor.py)                    |
| market.peek             | what the trees say of a candle that still forms; nothing is decided on it           |
| model.version           | which version decides from the next candle on (processors/serving.py)               |

HOLD is published at once, LONG and SHORT are proposals until their round has ended.

What a model answered comes in as a value (`Heard`): on a replay, what was recorded decides.

| features   | answer                | decision of strategy `model`                                           |
|------------|-----------------------|------------------------------------------------------------------------|
| not ready  | any                   | HOLD WARMING_UP                                                        |
| ready      | none, or not fit      | HOLD MODEL_UNAVAILABLE, never another strategy                         |
| ready      | p < threshold         | HOLD BELOW_THRESHOLD                                                   |
| ready      | edge <= cost          | HOLD EDGE_BELOW_COST, where the model expects an edge                  |
| ready      | else                  | LONG or SHORT, CONFIDENT                                               |

The strategy `scripted` (a demonstration for recorded markets, switched on by policy and marked in every event) decides beside the
model: every n-th candle of an instrument, spread over instruments by a hash, in the direction of the last twelve candles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from processors import regime, serving, supervisor
from processors.features.catalogue import INDEX, NAMES, feature_hash
from processors.features.step import BAR_MS, WINDOW
from processors.filters import from_text
from processors.serving import Drift, Refusal, Serving
from processors.step import Context, Step
from schemas import hot, ids
from schemas.models import ModelVersion
from schemas.policy import Policy
from schemas.regime import Coupling, MarketRegime, Regime
from schemas.signals import (
    Action,
    Decision,
    DecisionReason,
    Matured,
    Proposal,
    ProposalBarrier,
    Strategy,
    Vote,
)
from schemas.units import Side, Source

TREND = INDEX["ret_12"]
MODEL: Final = "model"
"""The key of the pointers' own state."""
SUPERVISOR: Final = "supervisor"
"""The key of the rounds: all of them on one."""
RETURN, DEVIATION = INDEX["log_ret_1"], INDEX["hv_50"]
CUT: Final = 5.0
"""Deviations, as in training."""
ROW: Final = 4 * len(NAMES)
SILENT_BARS: Final = 12
"""An instrument without a candle for so long holds up nobody's word on the whole market."""


class Answer(NamedTuple):
    """What a model version says of one vector. `p_up`: calibrated probability that the price is higher after the horizon."""

    model: str
    version: str
    feature_hash: str
    horizon_bars: int
    p_up: float
    votes: tuple[tuple[str, float, float], ...] = ()
    volatility: float | None = None
    edge: float | None = None
    trees_only: bool = False
    latency_us: int = 0


class Answers(NamedTuple):
    """Of one vector. `serving` None: `missing` says why."""

    serving: Answer | None
    missing: str = ""
    shadow: Answer | None = None


class Heard(NamedTuple):
    """What the world has said beside the event: answers by id of the features, and of versions that are pointed at those that do
    not verify, and how far each of the others is from what serves."""

    answers: Mapping[str, Answers]
    refused: Mapping[str, Refusal]
    drifts: Mapping[str, Drift] = {}


NOTHING: Final = Heard({}, {})
UNASKED: Final = Answers(None, "no model is loaded")


class Seen(msgspec.Struct, frozen=True):
    """A vector that waits for its barrier. `c`: close of the candle."""

    features_id: str
    at: int
    open_at: int
    c: float
    ready: bool
    bars: int
    feature_hash: str
    source: str
    atr: float | None = None


class Made(msgspec.Struct, frozen=True, array_like=True):
    """A prediction whose horizon is not over: of the candle opened at `open_at`, over `bars`."""

    open_at: int
    bars: int
    p_up: float
    model_version: str


class State(msgspec.Struct, frozen=True):
    """Of one instrument, of the pointers, or of the rounds. `decided_to`, `decided_at`: open and close of the last candle decided.

    `rows`: float32 vectors of candles that follow each other, the last one opened at `rows_to`: a window and what waits (`seen`).
    `regime`: the last one told, which began at `regime_since`. `made`: predictions of the version that served.
    """

    version: int = 1
    decided_to: int = -1
    decided_at: int = -1
    seen: tuple[Seen, ...] = ()
    rows: bytes = b""
    rows_to: int = -1
    serving: Serving | None = None
    regime: Regime | None = None
    regime_since: int = -1
    made: tuple[Made, ...] = ()
    rounds: supervisor.State | None = None


class Asked(NamedTuple):
    """A vector that a model is to be asked about. `window`: float32 [1..WINDOW, features], oldest first, itself the last."""

    features_id: str
    at: int
    window: NDArray[np.float32]


def barrier_key(partition: int) -> str:
    """Of a partition's barrier. It is asked with the states as they were before it, and keeps none."""
    return f"barrier/{partition}"


def is_instrument(key: str) -> bool:
    return key not in (MODEL, SUPERVISOR)


def step(state: State | None, event: Any, ctx: Context, heard: Heard = NOTHING) -> Step[State]:
    match event:
        case hot.Peek():
            return Step(state, _forming(event, heard.answers.get(event.event_id, UNASKED).serving))
        case hot.Barrier() if ctx.key == barrier_key(event.partition):
            return Step(None, [_proposal_barrier(event, ctx)])
        case Proposal() | ProposalBarrier():
            state = state or State()
            rounds, events = supervisor.step(state.rounds, event, ctx.policy.models.supervisor)
            return Step(replace(state, rounds=rounds), events)
    state = state or State()
    match event:
        case hot.Features():
            return Step(_joined(state, event))
        case hot.Barrier():
            return _decided(state, ctx, heard)
        case hot.FeatureHistory():
            return Step(_begun(state, event))
        case ModelVersion():
            decided_at = max((found.decided_at for found in ctx.states.values()), default=-1)
            after, events = serving.point(state.serving or Serving(), event, decided_at, heard.refused, heard.drifts)
            return Step(replace(state, serving=after), events)
    raise TypeError(f"signals does not take {type(event).__name__}")


def asked(state: State) -> Iterator[Asked]:
    """What the next barrier needs answers for."""
    rows = np.frombuffer(state.rows, dtype="<f4").reshape(-1, len(NAMES))
    for behind, seen in zip(range(len(state.seen) - 1, -1, -1), state.seen, strict=True):
        end = len(rows) - behind
        if seen.ready and end > 0:
            yield Asked(seen.features_id, seen.at, rows[max(end - WINDOW, 0) : end])


def is_due(instrument: str, open_at: int, bar_ms: int, every_bars: int) -> bool:
    """Whether this candle is one of the instrument's scripted ones: a property of the candle alone, so no memory can lose it."""
    phase = ids.partition_of(instrument, every_bars)
    return (open_at // bar_ms) % every_bars == phase


def _begun(state: State, history: hot.FeatureHistory) -> State:
    """The window begins with past vectors. Raises ValueError for vectors of other features."""
    if history.feature_hash != feature_hash():
        raise ValueError(f"a history of features {history.feature_hash}, ours are {feature_hash()}")
    rows = b"".join(_row(values) for values in history.rows[-WINDOW:])
    if state.seen or history.at - BAR_MS <= state.rows_to:
        return state
    return replace(state, rows=rows, rows_to=history.at - BAR_MS)


def _row(values: Sequence[float]) -> bytes:
    if len(values) != len(NAMES):
        raise ValueError(f"a vector of {len(values)} values, the catalogue has {len(NAMES)}")
    return np.asarray(values, dtype="<f4").tobytes()


def _joined(state: State, features: hot.Features) -> State:
    """A vector once; one that does not follow the last begins a new window. Raises ValueError for what is no vector of ours."""
    last = state.seen[-1].open_at if state.seen else state.decided_to
    if features.open_at <= last:
        return state
    bar_ms = features.at - features.open_at
    if bar_ms != BAR_MS:
        raise ValueError(f"a candle of {bar_ms} ms, vectors are of {BAR_MS}")
    row = _row(features.values)
    before = state.rows if state.rows_to == features.open_at - bar_ms else b""
    # what waits keeps its place at the end of the rows; vectors before a gap have lost theirs and are decided without a window
    seen = Seen(
        features.event_id,
        features.at,
        features.open_at,
        features.c,
        features.ready,
        features.bars,
        features.feature_hash,
        features.source,
        features.atr_1h,
    )
    rows = (before + row)[-ROW * (WINDOW + len(state.seen)) :]
    return replace(state, seen=(*state.seen, seen), rows=rows, rows_to=features.open_at)


def _decided(state: State, ctx: Context, heard: Heard) -> Step[State]:
    if not state.seen:
        return Step(state)
    rows = np.frombuffer(state.rows, dtype="<f4").reshape(-1, len(NAMES))
    events: list[Any] = []
    now, since, made = state.regime, state.regime_since, list(state.made)
    for behind, seen in zip(range(len(state.seen) - 1, -1, -1), state.seen, strict=True):
        place = len(rows) - 1 - behind
        row = rows[place] if place >= 0 else None
        if row is not None and seen.ready:
            found = regime.of(row)
            if found.regime is not now:
                now, since = found.regime, seen.at
            events.append(_symbol_regime(seen, ctx.key, found, since))
        for said in _of_candle(seen, row, now, ctx, heard.answers.get(seen.features_id, UNASKED)):
            events.append(said)
            if isinstance(said, hot.Prediction) and not said.shadow:
                made.append(Made(seen.open_at, said.horizon_bars, said.p_up, said.model_version))
    last = state.seen[-1]
    bar_ms = last.at - last.open_at
    wide = _market_regime(last, ctx)
    after = replace(
        state,
        decided_to=last.open_at,
        decided_at=last.at,
        seen=(),
        rows=state.rows[-ROW * WINDOW :],
        regime=now,
        regime_since=since,
        made=tuple(one for one in made if one.open_at + one.bars * bar_ms > last.open_at and one.bars < WINDOW),
    )
    return Step(after, [*events, *([wide] if wide else [])])


def _proposal_barrier(barrier: hot.Barrier, ctx: Context) -> ProposalBarrier:
    here = [(key, state) for key, state in sorted(ctx.states.items()) if state.seen and ids.partition_of(key) == barrier.partition]
    return ProposalBarrier(
        event_id=ids.event_id("signal.proposal-barrier", barrier.event_id),
        at=barrier.at,
        source_partition=barrier.partition,
        matured=[found for key, state in here for found in _matured(key, state)],
    )


def _matured(instrument: str, state: State) -> Iterator[Matured]:
    """Predictions whose horizon ends with a candle that waits, and what came of them. None across a gap."""
    rows = np.frombuffer(state.rows, dtype="<f4").reshape(-1, len(NAMES))
    places = {seen.open_at: len(rows) - len(state.seen) + n for n, seen in enumerate(state.seen)}
    bar_ms = state.seen[-1].at - state.seen[-1].open_at
    for one in state.made:
        end = places.get(one.open_at + one.bars * bar_ms, -1)
        begin = end - one.bars
        if begin < 0 or not (deviation := float(rows[begin, DEVIATION]) * math.sqrt(one.bars)) > 0.0:
            continue
        moved = float(rows[begin + 1 : end + 1, RETURN].astype(np.float64).sum()) / deviation
        yield Matured(
            instrument=instrument,
            model_version=one.model_version,
            made_at=one.open_at + bar_ms,
            bars=one.bars,
            p_up=one.p_up,
            deviations=max(-CUT, min(CUT, moved)),
        )


def _forming(peek: hot.Peek, answer: Answer | None) -> list[hot.Prediction]:
    """Nothing, where nobody was asked: an answer of a model is what the world says, and it is not asked at every peek."""
    if answer is None:
        return []
    seen = Seen(peek.event_id, peek.at, peek.open_at, peek.c, True, peek.bars, peek.feature_hash, peek.source)
    prediction, _ = _fit(seen, peek.instrument, answer, forming=True)
    return [prediction] if prediction else []


def _symbol_regime(seen: Seen, instrument: str, found: regime.Seen, since: int) -> hot.SymbolRegime:
    return hot.SymbolRegime(
        event_id=ids.event_id("market.symbol-regime", seen.features_id),
        type="market.symbol-regime",
        at=seen.at,
        instrument=instrument,
        features_id=seen.features_id,
        since=since,
        source=seen.source,
        **found._asdict(),
    )


def _market_regime(last: Seen, ctx: Context) -> MarketRegime | None:
    """None until the last instrument that still trades has closed this candle; the last one of the last partition tells it.

    All are looked at as they were at that close, so it does not matter in which order their partitions came.
    """
    bar_ms = last.at - last.open_at
    home = ids.partition_of(ctx.key)
    trading: dict[str, State] = {}
    for key, found in ctx.states.items():
        if not is_instrument(key) or found.rows_to <= last.open_at - SILENT_BARS * bar_ms:
            continue
        if found.rows_to < last.open_at or (found.decided_at < last.at and (ids.partition_of(key) != home or key > ctx.key)):
            return None
        trading[key] = found
    windows: dict[str, NDArray[np.float32]] = {}
    for key, found in sorted(trading.items()):
        rows = np.frombuffer(found.rows, dtype="<f4").reshape(-1, len(NAMES))
        end = len(rows) - (found.rows_to - last.open_at) // bar_ms
        if end > 0:
            windows[key] = rows[:end]
    if not windows:
        return None
    regimes = [regime.of(rows[-1]).regime for rows in windows.values()]
    wide = regime.wide(windows, regimes)
    members = [
        Coupling(instrument=key, regime=mine, correlation=one)
        for key, mine, one in zip(windows, regimes, wide.couplings, strict=True)
    ]
    return MarketRegime(
        event_id=ids.event_id("market.market-regime", last.at),
        at=last.at,
        partition=0,
        regime=wide.regime,
        correlation=wide.correlation,
        bars=regime.BARS,
        members=members,
    )


def _of_candle(
    seen: Seen, row: NDArray[np.float32] | None, now: Regime | None, ctx: Context, answers: Answers
) -> Iterator[hot.Prediction | Proposal | Decision]:
    """Predictions of the models that were asked, and one decision or proposal for each strategy that is on."""
    strategies = ctx.policy.models.strategies
    prediction, missing = _fit(seen, ctx.key, answers.serving) if answers.serving else (None, answers.missing)
    shadow = _fit(seen, ctx.key, answers.shadow, shadow=True)[0] if answers.shadow else None
    if seen.ready:
        yield from (said for said in (prediction, shadow) if said is not None)
    if Strategy.MODEL in strategies:
        yield _of_model(seen, prediction if seen.ready else None, missing, now, ctx)
    if Strategy.SCRIPTED in strategies:
        scripted = _of_script(seen, 0.0 if row is None else float(row[TREND]), now, ctx)
        if scripted is not None:
            yield scripted


def _fit(
    seen: Seen, instrument: str, answer: Answer, *, shadow: bool = False, forming: bool = False
) -> tuple[hot.Prediction | None, str]:
    """(prediction, why the answer is none)."""
    if answer.feature_hash != seen.feature_hash:
        return None, f"{answer.model} {answer.version} was trained on features {answer.feature_hash}, these are {seen.feature_hash}"
    p_up = answer.p_up
    if not math.isfinite(p_up) or not 0 <= p_up <= 1:
        return None, f"{answer.model} {answer.version} answered {p_up}, which is no probability"
    numbers = [value for value in (answer.volatility, answer.edge, *(vote[1] for vote in answer.votes)) if value is not None]
    if not all(map(math.isfinite, numbers)):
        return None, f"{answer.model} {answer.version} answered {numbers}, which are no numbers"
    side = Side.LONG if p_up >= 0.5 else Side.SHORT
    return hot.Prediction(
        event_id=ids.event_id("signal.prediction", seen.features_id, answer.model, answer.version),
        type="signal.prediction",
        at=seen.at,
        instrument=instrument,
        features_id=seen.features_id,
        model=answer.model,
        model_version=answer.version,
        feature_hash=seen.feature_hash,
        horizon_bars=answer.horizon_bars,
        p_up=p_up,
        p_down=1 - p_up,
        side=side.value,
        confidence=max(p_up, 1 - p_up),
        source=seen.source,
        votes=[hot.Vote(member, value, weight) for member, value, weight in answer.votes],
        volatility=answer.volatility,
        edge=answer.edge,
        shadow=shadow,
        forming=forming,
        trees_only=answer.trees_only,
        latency_us=answer.latency_us,
    ), ""


def _of_model(seen: Seen, prediction: hot.Prediction | None, missing: str, now: Regime | None, ctx: Context) -> Proposal | Decision:
    models = ctx.policy.models
    action, confidence = Action.HOLD, 0.0
    if not seen.ready:
        reason, detail = DecisionReason.WARMING_UP, f"{seen.bars} candles seen"
    elif prediction is None:
        reason, detail = DecisionReason.MODEL_UNAVAILABLE, missing
    else:
        confidence = prediction.confidence
        detail = f"{prediction.side} {confidence:.4f}, threshold {models.threshold:g}"
        edge = None if prediction.edge is None else prediction.edge * Side(prediction.side).sign
        if edge is not None:
            detail += f", edge {edge:+.5f} against cost {models.round_trip_cost:g}"
        if confidence < models.threshold:
            reason = DecisionReason.BELOW_THRESHOLD
        elif edge is not None and edge <= models.round_trip_cost:
            reason = DecisionReason.EDGE_BELOW_COST
        else:
            action, reason = Action(prediction.side), DecisionReason.CONFIDENT
    return _decision(seen, ctx, Strategy.MODEL, action, reason, detail, confidence, prediction, now)


def _of_script(seen: Seen, trend: float, now: Regime | None, ctx: Context) -> Proposal | Decision | None:
    """None between its candles."""
    policy: Policy = ctx.policy
    every = policy.models.scripted_every_bars
    if not is_due(ctx.key, seen.open_at, seen.at - seen.open_at, every):
        return None
    if not seen.ready:
        action, reason, detail = Action.HOLD, DecisionReason.WARMING_UP, f"{seen.bars} candles seen"
    else:
        action = Action.LONG if trend >= 0 else Action.SHORT
        reason, detail = DecisionReason.SCRIPTED, f"every {every} candles with the last twelve ({trend:+.5f}); no model was asked"
    return _decision(seen, ctx, Strategy.SCRIPTED, action, reason, detail, policy.models.threshold, None, now)


def _decision(
    seen: Seen,
    ctx: Context,
    strategy: Strategy,
    action: Action,
    reason: DecisionReason,
    detail: str,
    confidence: float,
    prediction: hot.Prediction | None,
    now: Regime | None,
) -> Proposal | Decision:
    known: dict[str, Any] = {}
    if prediction is not None:
        pointers = ctx.states.get(MODEL)
        drift = pointers.serving.drift(prediction.model_version) if pointers and pointers.serving else None
        known = {
            "prediction_id": prediction.event_id,
            "model_version": prediction.model_version,
            "votes": [Vote(member=vote.member, value=vote.value, weight=vote.weight) for vote in prediction.votes],
            "probability": prediction.p_up,
            "edge": prediction.edge,
            "cost": ctx.policy.models.round_trip_cost if prediction.edge is not None else None,
            "volatility": prediction.volatility,
            "importance_drift": drift.share if drift else None,
        }
    kind = Decision if action is Action.HOLD else Proposal
    return kind(
        event_id=ids.event_id(kind.type_name(), seen.features_id, strategy),
        at=seen.at,
        instrument=ctx.key,
        strategy=strategy,
        action=action,
        reason=reason,
        detail=detail,
        confidence=confidence,
        reference_price=from_text(seen.c),
        features_id=seen.features_id,
        candle_at=seen.at,
        policy_version=ctx.policy_version,
        source=Source(seen.source),
        regime=now,
        atr=seen.atr,
        **({"prediction_id": None, "model_version": None} | known),
    )
