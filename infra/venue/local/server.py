"""`python -m infra.venue.local`: the local exchange as a process.

Logs JSON lines to stderr and prints nothing else. Exit codes: 0 after SIGTERM or SIGINT, 2 for a user's mistake.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import uvloop

from infra.errors import UserError
from infra.paths import run_dir
from infra.ports import is_taken
from infra.venue.local.account import START_BALANCE
from infra.venue.local.auth import Keys
from infra.venue.local.market import open_source
from infra.venue.local.runtime import Exchange, JsonLines


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.venue.local", description="A local exchange that speaks Binance USD-M.")
    parser.add_argument("--host", default="127.0.0.1", help="address for REST and WebSocket; control stays on this machine")
    parser.add_argument("--port", type=int, default=18090, help="REST and WebSocket (default 18090)")
    parser.add_argument("--control-port", type=int, default=18091, help="pause, log, audit, faults (default 18091)")
    parser.add_argument("--market", default="synthetic", help="synthetic, ticks:PATH or candles:PATH")
    parser.add_argument("--speed", type=float, default=300.0, help="market seconds a second (default 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--symbols", default="", help="comma-separated; default: all the market has")
    parser.add_argument("--data-dir", type=Path, help="state that survives restarts (default: exchange/ in the run directory)")
    parser.add_argument("--fresh", action="store_true", help="forget the state in the data directory")
    parser.add_argument("--balance", type=_amount, default=START_BALANCE, help="start balance in USDT")
    parser.add_argument(
        "--children",
        choices=("compete", "free"),
        default="compete",
        help="compete: a triggered reduce-only stop is rejected when resting reduce-only orders cover the position",
    )
    parser.add_argument(
        "--limits", choices=("real", "off"), default="real", help="real: request weights and order counts end in 429 and 418"
    )
    return parser.parse_args(argv)


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError("must be positive")
    return amount


async def run(options: argparse.Namespace) -> None:
    if options.speed <= 0:
        raise UserError("the exchange cannot start", f"speed {options.speed:g} is not positive", "choose a --speed above 0")
    for port, option in ((options.port, "--port"), (options.control_port, "--control-port")):
        if is_taken(port):  # asked before the data directory is touched
            raise UserError(
                "the exchange cannot start", f"port {port} is in use", f"stop what listens there or choose another {option}"
            )
    names = [name.strip().upper() for name in options.symbols.split(",") if name.strip()] or None
    source = open_source(options.market, seed=options.seed, symbols=names)
    exchange = Exchange(
        source,
        speed=options.speed,
        keys=Keys(os.environ.get("QT_LOCAL_API_KEY", "local-key"), os.environ.get("QT_LOCAL_API_SECRET", "local-secret")),
        balance=options.balance,
        directory=options.data_dir or run_dir() / "exchange",
        identity={"market": options.market, "seed": options.seed, "symbols": [s.name for s in source.symbols]},
        fresh=options.fresh,
        children_compete=options.children == "compete",
        limits=options.limits == "real",
        seed=options.seed,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, exchange.stopping.set)
    await exchange.serve(options.port, options.control_port, host=options.host)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        uvloop.run(run(options))
    except UserError as mistake:
        logging.getLogger(__name__).error(str(mistake), extra={"what": mistake.what, "why": mistake.why, "do": mistake.do})
        return 2
    return 0
