"""The two tree members: LightGBM and XGBoost, each with one booster for the return and one for the volatility.

Both see the features of the closed candle alone. One thread: on a shared machine a second one waits more than it works, and
sums in one order make the same bytes again. No categories, no linear leaves: the converter gets them wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import lightgbm
import numpy as np
import onnx
import xgboost
from numpy.typing import NDArray

from processors.learning import export
from processors.learning.dataset import Dataset, Numbers
from processors.learning.members import HEADS, Progress

Floats = NDArray[np.float64]

LIGHTGBM: Final[Mapping[str, Any]] = {
    "objective": "regression",
    "num_leaves": 31,
    "learning_rate": 0.03,
    "min_data_in_leaf": 400,
    "lambda_l2": 10.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 127,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
XGBOOST: Final[Mapping[str, Any]] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 5,
    "eta": 0.03,
    "min_child_weight": 400,
    "lambda": 10.0,
    "subsample": 0.7,
    "colsample_bytree": 0.7,
    "max_bin": 127,
    "nthread": 1,
    "verbosity": 0,
}


@dataclass(frozen=True, slots=True)
class Trees:
    """A fitted pair of boosters."""

    kind: str
    boosters: tuple[Any, ...]
    features: int
    sees_windows: ClassVar[bool] = False

    def predict(self, inputs: NDArray[np.float32]) -> Floats:
        """Features [n, features] -> [n, 2]: return in deviations, ln(volatility / hv_50)."""
        if self.kind == "lightgbm":
            said = [booster.predict(inputs, num_threads=1) for booster in self.boosters]
        else:
            said = [booster.inplace_predict(inputs) for booster in self.boosters]
        return np.stack([np.asarray(one, dtype=np.float64) for one in said], axis=1)

    def nodes(self, source: str, answers: tuple[str, ...]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        convert = export.lightgbm_node if self.kind == "lightgbm" else export.xgboost_node
        return [convert(b, self.features, source, answer) for b, answer in zip(self.boosters, answers, strict=True)], []

    @property
    def parameters(self) -> int:
        """Leaves of all trees."""
        if self.kind == "lightgbm":
            return sum(tree["num_leaves"] for booster in self.boosters for tree in booster.dump_model()["tree_info"])
        return sum(text.count("leaf=") for booster in self.boosters for text in booster.get_dump())

    @property
    def importance(self) -> Floats | None:
        """Share of the return booster's gain by feature."""
        if self.kind == "lightgbm":
            gain = np.asarray(self.boosters[0].feature_importance("gain"), dtype=np.float64)
        else:
            found = self.boosters[0].get_score(importance_type="total_gain")
            gain = np.array([found.get(f"f{i}", 0.0) for i in range(self.features)])
        return gain / gain.sum() if gain.sum() > 0.0 else gain


@dataclass(frozen=True, slots=True)
class LightGbm:
    name: ClassVar[str] = "lightgbm"
    trees: int = 200

    @property
    def recipe(self) -> dict[str, Any]:
        return {"trees": self.trees, **LIGHTGBM}

    def fit(self, data: Dataset, rows: Numbers, seed: int, progress: Progress) -> Trees:
        inputs = data.latest(rows)
        boosters = []
        for number, head in enumerate(HEADS):
            sample = lightgbm.Dataset(
                inputs, getattr(data, head)[rows], weight=data.weight[rows] * len(rows) / data.weight[rows].sum()
            )
            boosters.append(lightgbm.train({**LIGHTGBM, "seed": seed}, sample, self.trees))
            progress((number + 1) / len(HEADS), head)
        return Trees(self.name, tuple(boosters), inputs.shape[1])


@dataclass(frozen=True, slots=True)
class XGBoost:
    name: ClassVar[str] = "xgboost"
    trees: int = 200

    @property
    def recipe(self) -> dict[str, Any]:
        return {"trees": self.trees, **XGBOOST}

    def fit(self, data: Dataset, rows: Numbers, seed: int, progress: Progress) -> Trees:
        inputs = data.latest(rows)
        weight = data.weight[rows] * len(rows) / data.weight[rows].sum()
        boosters = []
        for number, head in enumerate(HEADS):
            sample = xgboost.QuantileDMatrix(
                inputs, getattr(data, head)[rows], weight=weight, max_bin=XGBOOST["max_bin"], nthread=1
            )
            boosters.append(xgboost.train({**XGBOOST, "seed": seed}, sample, self.trees))
            progress((number + 1) / len(HEADS), head)
        return Trees(self.name, tuple(boosters), inputs.shape[1])
