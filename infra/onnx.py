"""Models as files: an ONNX graph and its manifest, loaded only when they are what they claim to be.

A directory holds `model.onnx` and `manifest.json`. Loading checks, in this order: the manifest is readable, the graph has the
manifest's hash, it was trained on the features that the caller computes, and it still gives its golden answers here.
A model that fails one of these is not used: `ModelUnavailable` says which. Nothing here needs the training libraries.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

SCHEMA: Final = 1
INPUT: Final = "features"
OUTPUT: Final = "probabilities"
GOLDEN_TOLERANCE: Final = 1e-5


class Unavailable(StrEnum):
    """Why a model is not used."""

    MISSING = "MISSING"
    UNREADABLE = "UNREADABLE"
    UNSIGNED = "UNSIGNED"
    WRONG_HASH = "WRONG_HASH"
    OTHER_FEATURES = "OTHER_FEATURES"
    OTHER_ANSWERS = "OTHER_ANSWERS"


class ModelUnavailable(Exception):
    """`reason` for a metric or an event, the text for a person."""

    def __init__(self, reason: Unavailable, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Golden(msgspec.Struct, frozen=True):
    """Rows of features and the probabilities that the trained model gave for them."""

    rows: list[list[float]]
    p_up: list[float]


class Manifest(msgspec.Struct, frozen=True):
    """What serving needs of a manifest; the rest (metrics, training) is for people and gates."""

    schema: int
    version: str
    sha256: str
    trained_on: str
    feature_set: str
    feature_hash: str
    horizon_bars: int
    golden: Golden


class Model:
    """A loaded model. `predict` is deterministic on one machine; on another it agrees to about 1e-6."""

    def __init__(self, manifest: Manifest, graph: bytes) -> None:
        self.manifest = manifest
        self.version = manifest.version
        self._session = session(graph)

    @property
    def metadata(self) -> dict[str, str]:
        """What the graph itself says: schema, model_version, feature_set, feature_hash, horizon_bars."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability that the price is higher at the horizon, for feature rows [n, features]: [n]."""
        (answer,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(rows, dtype=np.float32)})
        return np.asarray(answer[:, 1], dtype=np.float64)


def seed_dir() -> Path:
    """The model that comes with the package: small, trained on the synthetic market."""
    return Path(__file__).parent / "models" / "seed"


def load_model(directory: Path, feature_hash: str) -> Model:
    """Raises ModelUnavailable. Takes some 20 ms and runs the model once, so the first live prediction is warm."""
    try:
        raw, graph = (directory / "manifest.json").read_bytes(), (directory / "model.onnx").read_bytes()
    except OSError as e:
        raise ModelUnavailable(Unavailable.MISSING, f"{e.filename}: {e.strerror}") from e
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as e:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"{directory / 'manifest.json'}: {e}") from e
    if manifest.schema != SCHEMA:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"manifest of schema {manifest.schema}, this code reads {SCHEMA}")
    return checked(manifest, graph, feature_hash)


def checked(manifest: Manifest, graph: bytes, feature_hash: str) -> Model:
    """The model, when graph, manifest and features belong together and it gives its golden answers; else ModelUnavailable."""
    found = hashlib.sha256(graph).hexdigest()
    if found != manifest.sha256:
        raise ModelUnavailable(Unavailable.WRONG_HASH, f"the graph has sha256 {found}, the manifest says {manifest.sha256}")
    try:
        model = Model(manifest, graph)
    except RUNTIME_ERRORS as e:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"onnxruntime refuses the graph: {e}") from e
    said = {manifest.feature_hash, model.metadata.get("feature_hash")}
    if said != {feature_hash}:
        told = ", ".join(sorted(str(name) for name in said))
        raise ModelUnavailable(Unavailable.OTHER_FEATURES, f"trained on features {told}, we compute {feature_hash}")
    apart = _apart(model, manifest.golden)
    if not apart <= GOLDEN_TOLERANCE:
        raise ModelUnavailable(
            Unavailable.OTHER_ANSWERS, f"golden rows answered {apart:.2g} apart, {GOLDEN_TOLERANCE:g} is allowed"
        )
    return model


def _apart(model: Model, golden: Golden) -> float:
    """The largest difference from the golden answers; ModelUnavailable when the rows do not fit the graph."""
    if not golden.rows or len(golden.rows) != len(golden.p_up):
        raise ModelUnavailable(
            Unavailable.OTHER_ANSWERS, f"{len(golden.rows)} golden rows with {len(golden.p_up)} answers prove nothing"
        )
    try:
        answers = model.predict(np.array(golden.rows, dtype=np.float32))
    except (ValueError, *RUNTIME_ERRORS) as e:
        raise ModelUnavailable(Unavailable.OTHER_ANSWERS, f"the golden rows do not fit the graph: {e}") from e
    return float(np.max(np.abs(answers - np.array(golden.p_up))))


def session(graph: bytes) -> Any:
    """One thread each: a second gains nothing at our sizes, and idle ones spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


_STATE = onnxruntime.capi.onnxruntime_pybind11_state
RUNTIME_ERRORS = (_STATE.Fail, _STATE.InvalidArgument, _STATE.InvalidGraph, _STATE.InvalidProtobuf, _STATE.NotImplemented)
