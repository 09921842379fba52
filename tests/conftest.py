"""What tests share: one embedded broker a session, the real recordings, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra import registry
from infra.broker.embedded import EmbeddedKafka
from infra.paths import shared_data_dir
from infra.ports import free_ports
from streams.launcher import python
from streams.nursery import Nursery


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker for the whole session (one a worker under xdist) on free ports; `.bootstrap` is its address.

    It is shared: give your topics names of their own (`unique`). Whoever kills a broker starts one for itself.
    """
    port, controller_port = free_ports(2)
    broker = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), port, controller_port)
    broker.start()
    try:
        broker.wait_ready()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Bears workers as the launcher's does: `nursery.spawn(name, env, log)`."""
    found = Nursery(python("streams.nursery"), tmp_path_factory.mktemp("nursery") / "nursery.log")
    try:
        yield found
    finally:
        found.stop()


Say = Callable[[str], None]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """For figures that are a result of their own (a count, a time): `say("634 of 634")`. They stand at the end of the output."""
    return lambda line: record_property("said", line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    said = [(report.nodeid, line) for report in reports for name, line in report.user_properties if name == "said"]
    if said:
        terminalreporter.section("figures")
        for nodeid, line in sorted(set(said)):
            terminalreporter.write_line(f"{nodeid.split('::')[-1]}: {line}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first, so that no worker is left with one at the end (`--no-loadscope-reorder`)."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_counter = itertools.count(1)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name for topics and groups of this test alone, e.g. `history-writes-each-row-once-3`."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_")).strip("-")
    return f"{name[:80]}-{next(_counter)}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings (`QT_SHARED_DATA`, else `../shared/data`); tests skip where it is absent."""
    folder = shared_data_dir()
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set QT_SHARED_DATA to run this test")
    return folder


MakeVersion = Callable[..., Path]


@pytest.fixture(scope="session")
def make_version() -> MakeVersion:
    """Publishes a version whose graphs answer the same to everything: make_version(root, "m-a", p_up=0.9, key="a key")."""
    pytest.importorskip("onnx", reason="the extra `trees` is not installed")

    def make(root: Path, version: str, *, p_up: float, key: str, edge: float = 0.01, forged: bool = False, **more: Any) -> Path:
        from processors.features.catalogue import FEATURE_SET, NAMES, feature_hash

        said = {"feature_hash": feature_hash()} | more
        says = {"probability": p_up, "edge": edge, "volatility": 0.002, "score": 0.5, "predictions": 0.25, "action": 1}
        windows = np.random.default_rng(1).normal(size=(4, 64, len(NAMES))).astype(np.float32)
        answers = {name: np.full((4, 1) if name == "predictions" else 4, value, np.float64) for name, value in says.items()}
        if forged:
            answers["score"] = answers["score"] + 0.001
        files = {name: _graph(says, said["feature_hash"], windows=name == "ensemble.onnx") for name in registry.SERVED}
        files[registry.GOLDEN] = registry.golden_file(windows, dict.fromkeys(files, answers))
        belief = {"members": ["lightgbm"], "weights": [1.0]}
        manifest = {
            "schema": registry.SCHEMA,
            "version": version,
            "parent": None,
            "trained_on": "nothing",
            "feature_set": FEATURE_SET,
            "features": len(NAMES),
            "window_bars": 64,
            "horizon_bars": 12,
            "outputs": list(says),
            "calibration": {"ensemble": belief, "fast": belief},
            **said,
        }
        return registry.publish(root, manifest, files, key)

    return make


def _graph(says: dict[str, Any], feature_hash: str, *, windows: bool) -> bytes:
    """Nothing of the input is in the answer but its number of rows."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {"last": np.int64(63), "first": np.array([0]), "none": np.float32(0), "flat": np.array([-1])}
    nodes = [helper.make_node("Gather", ["window", "last"], ["features"], axis=1)] if windows else []
    nodes += [
        helper.make_node("Gather", ["features", "first"], ["one"], axis=1),
        helper.make_node("Mul", ["one", "none"], ["zero"]),
    ]
    outputs = []
    for name, value in says.items():
        constants[f"{name}_is"] = np.float32(value)
        nodes.append(helper.make_node("Add", ["zero", f"{name}_is"], [name if name == "predictions" else f"{name}_"]))
        if name == "action":
            nodes.append(helper.make_node("Cast", ["action_"], ["action__"], to=TensorProto.INT64))
        if name != "predictions":
            nodes.append(helper.make_node("Reshape", ["action__" if name == "action" else f"{name}_", "flat"], [name]))
        kind = TensorProto.INT64 if name == "action" else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1] if name == "predictions" else ["rows"]))
    shape = ["rows", 64, 49] if windows else ["rows", 49]
    source = helper.make_tensor_value_info("window" if windows else "features", TensorProto.FLOAT, shape)
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if windows or name != "last"]
    graph = helper.make_graph(nodes, "same", [source], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"feature_hash": feature_hash})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
