"""The two network members: N-HiTS and PatchTST on windows of features, trained on the path of the next HORIZON candles.

Both answer with the cumulated return in deviations after 1..HORIZON candles, of which the last is the forecast, and with the
volatility. Needs torch, which serving never does: what is served is the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import onnx
import onnx.compose
import onnx.inliner
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from processors.features.catalogue import INDEX
from processors.learning.dataset import WINDOW, Dataset, Numbers
from processors.learning.labels import HORIZON
from processors.learning.layers import Standard
from processors.learning.members import Progress
from processors.learning.nhits import NHiTS, Pace
from processors.learning.patchtst import MixedPatchTST

Floats = NDArray[np.float64]

NHITS: Final[Mapping[str, Any]] = {"hidden": 96, "layers": 2, "dropout": 0.2, "paces": ((16, 12), (8, 4), (2, 1))}
PATCHTST: Final[Mapping[str, Any]] = {"patch": 8, "width": 64, "heads": 4, "layers": 2, "inner": 128, "dropout": 0.2}
TRAINING: Final[Mapping[str, Any]] = {"batch": 1_024, "rate": 1e-3, "decay": 1e-3, "huber": 1.0, "volatility_share": 0.5}
SERIES: Final = INDEX["log_ret_1"]
"""The channel that N-HiTS explains; the others stand beside it."""


class Windows(nn.Module):
    """Raw windows of features [n, WINDOW, features] -> (path [n, HORIZON], volatility [n, 1]); a fitted network in whole."""

    def __init__(self, kind: str, standard: Standard, features: int) -> None:
        super().__init__()
        self.standard, self.kind = standard, kind
        if kind == "nhits":
            paces = [Pace(*pace) for pace in NHITS["paces"]]
            shape = {name: NHITS[name] for name in ("hidden", "layers", "dropout")}
            self.body: nn.Module = NHiTS(WINDOW, HORIZON, features, paces=paces, extra=1, series=SERIES, level=False, **shape)
        else:
            self.body = MixedPatchTST(WINDOW, HORIZON + 1, features, **PATCHTST)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.standard(x)
        if self.kind == "nhits":
            path, volatility = self.body(x)
            return path, volatility
        said = self.body(x)
        return said[:, :HORIZON], said[:, HORIZON:]


class Served(nn.Module):
    """What the graph holds: the last of the path, and the volatility."""

    def __init__(self, net: Windows) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        path, volatility = self.net(x)
        return path[:, HORIZON - 1 :], volatility


@dataclass(frozen=True, slots=True)
class Network:
    """A fitted network."""

    net: Windows
    features: int
    sees_windows: ClassVar[bool] = True
    importance: ClassVar[None] = None

    def predict(self, inputs: NDArray[np.float32]) -> Floats:
        """Windows [n, WINDOW, features] -> [n, 2]: return in deviations, ln(volatility / hv_50)."""
        with torch.inference_mode():
            said = Served(self.net)(torch.from_numpy(np.ascontiguousarray(inputs)))
        return torch.cat(said, dim=1).numpy().astype(np.float64)

    def nodes(self, source: str, answers: tuple[str, ...]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        model = exported(Served(self.net), torch.zeros(2, WINDOW, self.features))
        prefix = f"{self.net.kind}/"
        graph = onnx.compose.add_prefix(model, prefix).graph
        new = {f"{prefix}x": source, **{output.name: name for output, name in zip(graph.output, answers, strict=True)}}
        for node in graph.node:
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
        return list(graph.node), list(graph.initializer)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())


@dataclass(frozen=True, slots=True)
class NetworkMember:
    """`stride`: every so many candles make a row to learn from; neighbours share most of their window and label."""

    name: str
    epochs: int = 6
    stride: int = 3

    @property
    def recipe(self) -> dict[str, Any]:
        shape = NHITS if self.name == "nhits" else PATCHTST
        return {"window": WINDOW, "epochs": self.epochs, "stride": self.stride, **shape, **TRAINING}

    def fit(self, data: Dataset, rows: Numbers, seed: int, progress: Progress) -> Network:
        """The same data, rows and seed give the same network on one machine: one thread, own generators."""
        torch.set_num_threads(1)
        rows = rows[rows // data.symbols % self.stride == 0]
        chance = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = Windows(self.name, _standard(data, rows), data.features.shape[2])
            steps = max(len(rows) // TRAINING["batch"], 1)
            optimizer = torch.optim.AdamW(net.parameters(), lr=TRAINING["rate"], weight_decay=TRAINING["decay"])
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, TRAINING["rate"], total_steps=self.epochs * steps)
            for epoch in range(self.epochs):
                net.train()
                for batch in np.array_split(chance.permutation(rows), steps):
                    optimizer.zero_grad(set_to_none=True)
                    loss = _loss(net, data, batch)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                progress((epoch + 1) / self.epochs, f"epoch {epoch + 1}, loss {loss.item():.4f}")
        net.eval()
        return Network(net, data.features.shape[2])


def exported(net: nn.Module, example: Tensor) -> onnx.ModelProto:
    """The module as a graph with one input `x` and any number of rows; deterministic."""
    net.eval()
    rows = torch.export.Dim("rows", min=1, max=65_536)
    program = torch.onnx.export(
        net, (example,), dynamo=True, dynamic_shapes=({0: rows},), input_names=["x"], external_data=False, verbose=False
    )
    if program is None:
        raise ValueError("the exporter returned nothing")
    return onnx.inliner.inline_local_functions(program.model_proto)


def _loss(net: Windows, data: Dataset, rows: Numbers) -> Tensor:
    path, volatility = net(torch.from_numpy(data.windows(rows)))
    wished = torch.from_numpy(data.paths(rows)), torch.from_numpy(data.volatility[rows, None].astype(np.float32))
    weight = torch.from_numpy((data.weight[rows] / data.weight[rows].mean()).astype(np.float32))[:, None]
    huber = torch.nn.HuberLoss(reduction="none", delta=TRAINING["huber"])
    loss = (huber(path, wished[0]) * weight).mean()
    return loss + TRAINING["volatility_share"] * (huber(volatility, wished[1]) * weight).mean()


def _standard(data: Dataset, rows: Numbers) -> Standard:
    seen = data.latest(rows).astype(np.float64)
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    return Standard(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32)))
