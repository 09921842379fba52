"""The registry of models: a directory a version, with graphs, golden rows, report and a signed manifest.

    models/m-1a2b3c4d5e6f/ensemble.onnx  window of features -> everything
                          fast.onnx      features of one candle -> the same, from the tree members alone
                          golden.npz     rows and what the training libraries answered
                          report.html    what it is worth, for people
                          manifest.json  the hashes of all of them, how it came about, and a signature over that

A version is written once, whole, and never changed. Loading checks, in this order: the manifest is readable, its signature is
right, every file has its hash, the features are ours, the graphs have the shape that was promised and give the golden answers.
The first that fails is told, and whatever serves goes on serving. Nothing is unpickled, nothing of the training is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.onnx import GOLDEN_TOLERANCE, RUNTIME_ERRORS, ModelUnavailable, Unavailable, session

SCHEMA: Final = 2
MANIFEST: Final = "manifest.json"
SERVED: Final = ("ensemble.onnx", "fast.onnx")
GOLDEN: Final = "golden.npz"

Answers = dict[str, NDArray[Any]]


class File(msgspec.Struct, frozen=True):
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What serving needs of a manifest; results, recipes and calibration are for people and gates.

    `importance`: share of each feature, of the tree members together; empty in manifests that were written before there was one.
    """

    schema: int
    version: str
    parent: str | None
    trained_on: str
    feature_set: str
    feature_hash: str
    features: int
    window_bars: int
    horizon_bars: int
    outputs: list[str]
    calibration: dict[str, Any]
    files: dict[str, File]
    signature: str
    importance: dict[str, float] = {}


class Ensemble:
    """A verified version: two sessions, warm. Answers are deterministic on one machine."""

    def __init__(self, manifest: Manifest, graphs: Mapping[str, bytes]) -> None:
        self.manifest = manifest
        self.version = manifest.version
        self._whole, self._fast = (session(graphs[name]) for name in SERVED)

    @property
    def members(self) -> list[str]:
        """Who speaks, in the order of the columns of `predictions`."""
        return [str(name) for name in self.manifest.calibration["ensemble"]["members"]]

    def predict(self, windows: NDArray[np.float32]) -> Answers:
        """Answers by name of output for windows [n, window_bars, features]."""
        return self._run(self._whole, "window", windows)

    def predict_fast(self, rows: NDArray[np.float32]) -> Answers:
        """The same of the tree members alone, for the features [n, features] of one candle, which may still be forming."""
        return self._run(self._fast, "features", rows)

    def _run(self, graph: Any, source: str, values: NDArray[np.float32]) -> Answers:
        said = graph.run(self.manifest.outputs, {source: np.ascontiguousarray(values, dtype=np.float32)})
        return dict(zip(self.manifest.outputs, said, strict=True))

    def metadata(self) -> list[dict[str, str]]:
        """What each graph says of itself."""
        return [dict(graph.get_modelmeta().custom_metadata_map) for graph in (self._whole, self._fast)]


def publish(root: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes], key: str) -> Path:
    """Write a version whole or not at all; returns its directory. The same version with the same files is left as it is.

    UserError when the version is there with other files: the same recipe has given another model.
    """
    described = {name: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for name, raw in sorted(files.items())}
    whole = {**manifest, "files": described}
    whole["signature"] = signature(whole, key)
    where = root / str(manifest["version"])
    if where.exists():
        _same(where, described)
        return where
    draft = root / f".{manifest['version']}.{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        for name, raw in files.items():
            (draft / name).write_bytes(raw)
        (draft / MANIFEST).write_text(json.dumps(whole, indent=1) + "\n")
        draft.rename(where)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return where


