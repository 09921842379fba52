"""What one call of the served graphs costs, beside the libraries that trained their members, at the sizes that serve.

The members learn from made-up numbers: how long an answer takes depends on the shape of a model, not on what it knows. Trees are
grown on noise in full, so that rows take paths as long as they ever will.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from infra.errors import UserError
from infra.onnx import session
from processors.features.catalogue import FEATURES
from processors.learning import NETWORKS, TREES

ROWS = (1, 10, 100)


def run(repeats: int = 200) -> dict[str, Any]:
    """Medians in ms by graph and number of rows; the libraries one after another; parameters. UserError without the libraries.

    `best`: the fastest call. Where it is far below the median, other work had the cores, and the median tells of that.
    """
    if importlib.util.find_spec("xgboost") is None or importlib.util.find_spec("onnxmltools") is None:
        raise UserError("cannot measure", "xgboost or onnxmltools is not installed", "`make dev`, or install the extra `trees`")
    from processors.learning.ensemble import OUTPUTS, know_nothing
    from processors.learning.graph import graph
    from streams.train import Wanted, chosen

    torch = importlib.util.find_spec("torch") is not None
    data = _made_up()
    wanted = Wanted(models=TREES + NETWORKS if torch else TREES, epochs=1)
    members = chosen(wanted)
    fitted = [member.fit(data, data.rows(*data.span), 1, lambda share, word: None) for member in members]
    features, few = len(FEATURES), len(TREES)
    whole = session(graph(fitted, know_nothing(len(fitted), 1e-3), features, {}, windows=True))
    fast = session(graph(fitted[:few], know_nothing(few, 1e-3), features, {}, windows=False))
    rows = data.rows(*data.span)
    found: dict[str, Any] = {"members": [member.name for member in members], "repeats": repeats, "cores_used": 1}
    for count in ROWS:
        windows = data.windows(rows[:count])
        latest = np.ascontiguousarray(windows[:, -1])
        ask = partial(whole.run, list(OUTPUTS), {"window": windows})
        _put(found, f"ensemble_{count}", _time(ask, repeats))
        _put(found, f"fast_{count}", _time(partial(fast.run, list(OUTPUTS), {"features": latest}), repeats))
        native = 0.0
        for member, mine in zip(members, fitted, strict=True):
            given = windows if mine.sees_windows else latest
            _put(found, f"{member.name}_native_{count}", _time(partial(mine.predict, given), repeats))
            native += found[f"{member.name}_native_{count}_ms"]
        found[f"native_{count}_ms"] = round(native, 3)
    found["parameters"] = {member.name: mine.parameters for member, mine in zip(members, fitted, strict=True)}
    found["goal_ensemble_100_ms"] = 9.0
    return found


def _put(found: dict[str, Any], name: str, took: tuple[float, float, float]) -> None:
    found[f"{name}_ms"], found[f"{name}_best_ms"], found[f"{name}_p99_ms"] = took


def _time(call: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """(median, best, p99) in ms."""
    for _ in range(5):
        call()
    took = np.empty(repeats)
    for i in range(repeats):
        began = time.perf_counter()
        call()
        took[i] = time.perf_counter() - began
    median, best, p99 = (round(1e3 * float(value), 3) for value in (np.median(took), took.min(), np.quantile(took, 0.99)))
    return median, best, p99


def _made_up() -> Any:
    from processors.learning import dataset as ds

    chance = np.random.default_rng(1)
    bars, symbols = 4_000, 8
    close = np.exp(np.cumsum(1e-3 * chance.normal(size=(bars, symbols)), axis=0))
    features = chance.normal(size=(bars, symbols, len(FEATURES))).astype(np.float32)
    features[:, :, ds.HV] = 1e-3
    market = ds.Market("made up", [f"S{i}" for i in range(symbols)], close, close, close, close, np.ones_like(close))
    return ds.labelled(market, features)
