"""Boosted trees as ONNX nodes that say the same: a LightGBM classifier as a whole graph, regressors as parts of a larger one.

The converter rounds thresholds to the nearest float32, LightGBM compares doubles (`x <= t`). A threshold that was rounded up
sends the float32 values next to it the other way: at close spacings up to 99 % of the rows differ. Rounded down instead,
`x <= t` and `x <= floor32(t)` are the same question for every float32 x. XGBoost asks `x < t` of float32
thresholds: there nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType

INPUT: Final = "features"
OUTPUT: Final = "probabilities"
"""[rows, 2]: down, up."""
OPSET: Final = 15


def floor32(thresholds: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The largest float32 that is not above the threshold."""
    nearest = thresholds.astype(np.float32)
    above = nearest.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def to_onnx(booster: Any, features: int, metadata: Mapping[str, str]) -> bytes:
    """A binary booster as bytes of a graph `features` float32 [rows, features] -> `probabilities` float32 [rows, 2].

    The same booster gives the same bytes: no date, no random name. `metadata` is readable from a session. ValueError for
    what the converter is known to get wrong (linear leaves, categories).
    """
    model = onnxmltools.convert_lightgbm(
        booster, name="model", initial_types=[(INPUT, FloatTensorType([None, features]))], zipmap=False, target_opset=OPSET
    )
    graph = model.graph
    trees = next(node for node in graph.node if node.op_type == "TreeEnsembleClassifier")
    _floor_thresholds(trees, booster)
    # what remains of the graph is the trees: no label, no copies
    trees.output[1] = OUTPUT
    for node in [node for node in graph.node if node is not trees]:
        graph.node.remove(node)
    del graph.initializer[:]
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None, 2]))
    del model.opset_import[:]  # the converter writes them in the order of a set, another one in each process
    model.opset_import.extend([onnx.helper.make_opsetid("", 9), onnx.helper.make_opsetid("ai.onnx.ml", 1)])
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def lightgbm_node(booster: Any, features: int, source: str, answer: str) -> onnx.NodeProto:
    """A regression booster as one node, `source` float32 [rows, features] -> `answer` float32 [rows, 1]. ValueError as to_onnx."""
    model = onnxmltools.convert_lightgbm(
        booster, name="model", initial_types=[(INPUT, FloatTensorType([None, features]))], target_opset=OPSET
    )
    node = _only_trees(model)
    _floor_thresholds(node, booster)
    return _between(node, source, answer)


def xgboost_node(booster: Any, features: int, source: str, answer: str) -> onnx.NodeProto:
    """The same of an XGBoost booster with a numeric objective."""
    model = onnxmltools.convert_xgboost(
        booster, name="model", initial_types=[(INPUT, FloatTensorType([None, features]))], target_opset=OPSET
    )
    return _between(_only_trees(model), source, answer)


def thresholds(node: onnx.NodeProto) -> list[tuple[int, float]]:
    """(feature, threshold) of every split: the places where a model may answer otherwise than the trained one."""
    found = {attribute.name: attribute for attribute in node.attribute}
    names = ("nodes_featureids", "nodes_modes", "nodes_values")
    modes, values = found[names[1]].strings, found[names[2]].floats
    splits = zip(found[names[0]].ints, modes, values, strict=True)
    return sorted({(int(feature), float(value)) for feature, mode, value in splits if mode != b"LEAF"})


def _only_trees(model: onnx.ModelProto) -> onnx.NodeProto:
    """The tree node; ValueError when something else than copies stands beside it, which would be lost."""
    others = [node.op_type for node in model.graph.node if node.op_type not in ("TreeEnsembleRegressor", "Identity", "Cast")]
    if others:
        raise ValueError(f"the converter added {', '.join(others)} to the trees")
    trees: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    return trees


def _between(node: onnx.NodeProto, source: str, answer: str) -> onnx.NodeProto:
    node.input[0], node.output[0], node.name = source, answer, answer
    return node


def _floor_thresholds(trees: onnx.NodeProto, booster: Any) -> None:
    attributes = {attribute.name: attribute for attribute in trees.attribute}
    exact = _thresholds(booster.dump_model(), attributes)
    values = np.array(attributes["nodes_values"].floats)
    values[list(exact)] = floor32(np.array(list(exact.values())))
    del attributes["nodes_values"].floats[:]
    attributes["nodes_values"].floats.extend(values.tolist())


def _thresholds(dump: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[int, float]:
    """Position in the graph's node list -> the booster's own threshold, by walking both trees side by side."""
    trees, nodes = attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints
    place = {identity: position for position, identity in enumerate(zip(trees, nodes, strict=True))}
    found: dict[int, float] = {}
    left = [((number, 0), tree["tree_structure"]) for number, tree in enumerate(dump["tree_info"])]
    while left:
        (tree, node), mine = left.pop()
        if "split_feature" not in mine:
            continue
        position = place[tree, node]
        same = attributes["nodes_featureids"].ints[position] == mine["split_feature"]
        if not same or mine["decision_type"] != "<=" or attributes["nodes_modes"].strings[position] != b"BRANCH_LEQ":
            raise ValueError(f"the converter made another split of tree {tree}, node {node}: {mine}")
        found[position] = float(mine["threshold"])
        left.append(((tree, attributes["nodes_truenodeids"].ints[position]), mine["left_child"]))
        left.append(((tree, attributes["nodes_falsenodeids"].ints[position]), mine["right_child"]))
    if len(found) != sum(mode == b"BRANCH_LEQ" for mode in attributes["nodes_modes"].strings):
        raise ValueError("the converter made splits that the booster does not have")
    return found
