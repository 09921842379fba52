"""`quantum train`: candles to a published version of the ensemble, with everything that may stop it on the way.

    candles -> dataset -> walk forward -> fit all -> graphs -> parity gate -> signed version in the registry

A result that is too good to be true publishes nothing and writes its page, so that the leak can be found.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from infra import registry
from infra.errors import UserError
from infra.onnx import GOLDEN_TOLERANCE, ModelUnavailable, session
from infra.settings import Settings
from processors.features.catalogue import feature_hash
from processors.learning import NETWORKS, TREES

if TYPE_CHECKING:
    from processors.learning.dataset import Dataset, Market
    from processors.learning.members import Member, Progress
    from processors.learning.training import Trained, Voice

PARITY_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    data: Path | None = None
    from_clickhouse: bool = False
    models: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    folds: int = 5
    trees: int = 200
    epochs: int = 6
    stride: int = 3
    seed: int = 7
    cost_bp: float = 10.0
    parent: str | None = None
    report: Path | None = None


def run(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    """Verdict, version, where it is, its parity and what it took; nothing is published when there are suspicions. UserErrors."""
    began = time.monotonic()
    members = chosen(wanted)
    market = _market(settings, wanted)
    from processors.learning import training
    from processors.learning.dataset import dataset
    from processors.learning.report import page, verdict
    from processors.learning.walk import Plan

    progress = _bar(began)
    progress(0.0, f"features of {len(market.c)} candles of {len(market.symbols)} symbols")
    try:
        data = dataset(market)
        plan = Plan(members, wanted.folds, wanted.seed, wanted.cost_bp)
        trained = training.train(data, plan, progress, parent=wanted.parent)
    except ValueError as e:
        fewer = ", or fewer folds: --folds 2" if wanted.folds > 2 else ""
        raise UserError("cannot train on these candles", str(e), f"give more candles{fewer}") from e
    text = page(trained)
    if wanted.report is not None:
        wanted.report.parent.mkdir(parents=True, exist_ok=True)
        wanted.report.write_text(text)
    done = {"verdict": verdict(trained), "version": trained.manifest["version"], "suspicions": trained.suspicions}
    if trained.suspicions:
        where = wanted.report or _suspected(settings.model_registry, str(done["version"]), text)
        words = [f"suspected leakage: {word}" for word in trained.suspicions]
        found: dict[str, Any] = {"verdict": words + verdict(trained), "published": None, "report": str(where), "parity_max": None}
    else:
        published, parity = publish(settings, data, trained, text)
        found = {"published": str(published), "report": str(published / "report.html"), "parity_max": parity}
    return done | found | {"seconds": round(time.monotonic() - began, 1), "walk_forward": trained.manifest["walk_forward"]}


def chosen(wanted: Wanted) -> tuple[Member, ...]:
    """The members to train; without torch only trees. UserError for a name that is none, or one that is not installed."""
    known = TREES + NETWORKS
    if unknown := [name for name in wanted.models if name not in known]:
        raise UserError(f"no model is called {unknown[0]}", f"there are {', '.join(known)}", "choose: --models lightgbm,xgboost")
    if importlib.util.find_spec("xgboost") is None or importlib.util.find_spec("onnxmltools") is None:
        raise UserError("cannot train", "xgboost or onnxmltools is not installed", "`make dev`, or install the extra `trees`")
    torch = importlib.util.find_spec("torch") is not None
    names = wanted.models or (known if torch else TREES)
    if not torch and (missing := [name for name in names if name in NETWORKS]):
        raise UserError(
            f"cannot train {', '.join(missing)}", "torch is not installed", "`make train-env`, or install the extra `train`"
        )
    if not set(names) & set(TREES):
        raise UserError("cannot train networks alone", "the fast path is made of trees", "add one: --models lightgbm,nhits")
    from processors.learning.trees import LightGbm, XGBoost

    members: dict[str, Member] = {"lightgbm": LightGbm(wanted.trees), "xgboost": XGBoost(wanted.trees)}
    if torch and set(names) & set(NETWORKS):
        from processors.learning.networks import NetworkMember

        members |= {name: NetworkMember(name, wanted.epochs, wanted.stride) for name in NETWORKS}
    return tuple(members[name] for name in known if name in names)


def publish(settings: Settings, data: Dataset, trained: Trained, page: str) -> tuple[Path, float]:
    """(directory, parity): the version as it will be loaded. UserError when a graph answers otherwise than the libraries."""
    from processors.learning.training import golden

    voices = {"ensemble.onnx": trained.ensemble, "fast.onnx": trained.fast}
    parity = {name: check_parity(data, voice) for name, voice in voices.items()}
    windows, _ = golden(data, trained.ensemble)
    files = {name: voice.onnx for name, voice in voices.items()}
    files["golden.npz"] = registry.golden_file(windows, {name: voice.say(windows) for name, voice in voices.items()})
    files["report.html"] = page.encode()
    manifest = {**trained.manifest, "parity": parity}
    key = settings.model_key.get_secret_value()
    where = registry.publish(settings.model_registry, manifest, files, key)
    try:
        registry.load(where, key, feature_hash())
    except ModelUnavailable as e:
        raise UserError(
            f"{where} was written and does not load", str(e), "do not use it; look at processors/learning/graph.py"
        ) from e
    return where, max(mine["max"] for mine in parity.values())


def check_parity(data: Dataset, voice: Voice, rows: int = PARITY_ROWS) -> dict[str, Any]:
    """Largest difference of the graph from the libraries on so many rows and on rows next to the splits; UserError above 1e-5."""
    from processors.learning.ensemble import OUTPUTS
    from processors.learning.training import apart, probes

    graph = session(voice.onnx)
    worst, counted = [], 0
    for windows in probes(data, voice, rows):
        values = windows if voice.windows else np.ascontiguousarray(windows[:, -1])
        said = dict(zip(OUTPUTS, graph.run(list(OUTPUTS), {"window" if voice.windows else "features": values}), strict=True))
        worst.append(apart(said, voice.say(windows), voice.belief.cost))
        counted += len(windows)
    found = float(f"{max(worst):.1g}")
    if not max(worst) <= GOLDEN_TOLERANCE:
        raise UserError(
            f"the graph of {', '.join(voice.names)} is not what was trained",
            f"onnxruntime answers up to {found:.2g} apart on {counted} rows, {GOLDEN_TOLERANCE:g} is allowed",
            "do not ship it: look at the converters (processors/learning/export.py, graph.py)",
        )
    return {"rows": counted, "max": found, "next_to_splits": float(f"{worst[-1]:.1g}")}


def _market(settings: Settings, wanted: Wanted) -> Market:
    from streams.candle_data import from_clickhouse, from_file

    if wanted.from_clickhouse == (wanted.data is not None):
        raise UserError(
            "nothing to train on" if wanted.data is None else "two sources", "one is needed", "--data PATH or --from-clickhouse"
        )
    return from_clickhouse(settings) if wanted.data is None else from_file(wanted.data, wanted.symbols)


def _suspected(root: Path, version: str, text: str) -> Path:
    where = root / f"suspected-{version}.html"
    root.mkdir(parents=True, exist_ok=True)
    where.write_text(text)
    return where


def _bar(began: float) -> Progress:
    """A line on stderr that is drawn again on a terminal, and written at every tenth elsewhere."""
    drawn = -1

    def progress(share: float, word: str) -> None:
        nonlocal drawn
        line = f"{share:4.0%} {time.monotonic() - began:6.0f} s  {word}"
        if sys.stderr.isatty():
            full = round(30 * share)
            print(
                f"\r[{'#' * full}{' ' * (30 - full)}] {line:<80.80}", end="\n" if share >= 1.0 else "", file=sys.stderr, flush=True
            )
        elif int(10 * share) > drawn:
            drawn = int(10 * share)
            print(line, file=sys.stderr, flush=True)

    return progress
