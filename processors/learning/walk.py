"""The walk forward: every member learns from the past of each fold and is judged on what came after; nothing else is a result.

What the ensemble is worth in a fold is told with weights and calibration fitted on the folds before it, so that neither has
seen what it is judged on; the first fold has none before it, and there the ensemble has no opinion yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.learning import evaluation, skill
from processors.learning.dataset import HV, Dataset, Numbers
from processors.learning.ensemble import Belief, believe, know_nothing
from processors.learning.labels import QUIET, Fold, walk_forward
from processors.learning.members import Fitted, Member, Progress, predict

Floats = NDArray[np.float64]

FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """`stride`: every so many bars a test row is asked (1: all of them)."""

    members: tuple[Member, ...]
    folds: int = FOLDS
    seed: int = 7
    cost_bp: float = skill.COST_BP
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Walk:
    """Out-of-fold answers `said` [rows, members, 2] for `rows`, which fold each row belongs to, and what it came to."""

    names: tuple[str, ...]
    folds: tuple[Fold, ...]
    rows: Numbers
    fold: Numbers
    said: Floats
    importance: dict[str, Floats]  # mean over folds, for members that can tell


def walk(data: Dataset, plan: Plan, progress: Progress) -> Walk:
    """ValueError when there are too few bars for the folds."""
    first, last = data.span
    folds = walk_forward(first, last, plan.folds)
    rows = [data.rows(fold.test_from, fold.test_to, plan.stride) for fold in folds]
    said = [np.empty((len(mine), len(plan.members), 2)) for mine in rows]
    gains: dict[str, list[Floats]] = {}
    for number, fold in enumerate(folds):
        learnable = data.learnable(fold)
        for place, member in enumerate(plan.members):
            begun = (number * len(plan.members) + place) / (len(folds) * len(plan.members))

            def told(share: float, word: str, begun: float = begun, name: str = member.name, number: int = number) -> None:
                progress(begun + share / (len(folds) * len(plan.members)), f"fold {number + 1} of {len(folds)}, {name}: {word}")

            fitted = member.fit(data, learnable, plan.seed, told)
            said[number][:, place] = predict(fitted, data, rows[number])
            if fitted.importance is not None:
                gains.setdefault(member.name, []).append(fitted.importance)
    return Walk(
        names=tuple(member.name for member in plan.members),
        folds=tuple(folds),
        rows=np.concatenate(rows),
        fold=np.repeat(np.arange(len(folds)), [len(mine) for mine in rows]),
        said=np.concatenate(said),
        importance={name: np.mean(found, axis=0) for name, found in gains.items()},
    )


def final(data: Dataset, plan: Plan, progress: Progress) -> list[Fitted]:
    """Every member, fitted to all rows: what will serve. It is judged by the walk, never by itself."""
    rows = data.rows(*data.span)
    found = []
    for place, member in enumerate(plan.members):

        def told(share: float, word: str, place: int = place, name: str = member.name) -> None:
            progress((place + share) / len(plan.members), f"all rows, {name}: {word}")

        found.append(member.fit(data, rows, plan.seed, told))
    return found


def beliefs(data: Dataset, found: Walk, members: Sequence[int], cost: float) -> list[Belief]:
    """For each fold what the folds before it taught about these members; one more at the end, from all of them: to serve."""
    taught = [know_nothing(len(members), cost)]
    for number in range(1, len(found.folds) + 1):
        known = found.fold < number
        if number < len(found.folds):
            known &= data.ends[found.rows] < found.folds[number].test_from
        taught.append(believe(data, found.rows[known], found.said[known][:, members], cost))
    return taught


@dataclass(frozen=True, slots=True)
class Judged:
    """Results of one voice (a member or an ensemble), pooled over the folds and for each of them."""

    pooled: dict[str, float]
    folds: list[dict[str, float]]
    forecast: skill.Forecast
    probability: Floats | None = None


def judge(data: Dataset, found: Walk, plan: Plan, ensembles: dict[str, Sequence[int]]) -> dict[str, Judged]:
    """Every member by name, and every named ensemble of members (positions); volatility figures are prefixed `vol_`."""
    hv = _hv(data, found.rows)
    results = {}
    for place, name in enumerate(found.names):
        results[name] = _judged(data, found, plan, found.said[:, place, 0], found.said[:, place, 1] + np.log(hv), None)
    for name, members in ensembles.items():
        score, volatility = np.empty(len(found.rows)), np.empty(len(found.rows))
        probability, edge = np.empty(len(found.rows)), np.empty(len(found.rows))
        for number, belief in enumerate(beliefs(data, found, members, plan.cost_bp / 1e4)[:-1]):
            mine = found.fold == number
            answers = belief.say(found.said[mine][:, members], hv[mine])
            score[mine], volatility[mine] = answers["score"], np.log(answers["volatility"])
            probability[mine], edge[mine] = answers["probability"], answers["edge"]
        results[name] = _judged(data, found, plan, score, volatility, (probability, edge))
    return results


def volatility_baseline(data: Dataset, found: Walk) -> list[dict[str, float]]:
    """What hv_50 alone says of the horizon's volatility, pooled first, then fold by fold: the figure to beat."""
    hv = np.log(_hv(data, found.rows))
    true = data.volatility[found.rows] + hv
    return [skill.of_volatility(hv[mine], true[mine]) for mine in _parts(found)]


