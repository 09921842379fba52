"""Training as a whole, on markets of which it is known what can be learnt: a planted signal, nothing, and the answer itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="the extra `trees` is not installed")
pytest.importorskip("onnxmltools", reason="the extra `trees` is not installed")

from infra import registry
from infra.errors import UserError
from infra.onnx import ModelUnavailable, Unavailable
from infra.settings import Settings
from processors.features.catalogue import NAMES, feature_hash
from processors.learning import dataset as ds
from processors.learning import training
from processors.learning.labels import HORIZON
from processors.learning.report import page
from processors.learning.trees import LightGbm, XGBoost
from processors.learning.walk import Plan
from streams import train

BARS, SYMBOLS, SIGMA, KNOWN = 4_600, 3, 2e-3, 0
PLAN = Plan((LightGbm(25), XGBoost(25)), folds=3)
KEY = "a key"


def market(strength: float, seed: int = 3) -> ds.Dataset:
    """A random walk whose drift is a slow signal that stands, noisily, in the feature KNOWN; all other features are noise."""
    rng = np.random.default_rng(seed)
    signal = np.zeros((BARS, SYMBOLS))
    for bar in range(1, BARS):
        signal[bar] = 0.9 * signal[bar - 1] + np.sqrt(1 - 0.81) * rng.normal(size=SYMBOLS)
    returns = SIGMA * rng.normal(size=(BARS, SYMBOLS))
    returns[1:] += strength * SIGMA * signal[:-1]
    close = 100.0 * np.exp(np.cumsum(returns, axis=0))
    features = rng.normal(size=(BARS, SYMBOLS, len(NAMES))).astype(np.float32)
    features[:, :, KNOWN] = signal + 0.3 * rng.normal(size=signal.shape)
    features[:, :, ds.HV] = SIGMA
    names = [f"S{i}" for i in range(SYMBOLS)]
    made = ds.Market("made up", names, close, close * 1.001, close * 0.999, close, np.ones_like(close))
    return ds.labelled(made, features)


def told(data: ds.Dataset) -> training.Trained:
    return training.train(data, PLAN, lambda share, word: None)


@pytest.fixture(scope="module")
def data() -> ds.Dataset:
    return market(0.15)


@pytest.fixture(scope="module")
def trained(data: ds.Dataset) -> training.Trained:
    return told(data)


@pytest.fixture(scope="module")
def published(data: ds.Dataset, trained: training.Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(model_registry=tmp_path_factory.mktemp("models"), model_key=KEY)  # type: ignore[arg-type]
    where, parity = train.publish(settings, data, trained, page(trained))
    assert parity <= 1e-5
    return where


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def test_a_planted_signal_is_found_as_strong_as_it_is(data: ds.Dataset, trained: training.Trained) -> None:
    rows = trained.found.rows
    possible = float(np.corrcoef(data.latest(rows)[:, KNOWN], data.target[rows])[0, 1])
    assert 0.2 < possible < 0.35
    for name in ("lightgbm", "xgboost", "ensemble", "fast"):
        mine = trained.results[name].pooled
        assert 0.75 * possible < mine["ic"] < 1.1 * possible, name
        assert mine["ic_low"] > 0.1
        assert mine["r2_zero"] > 0.02
    ensemble = trained.results["ensemble"].pooled
    assert ensemble["brier"] < 0.25
    assert ensemble["ece"] < 0.06
    assert ensemble["acted"] > 0.1
    assert ensemble["acted_net_bp"] > 0.0
    assert np.argmax(trained.found.importance["lightgbm"]) == KNOWN
    assert trained.suspicions == []


def test_noise_shows_no_skill_and_leads_to_no_trade() -> None:
    found = told(market(0.0, seed=5))
    for name in ("lightgbm", "xgboost", "ensemble"):
        mine = found.results[name].pooled
        assert abs(mine["ic"]) < 0.08, name
        assert mine["ic_low"] < 0.0 or mine["ic"] < 0.03, name
        assert mine["r2_zero"] < 0.01
    assert found.results["ensemble"].pooled["acted"] < 0.1
    assert found.suspicions == []


def test_the_answer_among_the_features_trips_the_wire(data: ds.Dataset) -> None:
    features = data.features.copy()
    chance = np.random.default_rng(1)
    ahead = np.nan_to_num(data.target.reshape(data.bars, data.symbols)).T
    features[:, :, 7] = ahead + chance.normal(size=ahead.shape)
    found = told(replace(data, features=features))
    assert any("ic" in word for word in found.suspicions)
    assert "Suspected leakage" in page(found)


def test_the_same_candles_give_the_same_bytes(data: ds.Dataset, trained: training.Trained) -> None:
    again = told(data)
    assert again.ensemble.onnx == trained.ensemble.onnx
    assert again.manifest == trained.manifest


def test_without_networks_the_two_trees_share_all_votes(trained: training.Trained) -> None:
    belief = trained.manifest["calibration"]["ensemble"]
    assert belief["members"] == ["lightgbm", "xgboost"]
    assert sum(belief["weights"]) == pytest.approx(1.0)


def test_a_published_version_loads_and_both_graphs_agree_with_each_other(published: Path, data: ds.Dataset) -> None:
    model = registry.load(published, KEY, feature_hash())
    assert model.members == ["lightgbm", "xgboost"]
    windows = data.windows(data.rows(*data.span)[:50])
    whole, fast = model.predict(windows), model.predict_fast(windows[:, -1])
    assert whole["predictions"].shape == (50, 2)
    for name, said in whole.items():
        np.testing.assert_allclose(said, fast[name], atol=1e-6)
    assert ((whole["probability"] > 0) & (whole["probability"] < 1)).all()
    assert np.isin(whole["action"], (-1, 0, 1)).all()
    np.testing.assert_array_equal(model.predict(windows[3:4])["score"], whole["score"][3:4])


def test_the_manifest_tells_how_the_model_came_about(published: Path) -> None:
    told = json.loads((published / "manifest.json").read_bytes())
    assert {"data_sha256", "seed", "rows", "folds"} <= told["training"].keys()
    assert {"lightgbm", "xgboost", "ensemble", "volatility_of_hv_50"} <= told["walk_forward"].keys()
    assert told["members"]["xgboost"]["parameters"] > 0
    assert told["parity"]["ensemble.onnx"]["rows"] > 8_000
    assert told["libraries"]["xgboost-cpu"]
    assert told["horizon_bars"] == HORIZON
    importance = told["importance"]
    assert (list(importance), max(importance, key=importance.get)) == (list(NAMES), NAMES[KNOWN])
    assert sum(importance.values()) == pytest.approx(1.0, abs=1e-4)
    assert registry.load(published, KEY, feature_hash()).manifest.importance == importance


def refusal(directory: Path, key: str = KEY, features: str | None = None) -> Unavailable:
    with pytest.raises(ModelUnavailable) as caught:
        registry.load(directory, key, features or feature_hash())
    return caught.value.reason


def test_what_was_tampered_with_is_refused_by_name(copy: Path) -> None:
    assert refusal(copy, key="another key") is Unavailable.UNSIGNED
    assert refusal(copy, features="0123456789abcdef") is Unavailable.OTHER_FEATURES
    graph = (copy / "fast.onnx").read_bytes()
    (copy / "fast.onnx").write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    assert refusal(copy) is Unavailable.WRONG_HASH
    (copy / "fast.onnx").unlink()
    assert refusal(copy) is Unavailable.MISSING
    raw = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(raw.replace('"horizon_bars": 12', '"horizon_bars": 13'))
    assert refusal(copy) is Unavailable.UNSIGNED
    (copy / "manifest.json").write_text("{}")
    assert refusal(copy) is Unavailable.UNREADABLE


def test_a_model_that_answers_otherwise_than_it_did_is_refused(copy: Path) -> None:
    """Signed by the right key, whole, and still another model than its golden rows are of."""
    told = json.loads((copy / "manifest.json").read_bytes())
    stored = dict(np.load(copy / "golden.npz"))
    stored["fast.onnx/score"] = stored["fast.onnx/score"] + 1e-3
    windows = stored.pop("windows")
    answers: dict[str, dict[str, np.ndarray]] = {}
    for name, value in stored.items():
        answers.setdefault(name.split("/")[0], {})[name.split("/")[1]] = value
    files = {name: (copy / name).read_bytes() for name in told["files"]} | {"golden.npz": registry.golden_file(windows, answers)}
    where = registry.publish(copy.parent / "forged", told | {"files": {}}, files, KEY)
    assert refusal(where) is Unavailable.OTHER_ANSWERS


def test_a_version_is_written_once(published: Path) -> None:
    told = json.loads((published / "manifest.json").read_bytes())
    files = {name: (published / name).read_bytes() for name in told["files"]}
    assert registry.publish(published.parent, told, files, KEY) == published
    with pytest.raises(UserError, match="other files"):
        registry.publish(published.parent, told, files | {"report.html": b"another"}, KEY)
    assert registry.versions(published.parent) == [published.name]


def test_members_are_chosen_by_what_is_installed() -> None:
    torch = importlib.util.find_spec("torch") is not None
    found = [member.name for member in train.chosen(train.Wanted())]
    assert found == (["lightgbm", "xgboost", "nhits", "patchtst"] if torch else ["lightgbm", "xgboost"])
    with pytest.raises(UserError, match="no model is called"):
        train.chosen(train.Wanted(models=("lstm",)))
    with pytest.raises(UserError, match=r"networks alone|torch is not installed"):
        train.chosen(train.Wanted(models=("nhits",)))
