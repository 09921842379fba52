"""From a dataset to what is published: two graphs, a manifest that says what they are worth, and rows to check them by."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.features import kernel
from processors.features.catalogue import FEATURE_SET, NAMES, feature_hash
from processors.learning import TREES, evaluation, export, skill
from processors.learning.dataset import BARRIER, HV, WINDOW, Dataset, Market, digest
from processors.learning.ensemble import OUTPUTS, Belief
from processors.learning.graph import graph
from processors.learning.labels import EMBARGO, HORIZON
from processors.learning.members import CHUNK, Fitted, Progress
from processors.learning.walk import Judged, Plan, Walk, beliefs, final, judge, summary, volatility_baseline, walk

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

SCHEMA: Final = 2
GOLDEN_ROWS: Final = 32
LIBRARIES: Final = ("lightgbm", "xgboost-cpu", "torch", "numpy", "onnx", "onnxmltools", "onnxscript")


@dataclass(frozen=True, slots=True)
class Voice:
    """One served graph: who speaks in it, and the graph."""

    names: tuple[str, ...]
    members: tuple[Fitted, ...]
    belief: Belief
    windows: bool
    onnx: bytes

    def say(self, windows: Rows) -> dict[str, Floats]:
        """What the libraries themselves answer for windows [n, WINDOW, features]: the graph must say the same."""
        latest = np.ascontiguousarray(windows[:, -1])
        said = [member.predict(windows if member.sees_windows else latest) for member in self.members]
        return self.belief.say(np.stack(said, axis=1), latest[:, HV].astype(np.float64))


@dataclass(frozen=True, slots=True)
class Trained:
    """`manifest` lacks the hashes of the files, the parity and the signature: those are the publisher's to add."""

    manifest: dict[str, Any]
    ensemble: Voice
    fast: Voice
    results: dict[str, Judged]
    found: Walk
    baseline: list[dict[str, float]]
    suspicions: list[str]


def train(data: Dataset, plan: Plan, progress: Progress, *, parent: str | None = None) -> Trained:
    """Walk forward, judge, fit all rows, write the graphs. ValueError when there are too few candles.

    `suspicions` is not empty when a result is too good to be true; such a model must not be published.
    """
    names = tuple(member.name for member in plan.members)
    fast = [place for place, name in enumerate(names) if name in TREES]
    if not fast:
        raise ValueError("an ensemble without a tree member has no fast path")
    found = walk(data, plan, lambda share, word: progress(0.7 * share, word))
    ensembles: dict[str, Sequence[int]] = {"ensemble": range(len(names)), "fast": fast}
    results = judge(data, found, plan, ensembles)
    fitted = final(data, plan, lambda share, word: progress(0.7 + 0.3 * share, word))
    version = recipe(data.market, plan)
    metadata = {
        "schema": str(SCHEMA),
        "model_version": version,
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        "horizon_bars": str(HORIZON),
    }

    def voice(places: Sequence[int], windows: bool) -> Voice:
        belief = beliefs(data, found, places, plan.cost_bp / 1e4)[-1]
        members = tuple(fitted[place] for place in places)
        mine = tuple(names[place] for place in places)
        said = metadata | {"members": ",".join(mine)}
        return Voice(mine, members, belief, windows, graph(members, belief, data.features.shape[2], said, windows=windows))

    ensemble, trees = voice(range(len(names)), True), voice(fast, False)
    baseline = volatility_baseline(data, found)
    suspicions = skill.suspicions({name: mine.pooled for name, mine in results.items()})
    manifest = {
        "schema": SCHEMA,
        "version": version,
        "parent": parent,
        "trained_on": data.market.name,
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        "features": data.features.shape[2],
        "horizon_bars": HORIZON,
        "embargo_bars": EMBARGO,
        "window_bars": WINDOW,
        "barrier_deviations": BARRIER,
        "outputs": list(OUTPUTS),
        "training": _training(data, plan, found),
        "members": {
            member.name: {"parameters": mine.parameters, "recipe": dict(member.recipe)}
            for member, mine in zip(plan.members, fitted, strict=True)
        },
        "importance": importance([fitted[place] for place in fast]),
        "calibration": {"ensemble": _belief(ensemble), "fast": _belief(trees)},
        "walk_forward": evaluation.rounded(
            {**summary(results), "volatility_of_hv_50": {"pooled": baseline[0], "folds": evaluation.mean_and_spread(baseline[1:])}}
        ),
        "suspicions": suspicions,
        "libraries": libraries(),
    }
    return Trained(manifest, ensemble, trees, results, found, baseline, suspicions)