def _judged(
    data: Dataset, found: Walk, plan: Plan, score: Floats, volatility: Floats, belief: tuple[Floats, Floats] | None
) -> Judged:
    rows = found.rows
    forecast = skill.Forecast(rows // data.symbols, score, data.target[rows], data.forward[rows])
    true = data.volatility[rows] + np.log(_hv(data, rows))
    scores = []
    for mine in _parts(found):
        row = skill.of_returns(forecast[mine], plan.cost_bp)
        row |= {f"vol_{k}": v for k, v in skill.of_volatility(volatility[mine], true[mine]).items()}
        if belief is not None:
            probability, edge = belief
            believed = mine & (found.fold > 0)  # the first fold has no opinion to judge
            row |= _believed(probability[believed], edge[believed], data.forward[rows[believed]], plan.cost_bp / 1e4)
        scores.append(row)
    return Judged(scores[0], scores[1:], forecast, belief[0] if belief else None)


def _believed(probability: Floats, edge: Floats, forward: Floats, cost: float) -> dict[str, float]:
    """Calibration, and what was traded: share of rows with an action, and its mean return less cost, in basis points."""
    if not len(probability):
        return {}
    told = evaluation.scores(probability, forward)
    acted = np.abs(edge) > cost
    gain = np.sign(edge[acted]) * forward[acted] - cost
    return {
        "brier": told["brier"],
        "brier_skill": told["brier_skill"],
        "ece": told["ece"],
        "auc": told["auc"],
        "acted": float(np.mean(acted)),
        "acted_net_bp": 1e4 * float(np.mean(gain)) if acted.any() else 0.0,
    }


def _parts(found: Walk) -> list[NDArray[np.bool_]]:
    return [np.ones(len(found.rows), dtype=np.bool_), *(found.fold == number for number in range(len(found.folds)))]


def _hv(data: Dataset, rows: Numbers) -> Floats:
    return np.maximum(data.latest(rows)[:, HV].astype(np.float64), QUIET)


def summary(results: dict[str, Judged]) -> dict[str, Any]:
    """For the manifest: pooled figures, and mean and spread of each over the folds."""
    return {
        name: {"pooled": mine.pooled, "folds": evaluation.mean_and_spread(_shared(mine.folds))} for name, mine in results.items()
    }


def _shared(folds: list[dict[str, float]]) -> list[dict[str, float]]:
    """The figures that most folds have: the first has no calibrated ones."""
    names = folds[-1].keys()
    return [fold for fold in folds if fold.keys() == names]
