"""`quantum train seed`: the synthetic market's candles, the trainer, and the check of what came of it, in one place.

The seeds are nobody's live seed: the candles behind the history of a live seed are that exchange's future.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from infra.errors import UserError
from infra.onnx import GOLDEN_TOLERANCE, Manifest, checked, seed_dir
from infra.venue.local.market import synthetic
from processors.features.catalogue import feature_hash

TRAIN_SEED: Final = 770_001
TRAIN_BARS: Final = 16_384
UNSEEN_SEED: Final = 770_002
UNSEEN_BARS: Final = 6_144
TRAINED_ON: Final = "synthetic, planted signal"


def train_seed(out_dir: Path | None = None, *, check: bool = False) -> dict[str, Any]:
    """Train, verify that serving answers as the booster does, write model.onnx and manifest.json; returns the manifest.

    `check` writes nothing: it compares the hash with the one in `out_dir` (default: the committed model) and raises
    UserError when they differ. UserError too when the training libraries are not installed.
    """
    where = out_dir or seed_dir()
    committed = _read(where) if check else None
    manifest, graph = trained(TRAIN_BARS, UNSEEN_BARS)
    if committed is not None:
        _same(committed, manifest, where)
        return manifest
    where.mkdir(parents=True, exist_ok=True)
    (where / "model.onnx").write_bytes(graph)
    (where / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def trained(bars: int, unseen_bars: int, *, planted_signal: bool = True) -> tuple[dict[str, Any], bytes]:
    """(manifest, graph) of a model on so many candles a symbol; UserError when serving would answer otherwise."""
    try:
        from processors.learning import seed
        from processors.learning.dataset import Market
    except ModuleNotFoundError as e:
        raise UserError("cannot train", f"{e.name} is not installed", "install the extra `train`: pip install '.[train]'") from e

    def market(number: int, n: int) -> Market:
        candles = synthetic.candles(number, None, n, planted_signal=planted_signal)
        return Market(f"synthetic seed {number}", [symbol.name for symbol in candles.symbols], *candles.floats())

    label = TRAINED_ON if planted_signal else "synthetic, no signal"
    found = seed.train(market(TRAIN_SEED, bars), market(UNSEEN_SEED, unseen_bars), trained_on=label)
    model = checked(msgspec.convert(found.manifest, Manifest), found.onnx, feature_hash())
    parity = float(np.max(np.abs(model.predict(found.rows) - found.expected)))
    if parity > GOLDEN_TOLERANCE:
        raise UserError(
            "the exported model is not the trained one",
            f"onnxruntime answers up to {parity:.2g} apart on {len(found.rows)} rows",
            "do not ship it: look at the converter (processors/learning/export.py)",
        )
    return {**found.manifest, "parity_max": float(f"{parity:.1g}")}, found.onnx


def _read(where: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((where / "manifest.json").read_bytes())
    except OSError as e:
        raise UserError(f"no model to check at {where}", str(e), "train it first: quantum train seed") from e
    return manifest


def _same(committed: dict[str, Any], manifest: dict[str, Any], where: Path) -> None:
    if committed["sha256"] == manifest["sha256"]:
        return
    then, now = committed["libraries"], manifest["libraries"]
    moved = [f"{name} {then.get(name)} -> {now[name]}" for name in now if then.get(name) != now[name]]
    if committed["training"]["data_sha256"] != manifest["training"]["data_sha256"]:
        moved.append("the candles of the synthetic market are others")
    if committed["feature_hash"] != manifest["feature_hash"]:
        moved.append("the features are others")
    why = "; ".join(moved) or "same candles, features and libraries: another kind of processor, or the trainer was changed"
    raise UserError(
        "training gives another model than the committed one",
        f"sha256 {manifest['sha256'][:16]} is not {committed['sha256'][:16]} of {where}: {why}",
        "if the change is meant: quantum train seed, and commit infra/models/seed",
    )