def load(directory: Path, key: str, feature_hash: str) -> Ensemble:
    """A verified version, run once and so warm. Raises ModelUnavailable; takes up to 0.3 s, so swap between batches."""
    try:
        raw = (directory / MANIFEST).read_bytes()
        told = json.loads(raw)
        manifest = msgspec.convert(told, Manifest)
    except OSError as e:
        raise ModelUnavailable(Unavailable.MISSING, f"{e.filename}: {e.strerror}") from e
    except (ValueError, msgspec.ValidationError) as e:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"{directory / MANIFEST}: {e}") from e
    if manifest.schema != SCHEMA:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"manifest of schema {manifest.schema}, this code reads {SCHEMA}")
    if not hmac.compare_digest(signature(told, key), manifest.signature):
        raise ModelUnavailable(Unavailable.UNSIGNED, "the manifest was changed, or signed with another key than QT_MODEL_KEY")
    files = _verified(directory, manifest)
    try:
        ensemble = Ensemble(manifest, files)
    except RUNTIME_ERRORS as e:
        raise ModelUnavailable(Unavailable.UNREADABLE, f"onnxruntime refuses the graph: {e}") from e
    said = {manifest.feature_hash, *(found.get("feature_hash", "none") for found in ensemble.metadata())}
    if said != {feature_hash}:
        told_ = ", ".join(sorted(said))
        raise ModelUnavailable(Unavailable.OTHER_FEATURES, f"trained on features {told_}, we compute {feature_hash}")
    _golden(ensemble, files[GOLDEN])
    return ensemble


def signature(manifest: Mapping[str, Any], key: str) -> str:
    """HMAC-SHA256 over the manifest without its signature, in a fixed spelling."""
    signed = {name: value for name, value in manifest.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def versions(root: Path) -> list[str]:
    """What is there, by name."""
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))


def golden_file(windows: NDArray[np.float32], answers: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> bytes:
    """Golden rows as bytes; `answers` by graph, then by output. The same rows give the same bytes."""
    into = io.BytesIO()
    flat: dict[str, Any] = {f"{graph}/{name}": value for graph, mine in answers.items() for name, value in mine.items()}
    np.savez(into, windows=windows, **flat)
    return into.getvalue()


def _verified(directory: Path, manifest: Manifest) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name in (*SERVED, GOLDEN):
        if name not in manifest.files:
            raise ModelUnavailable(Unavailable.UNREADABLE, f"the manifest names no {name}")
        try:
            files[name] = (directory / name).read_bytes()
        except OSError as e:
            raise ModelUnavailable(Unavailable.MISSING, f"{e.filename}: {e.strerror}") from e
        found = hashlib.sha256(files[name]).hexdigest()
        if found != manifest.files[name].sha256:
            word = f"{name} has sha256 {found}, the manifest says {manifest.files[name].sha256}"
            raise ModelUnavailable(Unavailable.WRONG_HASH, word)
    return files


def _golden(ensemble: Ensemble, raw: bytes) -> None:
    """ModelUnavailable when the graphs have another shape than promised or answer otherwise than the libraries did."""
    stored = np.load(io.BytesIO(raw), allow_pickle=False)
    windows = stored["windows"]
    shape = (ensemble.manifest.window_bars, ensemble.manifest.features)
    if windows.shape[1:] != shape or not len(windows):
        raise ModelUnavailable(Unavailable.OTHER_ANSWERS, f"golden rows of shape {windows.shape}, the manifest promises {shape}")
    for name, ask, values in zip(SERVED, (ensemble.predict, ensemble.predict_fast), (windows, windows[:, -1]), strict=True):
        try:
            answers = ask(values)
        except (ValueError, *RUNTIME_ERRORS) as e:
            raise ModelUnavailable(Unavailable.OTHER_ANSWERS, f"the golden rows do not fit {name}: {e}") from e
        for output, said in answers.items():
            meant = stored[f"{name}/{output}"]
            unit = np.abs(meant) if output == "volatility" else 1.0  # a small number in itself
            differs = float(np.max(np.abs(said - meant) / unit)) if said.shape == meant.shape else float("inf")
            if not differs <= GOLDEN_TOLERANCE:
                word = f"{name} answers the golden rows {differs:.2g} apart in {output}, {GOLDEN_TOLERANCE:g} is allowed"
                raise ModelUnavailable(Unavailable.OTHER_ANSWERS, word)


def _same(where: Path, described: Mapping[str, Mapping[str, Any]]) -> None:
    there = json.loads((where / MANIFEST).read_bytes())["files"]
    differing = [name for name in described if there.get(name) != described[name]]
    if differing:
        raise UserError(
            f"{where} is there with other files",
            f"the same recipe has given another {', '.join(differing)}: another kind of processor, or the trainer was changed",
            "move the old version away, or train into another registry: --registry PATH",
        )
