"""Our two networks on the table that their papers report: ETTh1, 96 hours ahead, mean squared error of z-scored channels.

The protocol of the papers: seven hourly channels, 8,640 hours to learn from, the next 2,880 to choose the epoch, the next 2,880
to be judged on once; z-scores by the first part. PatchTST in the paper's small form (lookback 336, channel-independent).
N-HiTS without the paper's search over hyperparameters: one configuration, chosen on the second part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from processors.learning.members import Progress
from processors.learning.nhits import NHiTS, Pace
from processors.learning.patchtst import PatchTST

PARTS: Final = (8_640, 2_880, 2_880)
HORIZON: Final = 96
PAPERS: Final = {"patchtst": 0.375, "nhits": 0.378}
"""MSE that the papers report."""
GOALS: Final = {"patchtst": 0.390, "nhits": 0.400}

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Series:
    """z-scored [hours, channels] and where each part begins and ends."""

    values: Rows

    def starts(self, part: int, lookback: int) -> NDArray[np.int64]:
        """First hours of all windows whose horizon lies in a part; the lookback may reach into the one before."""
        begin = sum(PARTS[:part]) - (lookback if part else 0)
        return np.arange(begin, sum(PARTS[: part + 1]) - lookback - HORIZON + 1)

    def batch(self, starts: NDArray[np.int64], lookback: int) -> tuple[Tensor, Tensor]:
        """([n, lookback, channels], [n, HORIZON, channels])"""
        rows = self.values[starts[:, None] + np.arange(lookback + HORIZON)]
        return torch.from_numpy(rows[:, :lookback]), torch.from_numpy(rows[:, lookback:])


def series(values: NDArray[np.float64]) -> Series:
    """From raw channels [hours, channels]. ValueError when there are too few hours."""
    if len(values) < sum(PARTS):
        raise ValueError(f"{len(values)} hours, the protocol needs {sum(PARTS)}")
    seen = values[: PARTS[0]]
    return Series(((values - seen.mean(axis=0)) / seen.std(axis=0)).astype(np.float32))


def patchtst(data: Series, progress: Progress, *, epochs: int = 8, seed: int = 2021) -> dict[str, Any]:
    """Test MSE and MAE of the epoch that was best on the second part."""
    lookback = 336
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PatchTST(lookback, HORIZON, data.values.shape[1], dropout=0.3)
        starts = data.starts(0, lookback)
        steps = len(starts) // 128
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * steps)
        chance, best = np.random.default_rng(seed), _Best()
        for epoch in range(epochs):
            net.train()
            for chosen in np.array_split(chance.permutation(starts), steps):
                x, y = data.batch(chosen, lookback)
                optimizer.zero_grad(set_to_none=True)
                torch.nn.functional.mse_loss(net(x), y).backward()
                optimizer.step()
                schedule.step()
            error = _errors(net, data, 1, lookback)
            best.see(net, error[0], epoch + 1)
            progress((epoch + 1) / epochs, f"patchtst epoch {epoch + 1}: validation {error[0]:.4f}")
        return _result("patchtst", best.restored(net), data, lookback, {"lookback": lookback, "epoch": best.at, "epochs": epochs})


def nhits(data: Series, progress: Progress, *, steps: int = 400, seed: int = 1) -> dict[str, Any]:
    """The same; every channel through the same univariate network. Checked on the second part every 100 steps."""
    lookback, rows = 672, 256
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _EachChannel(NHiTS(lookback, HORIZON, paces=[Pace(16, 24), Pace(8, 12), Pace(1, 1)], hidden=512, dropout=0.5))
        starts, channels = data.starts(0, lookback), data.values.shape[1]
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)
        loss = nn.HuberLoss(delta=0.5)
        chance, best = np.random.default_rng(seed), _Best()
        for step in range(1, steps + 1):
            net.train()
            x, y = data.batch(chance.choice(starts, rows // channels), lookback)
            optimizer.zero_grad(set_to_none=True)
            loss(net(x), y).backward()
            optimizer.step()
            if step % 100 == 0:
                error = _errors(net, data, 1, lookback)
                best.see(net, error[1], step)
                progress(step / steps, f"nhits step {step}: validation {error[0]:.4f}")
        return _result("nhits", best.restored(net), data, lookback, {"lookback": lookback, "step": best.at, "steps": steps})


class _EachChannel(nn.Module):
    """[batch, lookback, channels] -> [batch, HORIZON, channels], every channel as a series of its own."""

    def __init__(self, net: NHiTS) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        channels, lookback = x.shape[2], x.shape[1]
        said, _ = self.net(x.transpose(1, 2).reshape(-1, lookback, 1))
        return said.reshape(-1, channels, HORIZON).transpose(1, 2)


class _Best:
    """The weights of the lowest error so far."""

    def __init__(self) -> None:
        self.error, self.at, self.weights = float("inf"), 0, dict[str, Tensor]()

    def see(self, net: nn.Module, error: float, at: int) -> None:
        if error < self.error:
            self.error, self.at = error, at
            self.weights = {name: value.clone() for name, value in net.state_dict().items()}

    def restored(self, net: nn.Module) -> nn.Module:
        net.load_state_dict(self.weights)
        return net


def _errors(net: nn.Module, data: Series, part: int, lookback: int) -> tuple[float, float]:
    """(MSE, MAE) over all windows of a part."""
    net.eval()
    squared, absolute, count = 0.0, 0.0, 0
    starts = data.starts(part, lookback)
    with torch.inference_mode():
        for at in range(0, len(starts), 256):
            x, y = data.batch(starts[at : at + 256], lookback)
            apart = (net(x) - y).double()
            squared, absolute, count = squared + float((apart**2).sum()), absolute + float(apart.abs().sum()), count + apart.numel()
    return squared / count, absolute / count


def _result(name: str, net: nn.Module, data: Series, lookback: int, told: dict[str, Any]) -> dict[str, Any]:
    mse, mae = _errors(net, data, 2, lookback)
    parameters = sum(p.numel() for p in net.parameters())
    goal = {"paper_mse": PAPERS[name], "goal_mse": GOALS[name], "reached": mse <= GOALS[name]}
    return {"mse": round(mse, 4), "mae": round(mae, 4), "parameters": parameters, **told, **goal}


RUNS: Final[dict[str, Callable[[Series, Progress], dict[str, Any]]]] = {"nhits": nhits, "patchtst": patchtst}
