"""The round of a candle: what strategies propose is ranked, the model's part is supervised, and it is published, the best first.

One sequence tells all of it (signal.proposals has one partition), so a replay folds the same and decides the same:

| event                    | what happens                                                                            |
|--------------------------|-----------------------------------------------------------------------------------------|
| signal.proposal          | waits for its round                                                                     |
| signal.proposal-barrier  | its partition has closed the candle; the round ends when all have that took part in the |
|                          | round before, or when a later candle begins: who is silent holds up one round, once     |

A barrier that comes after its round has ended is a round of its own. What has been told already (a worker that died tells again
what it was about) is passed over.

Rank: by (edge in the direction - cost) x probability of the side, where the model expects an edge, else 0; among equals by
confidence, then by name. Then, in that order, each proposal of the model is judged by what came before it, and counted:

| asked of the version                                                                            | blocked          |
|-------------------------------------------------------------------------------------------------|------------------|
| it looks at other features than the one before it, by more than `max_importance_drift`          | IMPORTANCE_DRIFT |
| of the last `window` of its signals, more than `max_share` are on its side                      | BIAS             |
| the information coefficient of its predictions is below 0, by `quality_deviations` of chance    | QUALITY          |

The drift was judged when the version was pointed at (processors/serving.py), and every proposal carries it. Signals that were
blocked count as well: they are what the model says. The coefficient is that of all predictions of the last `quality_closes`
candles whose horizon is over; horizons overlap and coins move together, so it is worth closes / horizon numbers, and its deviation
by chance is one over their root. With fewer than half of the candles nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from processors.step import Step
from schemas import ids
from schemas.policy import Supervisor
from schemas.signals import Block, Decision, Proposal, ProposalBarrier, Strategy, Supervision, SupervisorMode
from schemas.units import Side

UNCHANGED: Final = frozenset({"event_id", "type", "detail"})


class Signal(msgspec.Struct, frozen=True, array_like=True):
    """What the model wished, entered or not."""

    model_version: str
    side: Side


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Predictions of one version that matured with the candle that closed at `at`: sums over x = p_up - 0.5 and y = deviations;
    `hits` of `judged`, where both have a side."""

    at: int
    model_version: str
    bars: int
    n: int
    hits: int
    judged: int
    x: float
    y: float
    xx: float
    yy: float
    xy: float


class Standing(msgspec.Struct, frozen=True):
    """The numbers of the last round, for the metrics."""

    model_version: str | None = None
    longs: int = 0
    shorts: int = 0
    coefficient: float | None = None
    hit_rate: float | None = None


class State(msgspec.Struct, frozen=True):
    """`at`: candle of the newest round, `going_on` until it has ended; `before`: of the one before it. `heard`: last close of each
    partition. `waiting`: proposals as JSON. `blocked`: how many so far, by reason and side."""

    at: int = -1
    before: int = -1
    going_on: bool = False
    heard: dict[int, int] = {}
    waiting: tuple[str, ...] = ()
    window: tuple[Signal, ...] = ()
    tallies: tuple[Tally, ...] = ()
    blocked: dict[str, int] = {}
    standing: Standing = Standing()


class Quality(NamedTuple):
    """`coefficient` None: nothing that can be judged."""

    coefficient: float | None = None
    at_best: float | None = None
    hit_rate: float | None = None
    matured: int = 0
    closes: int = 0

    @property
    def poor(self) -> bool:
        return self.at_best is not None and self.at_best < 0


def step(state: State | None, event: Proposal | ProposalBarrier, policy: Supervisor) -> Step[State]:
    state = state or State()
    if isinstance(event, Proposal):
        told = event.candle_at <= state.heard.get(ids.partition_of(event.instrument), -1)
        text = event.model_dump_json()
        return Step(state if told or text in state.waiting else replace(state, waiting=(*state.waiting, text)))
    if event.at <= state.heard.get(event.source_partition, -1):
        return Step(state)
    events: list[Any] = []
    if event.at > state.at:
        if state.going_on:
            later = tuple(text for text in state.waiting if Proposal.model_validate_json(text).candle_at > state.at)
            theirs = tuple(text for text in state.waiting if text not in later)
            state, events = _ended(replace(state, waiting=theirs), event, policy)
            state = replace(state, waiting=later)
        state = replace(state, before=state.at, at=event.at, going_on=True)
    heard = state.heard | {event.source_partition: event.at}
    state = replace(state, heard=heard, tallies=_tallied(state.tallies, event)[-policy.quality_closes :])
    if state.going_on and any(state.before <= at < state.at for at in heard.values()):
        return Step(state, events)
    state, more = _ended(state, event, policy)
    return Step(state, [*events, *more])


def score(wish: Proposal) -> float:
    """What a unit of notional can expect of it, after cost, by the probability that it goes its way."""
    if wish.edge is None:
        return 0.0
    return (wish.edge * wish.action.side.sign - (wish.cost or 0.0)) * wish.confidence


def ranked(wishes: Iterable[Proposal]) -> list[Proposal]:
    return sorted(wishes, key=lambda wish: (-score(wish), -wish.confidence, wish.instrument, wish.strategy, wish.candle_at))


def bias(window: Sequence[Signal], model_version: str | None, policy: Supervisor) -> tuple[int, int, Side | None]:
    """(longs, shorts, the side that has too many), of the last signals; judged when there are enough of this version."""
    own = [signal.side for signal in window[-policy.window :] if signal.model_version == model_version]
    longs = sum(side is Side.LONG for side in own)
    shorts = len(own) - longs
    most, side = max((longs, Side.LONG), (shorts, Side.SHORT))
    return longs, shorts, side if len(own) >= policy.window and most > policy.max_share * len(own) else None


