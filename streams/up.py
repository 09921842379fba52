"""`quantum up`: the stack in the foreground, one readable view, a clean end on Ctrl-C or after a time."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from infra.errors import UserError
from infra.settings import Settings, shown
from streams import report as reports
from streams.brakes import read_stop_file
from streams.commands import read_policy
from streams.launcher import Stack
from streams.status import look, one_line, table

PLAIN_EVERY_S = 5.0
LIVE_EVERY_S = 2.0


@dataclass(frozen=True)
class Options:
    for_s: float | None = None
    fresh: bool = False
    report: Path | None = None
    without: frozenset[str] = frozenset()


def run(settings: Settings, options: Options) -> bool:
    """True when everything adds up (or no report was asked for). Raises UserError for what a person can mend."""
    began = time.time()
    asked_to_stop: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked_to_stop.append(number)
        if len(asked_to_stop) > 2:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    def say(line: str) -> None:
        print(f"{time.time() - began:6.1f}s  {line}", flush=True)

    def asked() -> bool:
        return bool(asked_to_stop)

    check_market(settings.market)
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise UserError(
            f"the report cannot be written to {options.report}", "there is no such folder", "make it, or choose another path"
        )
    if settings.policy_file is not None:
        read_policy(settings.policy_file)
    with Stack(settings, fresh=options.fresh, without=options.without, say=say, interrupted=asked, began=began) as stack:

        def over() -> bool:
            return asked() or (options.for_s is not None and time.time() - (stack.opened or began) > options.for_s)

        stack.start()
        if stack.opened is None:
            say("stopped before the street was open")
            return True
        where = f"Kafka {settings.bootstrap}, ClickHouse {shown(settings.clickhouse)}, exchange {settings.exchange_url}"
        say(f"the street is open: {where}")
        if (stopped := read_stop_file(settings.stop_file)) is not None:
            say(f"entries are stopped by {settings.stop_file} ({stopped}): `quantum resume` lifts it")
        view = View(settings, stack, began, say)
        stack.watch(over, view)
        view.end()
        stack.drain()
        if options.report is None:
            say("stopped; with --report FILE a run says whether it adds up")
            return True
        found = reports.make(stack)
        try:
            options.report.write_text(json.dumps(found, indent=2) + "\n")
        except OSError as e:
            raise UserError(f"the report cannot be written to {options.report}", str(e.strerror), "choose another path") from e
        for failure in found["failures"]:
            say(f"does not add up: {failure}")
        say("everything adds up" if not found["failures"] else f"{len(found['failures'])} things do not add up")
        say(f"report: {options.report}")
        return not found["failures"]


def check_market(spec: str) -> None:
    """What can be said before anything starts. Raises UserError."""
    kind, _, place = spec.partition(":")
    if kind not in ("synthetic", "ticks", "candles") or bool(place) == (kind == "synthetic"):
        raise UserError(f"no market {spec!r}", "there is none of that name", "want synthetic, ticks:PATH or candles:PATH")
    missing = [part for part in place.split(",") if part and not Path(part).exists()]
    if missing:
        raise UserError(f"{missing[0]} cannot be read", "there is no such file", "name a recording that exists")


class View:
    """One screen that redraws on a terminal, plain lines elsewhere. Built from outside the workers, as `quantum status`."""

    def __init__(self, settings: Settings, stack: Stack, began: float, say: Callable[[str], None]) -> None:
        self.settings, self.stack, self.began, self.say = settings, stack, began, say
        self.live = sys.stdout.isatty()
        self.looked = 0.0
        self.drawn = 0
        self.looking: threading.Thread | None = None

    def __call__(self) -> None:
        """Looks beside whoever calls: he tends the workers, and a silent broker takes its time to answer."""
        if time.time() - self.looked < (LIVE_EVERY_S if self.live else PLAIN_EVERY_S):
            return
        if self.looking is not None and self.looking.is_alive():
            return
        self.looked = time.time()
        self.looking = threading.Thread(target=self._look, name="view", daemon=True)
        self.looking.start()

    def end(self) -> None:
        """No line comes any more."""
        if self.looking is not None:
            self.looking.join(5.0)

    def _look(self) -> None:
        try:
            seen = look(self.settings, ports={w.name: getattr(w.server, "ready_url", "") for w in self.stack.workers()})
        except UserError as e:
            self.say(f"no status: {e.what}, {e.why}")
            return
        if not self.live:
            self.say(one_line(seen))
            return
        lines = [f"{time.time() - self.began:.0f} s, restarts {self.stack.restarts}. Ctrl-C drains and stops.", *table(seen)]
        print(f"\x1b[{self.drawn}F\x1b[J" if self.drawn else "", end="")
        print("\n".join(lines), flush=True)
        self.drawn = len(lines)