def probes(data: Dataset, voice: Voice, count: int, seed: int = 11) -> Iterator[Rows]:
    """Windows to compare graph and libraries on, some thousand at a time: `count` rows of the data, then rows next to splits.

    Of those, each has one feature of its last candle at a split's threshold, one float32 step below it or one above.
    """
    chance = np.random.default_rng(seed)
    rows = data.rows(*data.span)
    ordinary = np.sort(chance.choice(rows, min(count, len(rows)), replace=False))
    for at in range(0, len(ordinary), CHUNK):
        yield data.windows(ordinary[at : at + CHUNK])
    splits = [
        split
        for member in voice.members
        if not member.sees_windows
        for node in member.nodes("x", ("a", "b"))[0]
        for split in export.thresholds(node)
    ]
    if not splits:
        return
    chosen = chance.choice(len(splits), CHUNK)
    windows = data.windows(chance.choice(rows, CHUNK))
    place = np.array([splits[i][0] for i in chosen])
    value = np.array([splits[i][1] for i in chosen], dtype=np.float32)
    side = chance.integers(-1, 2, CHUNK)
    beside = np.where(
        side < 0, np.nextafter(value, np.float32(-np.inf)), np.where(side > 0, np.nextafter(value, np.float32(np.inf)), value)
    )
    windows[np.arange(CHUNK), -1, place] = beside
    yield windows


def golden(data: Dataset, voice: Voice) -> tuple[Rows, dict[str, Floats]]:
    """Windows from the lowest vote to the highest, and what the libraries say of them: whoever loads the graph asks these first."""
    rows = data.rows(*data.span)
    rows = rows[np.linspace(0, len(rows) - 1, min(CHUNK, len(rows))).astype(np.int64)]
    score = voice.say(data.windows(rows))["score"]
    chosen = rows[np.argsort(score, kind="stable")[np.linspace(0, len(rows) - 1, GOLDEN_ROWS).astype(np.int64)]]
    windows = data.windows(chosen)
    return windows, voice.say(windows)


def apart(said: Mapping[str, Any], meant: Mapping[str, Floats], cost: float) -> float:
    """Largest difference of a graph's answers from the libraries', of the volatility as a part of it.

    An action counts only away from its threshold. Infinite when an answer is not finite or has another shape.
    """
    worst = 0.0
    for name in OUTPUTS:
        a, b = np.asarray(said[name], dtype=np.float64), np.asarray(meant[name], dtype=np.float64)
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        differs = np.abs(a - b)
        if name == "volatility":
            differs /= b
        if name == "action":
            differs = differs[np.abs(np.abs(meant["edge"]) - cost) > 1e-6]
        worst = max(worst, float(np.max(differs, initial=0.0)))
    return worst


def importance(members: Sequence[Fitted]) -> dict[str, float]:
    """Share of each feature in what members that can tell have learnt of the return, each counting the same; empty: none has."""
    told = [shares for member in members if (shares := member.importance) is not None and shares.sum() > 0.0]
    return {name: round(float(share), 6) for name, share in zip(NAMES, np.mean(told, axis=0), strict=True)} if told else {}


def libraries() -> dict[str, str]:
    """Versions of what is installed of the training libraries."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def recipe(market: Market, plan: Plan) -> str:
    """Names the version: the same candles, features to the same bits, members and libraries make the same model."""
    parts = [
        feature_hash(),
        kernel.VERSION,
        digest(market),
        [WINDOW, HORIZON, EMBARGO, BARRIER, plan.folds, plan.seed, plan.stride, plan.cost_bp],
        {member.name: member.recipe for member in plan.members},
        libraries(),
    ]
    return "m-" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _training(data: Dataset, plan: Plan, found: Walk) -> dict[str, Any]:
    first, last = data.span
    opened = data.market.open_at
    return {
        "symbols": list(data.market.symbols),
        "bars": data.bars,
        "rows": int(data.used.sum()),
        "from": int(opened[first]) if opened is not None else None,
        "to": int(opened[last - 1]) if opened is not None else None,
        "data_sha256": digest(data.market),
        "seed": plan.seed,
        "test_stride": plan.stride,
        "folds": [[fold.train_from, fold.train_to, fold.test_from, fold.test_to] for fold in found.folds],
    }


def _belief(voice: Voice) -> dict[str, Any]:
    told: dict[str, Any] = evaluation.rounded(voice.belief.as_dict(), 9)
    return {"members": list(voice.names)} | told
