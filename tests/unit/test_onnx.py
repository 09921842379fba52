"""A model is loaded when it is what it claims to be, and otherwise refused by name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.onnx import Model, ModelUnavailable, Unavailable, load_model, seed_dir
from processors.features.catalogue import FEATURE_SET, NAMES, feature_hash


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The seed model in a directory that a test may spoil."""
    return Path(shutil.copytree(seed_dir(), tmp_path / "model"))


def change(directory: Path, **fields: Any) -> None:
    manifest = json.loads((directory / "manifest.json").read_bytes())
    (directory / "manifest.json").write_text(json.dumps({**manifest, **fields}))


def refusal(directory: Path, features: str | None = None) -> Unavailable:
    with pytest.raises(ModelUnavailable) as caught:
        load_model(directory, features or feature_hash())
    return caught.value.reason


@pytest.fixture(scope="module")
def seed() -> Model:
    return load_model(seed_dir(), feature_hash())


def test_the_seed_model_loads_and_says_where_it_comes_from(seed: Model) -> None:
    assert seed.manifest.trained_on == "synthetic, planted signal"
    assert seed.manifest.feature_set == FEATURE_SET
    assert seed.metadata == {
        "schema": "1",
        "model_version": seed.version,
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        "horizon_bars": str(seed.manifest.horizon_bars),
    }


def test_the_seed_model_is_small_and_its_manifest_carries_no_date() -> None:
    assert sum(path.stat().st_size for path in seed_dir().iterdir()) < 300_000
    text = (seed_dir() / "manifest.json").read_text()
    assert not re.search(r"20\d\d-\d\d|created|trained_at|timestamp|/home/|/tmp/", text)


def test_the_seed_manifest_claims_skill_only_where_it_was_measured() -> None:
    manifest = json.loads((seed_dir() / "manifest.json").read_bytes())
    assert manifest["parity_max"] <= 1e-5
    assert manifest["walk_forward"]["ic"]["mean"] > 5 * manifest["walk_forward"]["ic"]["sd"]
    assert manifest["walk_forward"]["brier"]["mean"] < 0.25
    promised = [row for row in manifest["unseen"]["reliability"] if row["from"] >= 0.65]
    assert len(promised) >= 4
    assert all(abs(row["confidence"] - row["hit_rate"]) < 0.05 for row in promised)


def test_predictions_are_probabilities_one_a_row(seed: Model) -> None:
    rows = np.random.default_rng(1).normal(0, 0.02, (5, len(NAMES))).astype(np.float32)
    found = seed.predict(rows)
    assert found.shape == (5,)
    assert ((found > 0) & (found < 1)).all()
    np.testing.assert_array_equal(found[2:3], seed.predict(rows[2:3]))


def test_a_model_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") is Unavailable.MISSING


def test_a_changed_graph_is_refused(copy: Path) -> None:
    graph = bytearray((copy / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "model.onnx").write_bytes(graph)
    assert refusal(copy) is Unavailable.WRONG_HASH


def test_a_model_of_other_features_is_refused(copy: Path) -> None:
    assert refusal(copy, "0123456789abcdef") is Unavailable.OTHER_FEATURES
    change(copy, feature_hash="0123456789abcdef")  # the manifest alone cannot rename what the graph was trained on
    assert refusal(copy, "0123456789abcdef") is Unavailable.OTHER_FEATURES


def test_a_model_that_answers_otherwise_than_it_did_is_refused(copy: Path) -> None:
    golden = json.loads((copy / "manifest.json").read_bytes())["golden"]
    golden["p_up"][7] += 1e-3
    change(copy, golden=golden)
    assert refusal(copy) is Unavailable.OTHER_ANSWERS
    for rows, answers in ([], []), ([[0.0] * 49], []), ([[0.0] * 48], [0.5]), ([[0.0] * 49, [0.0]], [0.5, 0.5]):
        change(copy, golden={"rows": rows, "p_up": answers})
        assert refusal(copy) is Unavailable.OTHER_ANSWERS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "one"}'])
def test_an_unreadable_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    assert refusal(copy) is Unavailable.UNREADABLE


def test_a_graph_that_is_none_and_a_manifest_of_the_future_are_refused(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"no graph")
    change(copy, sha256=hashlib.sha256(b"no graph").hexdigest())
    assert refusal(copy) is Unavailable.UNREADABLE
    change(copy, schema=2)
    assert refusal(copy) is Unavailable.UNREADABLE


def test_serving_needs_no_training_library() -> None:
    code = (
        "import sys; from infra.onnx import load_model, seed_dir; from processors.features.catalogue import feature_hash;"
        "load_model(seed_dir(), feature_hash());"
        "print([n for n in ('lightgbm', 'onnx', 'onnxmltools', 'sklearn', 'pandas') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert found.stdout.strip() == "[]"