def quality(tallies: Sequence[Tally], model_version: str | None, policy: Supervisor) -> Quality:
    own = [tally for tally in tallies[-policy.quality_closes :] if tally.model_version == model_version]
    n = sum(tally.n for tally in own)
    judged = sum(tally.judged for tally in own)
    hit_rate = sum(tally.hits for tally in own) / judged if judged else None
    x, y, xx, yy, xy = (math.fsum(getattr(tally, name) for tally in own) for name in ("x", "y", "xx", "yy", "xy"))
    spread = (n * xx - x * x) * (n * yy - y * y)
    if 2 * len(own) < policy.quality_closes or n < 2 or spread <= 1e-12 * n**4:
        return Quality(None, None, hit_rate, n, len(own))
    coefficient = max(-1.0, min(1.0, (n * xy - x * y) / math.sqrt(spread)))
    by_chance = 1 / math.sqrt(max(len(own) / max(tally.bars for tally in own), 1.0))
    return Quality(coefficient, coefficient + policy.quality_deviations * by_chance, hit_rate, n, len(own))


def _ended(state: State, cause: ProposalBarrier, policy: Supervisor) -> tuple[State, list[Any]]:
    """Everything that waits is published."""
    wishes = ranked(Proposal.model_validate_json(text) for text in state.waiting)
    window, blocked, tallies = list(state.window), dict(state.blocked), state.tallies
    drifts = {wish.model_version: wish.importance_drift for wish in wishes if wish.strategy is Strategy.MODEL}
    versions = list(drifts)
    version = (versions or [tally.model_version for tally in tallies[-1:]] or [state.standing.model_version])[0]
    found = {name: quality(tallies, name, policy) for name in dict.fromkeys((version, *versions))}
    decisions, stopped = [], 0
    for rank, wish in enumerate(wishes, 1):
        block, why = None, ""
        if wish.strategy is Strategy.MODEL:
            block, why = _judged(wish, window, found[wish.model_version], policy)
            window = [*window, Signal(wish.model_version or "", wish.action.side)][-policy.window :]
        if block is not None:
            stopped += 1
            name = f"{block}/{wish.action}"
            blocked[name] = blocked.get(name, 0) + 1
        enforced = block if policy.mode is SupervisorMode.ENFORCED else None
        decisions.append(_decision(wish, rank, len(wishes), enforced, why if enforced else ""))
    longs, shorts, biased = bias(window, version, policy)
    mine, said = found[version], []
    if wishes or state.going_on:
        said = [
            Supervision(
                event_id=ids.event_id("model.supervision", cause.event_id, state.at),
                at=state.at,
                mode=policy.mode,
                model_version=version,
                longs=longs,
                shorts=shorts,
                biased=biased,
                information_coefficient=mine.coefficient,
                at_best=mine.at_best,
                hit_rate=mine.hit_rate,
                matured=mine.matured,
                closes=mine.closes,
                poor=mine.poor,
                wishes=len(wishes),
                blocked=stopped,
                importance_drift=drifts.get(version),
                drifted=_drifted(drifts.get(version), policy),
            )
        ]
    after = replace(
        state,
        going_on=False,
        waiting=(),
        window=tuple(window),
        blocked=blocked,
        standing=Standing(version, longs, shorts, mine.coefficient, mine.hit_rate),
    )
    return after, [*decisions, *said]


def _judged(wish: Proposal, window: Sequence[Signal], found: Quality, policy: Supervisor) -> tuple[Block | None, str]:
    if _drifted(wish.importance_drift, policy):
        return (
            Block.IMPORTANCE_DRIFT,
            f"importance drift {wish.importance_drift:.3f}, at most {policy.max_importance_drift:g} may be",
        )
    longs, shorts, biased = bias(window, wish.model_version, policy)
    if wish.action.side is biased:
        most = max(longs, shorts)
        return Block.BIAS, f"{most} of the last {longs + shorts} signals were {biased}, at most {policy.max_share:.0%} may be"
    if found.poor:
        return Block.QUALITY, f"predictions of {found.closes} candles were wrong: coefficient {found.coefficient:+.3f}"
    return None, ""


def _drifted(drift: float | None, policy: Supervisor) -> bool:
    return drift is not None and drift > policy.max_importance_drift


def _decision(wish: Proposal, rank: int, of: int, block: Block | None, why: str) -> Decision:
    same = {name: getattr(wish, name) for name in Proposal.model_fields if name not in UNCHANGED}
    return Decision(
        event_id=ids.event_id("signal.decision", wish.features_id, wish.strategy),
        detail=f"{wish.detail}; no entry: {why}" if why else wish.detail,
        rank=rank,
        ranked=of,
        score=score(wish),
        blocked=block,
        **same,
    )


def _tallied(tallies: Sequence[Tally], barrier: ProposalBarrier) -> tuple[Tally, ...]:
    """One a candle and version, in their order, whatever the order of partitions."""
    found = {(tally.at, tally.model_version): tally for tally in tallies}
    for one in barrier.matured:
        x, y = one.p_up - 0.5, one.deviations
        before = found.get((barrier.at, one.model_version)) or Tally(barrier.at, one.model_version, one.bars, 0, 0, 0, *[0.0] * 5)
        found[barrier.at, one.model_version] = replace(
            before,
            bars=max(before.bars, one.bars),
            n=before.n + 1,
            hits=before.hits + int(x * y > 0.0),
            judged=before.judged + int(x * y != 0.0),
            x=before.x + x,
            y=before.y + y,
            xx=before.xx + x * x,
            yy=before.yy + y * y,
            xy=before.xy + x * y,
        )
    return tuple(found[key] for key in sorted(found))
