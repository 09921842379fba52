"""What our order path costs above the bare client: one run of the real execution worker, real broker, real exchange over sockets.

    python -m streams.bench.order_path FILE      the worker, which writes one line of figures an order

Of each order, in seconds: from the moment when the stage takes the intent until the library's request has its answer; within it the
request itself (that is the bare client) and the waits for the log (the proof of ownership, and SENDING). The overhead is the whole
without the request, and, for the figure without the durable write, without those waits.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra import logs
from infra.errors import UserError
from infra.settings import load
from infra.venue.binance.budget import Budget
from infra.venue.binance.filters import instrument_of
from processors.intents import Intent
from processors.step import Context, Step
from schemas.trading import Entry, OrderType
from streams.app import run_stage
from streams.bench.entries import entry
from streams.bench.matrix.exchange import PRICE
from streams.bench.matrix.street import Street, Waits
from streams.desk import Desk
from streams.envelope import Cause
from streams.execution import STAGE
from streams.stage import Outbox

BESIDE_S = 0.02
"""Between two orders of the latency part: one at a time."""
LIMIT = Decimal("97.00")
LIMIT_S = 120.0
MANY = 10**6


def order_path_part(n: int = 1000, burst: int = 2000) -> dict[str, Any]:
    """{"overhead_p50_ms", "overhead_p99_ms", "overhead_durable_p99_ms", "orders_per_s", and what they come from}."""
    with tempfile.TemporaryDirectory(prefix="quantum-bench-") as directory:
        figures = Path(directory) / "orders.jsonl"
        figures.touch()
        argv = ["streams.bench.order_path", str(figures)]
        with Street(Path(directory) / "street", Waits(1.0), workers=(("execution", 0),), argv=lambda name: argv) as street:
            names = street.even + street.odd
            _play(street, figures, "warm", len(names), 0.005)  # the first order of an instrument sets its leverage
            one_by_one = _play(street, figures, "one", n, BESIDE_S)
            at_once = _play(street, figures, "burst", burst, 0.0)
    whole = [row["whole"] - row["request"] for row in one_by_one]
    light = [row["whole"] - row["request"] - row["log"] for row in one_by_one]
    bare = [row["request"] for row in one_by_one]
    took = max(row["at"] for row in at_once) - min(row["at"] - row["whole"] for row in at_once)
    return {
        "overhead_p50_ms": _ms(light, 0.50),
        "overhead_p99_ms": _ms(light, 0.99),
        "overhead_durable_p50_ms": _ms(whole, 0.50),
        "overhead_durable_p99_ms": _ms(whole, 0.99),
        "orders_per_s": round(len(at_once) / took),
        "bare_client_p50_ms": _ms(bare, 0.50),
        "bare_client_p99_ms": _ms(bare, 0.99),
        "orders": len(one_by_one),
        "burst": len(at_once),
    }


def _play(street: Street, figures: Path, kind: str, n: int, pause_s: float) -> list[dict[str, Any]]:
    """`n` limit orders far from the market, spread over all instruments."""
    names = street.even + street.odd
    before = len(figures.read_text().splitlines())
    intents = [_entry(f"{kind}-{i}", instrument_of(names[i % len(names)])) for i in range(n)]
    if pause_s:
        for intent in intents:
            street.write(intent)
            time.sleep(pause_s)
    else:
        street.write(*intents)
    if not street.until(lambda: len(figures.read_text().splitlines()) >= before + n, LIMIT_S):
        raise UserError("the bench gave up", f"{n} orders were not sent within {LIMIT_S:.0f} s", "look whether the machine is busy")
    rows = [json.loads(line) for line in figures.read_text().splitlines()[before : before + n]]
    if unsent := sum(not row["request"] for row in rows):
        raise UserError("the bench measured nothing", f"{unsent} of {n} orders never left the house", "see the worker's log")
    return rows


def _entry(key: str, instrument: str) -> Entry:
    return entry(
        key,
        instrument,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.10"),
        limit_price=LIMIT,
        reference_price=PRICE,
        stop_price=Decimal("80.00"),
    )


def _ms(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 2)


# -- the worker


@dataclass
class Clock:
    """Of one order. `log_s`: waited for the log before the request; `request_s` its own time; `end` when it was answered."""

    log_s: float = 0.0
    request_s: float = 0.0
    end: float = 0.0


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


class TimedOutbox:
    """The stage's outbox, with the waits counted."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.policy, self.is_current = outbox.policy, outbox.is_current

    async def send_now(self, event: Any, cause: Cause | None = None) -> None:
        await self._timed(self._outbox.send_now(event, cause))

    async def prove_ownership(self, partition: int) -> None:
        await self._timed(self._outbox.prove_ownership(partition))

    async def _timed(self, call: Awaitable[None]) -> None:
        began = time.perf_counter()
        await call
        clock = _clock.get()
        if clock is not None and not clock.end:
            clock.log_s += time.perf_counter() - began


class TimedDesk(Desk):
    def __init__(self, settings: Any, figures: Path, taken: dict[str, float]) -> None:
        super().__init__(settings)
        self._figures = figures.open("a", buffering=1)
        self._taken = taken

    def attach(self, outbox: Outbox) -> None:
        self._venue.budget = Budget(1.0, self._settings.weight_limit, orders=MANY)  # as the bench's exchange, which refuses none
        super().attach(TimedOutbox(outbox))
        rest = self._venue.rest
        request: Callable[..., Awaitable[Any]] = rest._request_futures_api

        async def timed(method: str, path: str, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return await request(method, path, *args, **kwargs)
            finally:
                clock = _clock.get()
                if clock is not None and path == "order":
                    clock.end = time.perf_counter()
                    clock.request_s = clock.end - began

        rest._request_futures_api = timed

    async def _send(self, key: str, intent: Intent) -> None:
        clock = Clock()
        _clock.set(clock)
        began = self._taken.pop(intent.client_id, time.perf_counter())
        await super()._send(key, intent)
        row = {"at": clock.end, "whole": clock.end - began, "request": clock.request_s, "log": clock.log_s}
        self._figures.write(json.dumps(row) + "\n")


def main(figures: Path) -> None:
    settings = load()
    logs.configure("execution", settings.log_level, ())
    taken: dict[str, float] = {}

    def step(state: Any, event: Any, context: Context) -> Step[Any]:
        if isinstance(event, Entry):
            taken[event.client_id] = time.perf_counter()
        return STAGE.step(state, event, context)

    run_stage(replace(STAGE, step=step, observer=TimedDesk(settings, figures, taken)), settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
