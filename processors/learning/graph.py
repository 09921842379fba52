"""The ensemble as one ONNX graph: members, vote, calibration and action, swapped and signed as one.

The inputs and outputs are those of `ensemble.Belief.say`, which the graph must equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from processors.learning.calibration import Curve
from processors.learning.dataset import BARRIER, HV, WINDOW
from processors.learning.ensemble import OUTPUTS, Belief
from processors.learning.labels import HORIZON, QUIET
from processors.learning.members import Fitted

OPSET: Final = 20


class _Builder:
    """Nodes and constants as they come; `apply` returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any, kind: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def apply(self, kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def curve(self, name: str, score: str, found: Curve) -> str:
        """y0 + sum of dy_i * clip((score - x_i) / dx_i, 0, 1)"""
        apart = self.apply("Sub", f"{name}.apart", score, self.constant(f"{name}.x", found.x[:-1]))
        along = self.apply("Mul", f"{name}.along", apart, self.constant(f"{name}.per_dx", 1.0 / np.diff(found.x)))
        part = self.apply("Clip", f"{name}.part", along, "zero", "one")
        rise = self.apply("MatMul", f"{name}.rise", part, self.constant(f"{name}.dy", np.diff(found.y)[:, None]))
        return self.apply("Add", f"{name}.value", rise, self.constant(f"{name}.y0", found.y[:1]))

    def share(self) -> None:
        """Equal constants become one, so that the runtime sees that members do the same: both networks standardise the window."""
        first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
        names: dict[str, str] = {}
        kept = []
        for one in self.constants:
            value = numpy_helper.to_array(one)
            name = first.setdefault((one.data_type, value.shape, value.tobytes()), one.name)
            names[one.name] = name
            if name == one.name:
                kept.append(one)
        self.constants = kept
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]


def graph(members: Sequence[Fitted], belief: Belief, features: int, metadata: Mapping[str, str], *, windows: bool) -> bytes:
    """The whole as bytes; the same members and belief give the same ones. Input `window`, or `features` without windows."""
    b = _Builder()
    b.constant("zero", 0.0)
    b.constant("one", 1.0)
    latest = "features"
    if windows:
        latest = b.apply("Gather", "latest", "window", b.constant("last", WINDOW - 1, np.int64), axis=1)
    returns, volatilities = [], []
    for number, member in enumerate(members):
        answers = (f"member{number}.return", f"member{number}.volatility")
        nodes, constants = member.nodes("window" if member.sees_windows else latest, answers)
        b.nodes += nodes
        b.constants += constants
        returns.append(answers[0])
        volatilities.append(answers[1])
    b.apply("Concat", "predictions", *returns, axis=1)
    b.apply("Concat", "volatilities", *volatilities, axis=1)
    _believe(b, belief, latest)
    b.share()

    shape: list[str | int] = ["rows", WINDOW, features] if windows else ["rows", features]
    source = helper.make_tensor_value_info("window" if windows else "features", TensorProto.FLOAT, shape)
    kinds = {"action": TensorProto.INT64}
    shapes: dict[str, list[str | int]] = {"predictions": ["rows", len(members)]}
    said = [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shapes.get(name, ["rows"])) for name in OUTPUTS]
    whole = helper.make_graph(b.nodes, "ensemble", [source], said, b.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=10, producer_name="quantum")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _believe(b: _Builder, belief: Belief, latest: str) -> None:
    score = b.apply("MatMul", "score_", "predictions", b.constant("weights", belief.weights[:, None]))
    hv = b.apply("Gather", "hv_50", latest, b.constant("hv", [HV], np.int64), axis=1)
    hv = b.apply("Max", "hv_50_", hv, b.constant("quiet", QUIET))
    ratio = b.apply("MatMul", "ln_ratio", "volatilities", b.constant("volatility_weights", belief.volatility_weights[:, None]))
    volatility = b.apply("Mul", "volatility_", b.apply("Exp", "ratio", ratio), hv)
    width = b.apply("Mul", "width", hv, b.constant("widths", BARRIER * np.sqrt(float(HORIZON))))
    edge = b.apply("Mul", "edge_", b.curve("barrier", score, belief.barrier), width)
    long = b.apply("Greater", "long", edge, b.constant("cost", belief.cost))
    short = b.apply("Less", "short", edge, b.constant("-cost", -belief.cost))
    sides = [b.apply("Cast", f"{side}_", side, to=TensorProto.INT64) for side in (long, short)]
    action = b.apply("Sub", "action_", *sides)
    probability = b.curve("up", score, belief.up)
    flat = b.constant("flat", [-1], np.int64)
    for name, column in zip(OUTPUTS[1:], (volatility, score, probability, edge, action), strict=True):
        b.apply("Reshape", name, column, flat)
