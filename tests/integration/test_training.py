"""The seed model from candles to artefact: the same bytes again, honest where there is nothing to learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightgbm", reason="the extra `train` is not installed")
pytest.importorskip("onnxmltools", reason="the extra `train` is not installed")

from infra.errors import UserError
from infra.onnx import load_model, seed_dir
from processors.features.catalogue import feature_hash
from streams import training


def test_training_again_gives_the_committed_model() -> None:
    manifest = training.train_seed(check=True)
    committed = json.loads((seed_dir() / "manifest.json").read_bytes())
    assert manifest["sha256"] == committed["sha256"]
    assert manifest["version"] == committed["version"]


def test_a_model_is_written_loads_and_is_checked_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TRAIN_BARS", 2_600)
    monkeypatch.setattr(training, "UNSEEN_BARS", 1_200)
    manifest = training.train_seed(tmp_path / "new")
    assert load_model(tmp_path / "new", feature_hash()).version == manifest["version"]
    assert training.train_seed(tmp_path / "new", check=True)["sha256"] == manifest["sha256"]
    with pytest.raises(UserError, match="the candles of the synthetic market are others"):
        training.train_seed(check=True)


def test_on_a_market_without_a_signal_the_model_says_that_it_knows_nothing() -> None:
    """Patterns without what follows them: whatever skill were told here would be a leak."""
    manifest, _ = training.trained(6_000, 3_000, planted_signal=False)
    inside = {name: value["mean"] for name, value in manifest["walk_forward"].items() if isinstance(value, dict)}
    for found in (inside, manifest["unseen"]):
        assert found["ic"] < 0.05
        assert found["auc"] < 0.53
        assert found["brier_skill"] < 0.0  # worse than p = 0.5 everywhere: there was nothing to learn
        assert found["coverage"] < 0.05
    assert manifest["trained_on"] == "synthetic, no signal"
