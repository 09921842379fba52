"""The exported graph says what the booster says, also where float32 values stand one step apart."""

from __future__ import annotations

import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm", reason="the extra `train` is not installed")
pytest.importorskip("onnxmltools", reason="the extra `train` is not installed")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from infra import onnx as serving  # noqa: E402
from processors.learning import export  # noqa: E402


def answers(graph: bytes, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([export.OUTPUT], {export.INPUT: rows})[0])[:, 1]


def booster(rows: np.ndarray, positive: np.ndarray) -> lightgbm.Booster:
    parameters = {
        "objective": "binary",
        "num_leaves": 31,
        "min_data_in_leaf": 5,
        "max_bin": 1_000,
        "num_threads": 1,
        "verbosity": -1,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(rows, positive.astype(int)), 30)


def test_floor32_is_the_largest_float32_not_above() -> None:
    values = np.concatenate([np.random.default_rng(1).normal(0, 1e3, 2_000), [0.0, -0.0, 0.1, -0.1, 60_000.001]])
    found = export.floor32(values)
    assert found.dtype == np.float32
    assert (found.astype(np.float64) <= values).all()
    assert (np.nextafter(found, np.float32(np.inf)).astype(np.float64) > values).all()


def test_neighbouring_float32_values_go_the_same_way_as_in_the_booster() -> None:
    """Prices near 60,000, one float32 step apart: with thresholds rounded to nearest most rows would differ."""
    rng = np.random.default_rng(2)
    steps = rng.integers(0, 400, 4_000)
    rows = np.stack(
        [np.float32(60_000) + np.spacing(np.float32(60_000)) * steps.astype(np.float32), rng.normal(size=4_000)], axis=1
    )
    rows = rows.astype(np.float32)
    trained = booster(rows, rng.random(4_000) < (steps % 7) / 7)
    graph = export.to_onnx(trained, 2, {})
    assert np.max(np.abs(answers(graph, rows) - trained.predict(rows))) < 1e-6


def test_the_same_booster_gives_the_same_bytes_and_carries_its_metadata() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 3)).astype(np.float32)
    trained = booster(rows, rows[:, 0] > 0)
    graph = export.to_onnx(trained, 3, {"model_version": "a", "feature_hash": "b"})
    assert graph == export.to_onnx(trained, 3, {"model_version": "a", "feature_hash": "b"})
    assert [entry.domain for entry in onnx.load_from_string(graph).opset_import] == ["", "ai.onnx.ml"]  # not in a set's order
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"model_version": "a", "feature_hash": "b"}
    for count in (1, 2, 37):
        assert answers(graph, rows[:count]).shape == (count,)


def test_trainer_and_server_name_the_graph_alike() -> None:
    assert (export.INPUT, export.OUTPUT) == (serving.INPUT, serving.OUTPUT)
