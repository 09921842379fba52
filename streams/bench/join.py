"""The stage of exits as a worker of `quantum bench exits`: the same join, with filters of made-up instruments instead of an
exchange's.

python -m streams.bench.join
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial

from infra import logs
from infra.settings import load
from processors import exits
from processors.filters import Filters
from streams.app import run_stage
from streams.exits import STAGE

SYMBOLS = 1_000
RULES = Filters(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(120), Decimal(5))
NAMES = tuple(f"bench.usdm.S{n:04d}USDT" for n in range(SYMBOLS))


def main() -> None:
    settings = load()
    logs.configure(STAGE.name, settings.log_level)
    run_stage(replace(STAGE, step=partial(exits.step, filters=dict.fromkeys(NAMES, RULES), rests={})), settings)


if __name__ == "__main__":
    main()
