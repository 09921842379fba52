"""Our N-HiTS and PatchTST on ETTh1, beside what their papers report. The file is given by a path: it is not ours to ship."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError

CHANNELS = 7


def run(path: Path, models: tuple[str, ...] = (), threads: int = 1) -> dict[str, Any]:
    """MSE and MAE by model, with the papers' and our goals; minutes each. UserError without torch or without the file."""
    try:
        import torch

        from processors.learning import benchmark
    except ModuleNotFoundError as e:
        raise UserError(
            "cannot train the networks", f"{e.name} is not installed", "`make train-env`, or install the extra `train`"
        ) from e
    torch.set_num_threads(threads)
    if unknown := [name for name in models if name not in benchmark.RUNS]:
        raise UserError(
            f"no such network: {unknown[0]}", f"there are {', '.join(benchmark.RUNS)}", "choose: --models nhits,patchtst"
        )
    data = benchmark.series(read(path))
    found: dict[str, Any] = {"data": path.name, "horizon": benchmark.HORIZON, "torch": torch.__version__}
    for name in models or tuple(benchmark.RUNS):
        began = time.monotonic()
        result = benchmark.RUNS[name](data, lambda share, word: print(f"{share:4.0%}  {word}", file=sys.stderr, flush=True))
        found[name] = result | {"seconds": round(time.monotonic() - began, 1)}
    return found


def read(path: Path) -> NDArray[np.float64]:
    """The channels of an ETT file [hours, 7]: a header, then date and seven numbers a line. UserError when it is none."""
    try:
        with path.open(newline="") as lines:
            rows = list(csv.reader(lines))[1:]
        values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    except OSError as e:
        raise UserError(f"{path} cannot be read", str(e.strerror), "give the path of ETTh1.csv: --ett PATH") from e
    except ValueError as e:
        raise UserError(f"{path} is no ETT file", str(e), "it has a date and seven numbers a line") from e
    if values.ndim != 2 or values.shape[1] != CHANNELS:
        raise UserError(f"{path} is no ETT file", f"its shape is {values.shape}", f"it has a date and {CHANNELS} numbers a line")
    return values
