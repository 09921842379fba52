"""`quantum bench matrix`: the cases in rounds, many at once, each on an instrument of its own; judged by the exchange and the log.

A round: positions for the cases that close; gates and faults; the intents; when all stand at their boundaries, the worker of the
even partitions is killed and that of the odd ones frozen, longer than its session (or account and positions, one after the other);
then everything goes on, and every case must come right.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from infra.venue.binance.filters import instrument_of
from processors import order_ids
from schemas.ids import Purpose, client_id
from schemas.trading import Entry, Exit, ExitAction, ExitReason, OrderType
from schemas.units import OrderSide, Side
from streams.bench.entries import entry
from streams.bench.matrix.cases import Case, matrix, must_hold, plans
from streams.bench.matrix.exchange import EACH, PRICE
from streams.bench.matrix.street import Seen, Street, Waits
from streams.desk import TOO_LATE

QUANTITY = Decimal("0.10")
STOP = Decimal("97.50")
SCALED = 1 / 3
"""As short as the broker lets a session be."""


def run(
    cases: Sequence[Case] | None = None, *, scale: float = SCALED, mutant: str = "", say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """{"passed", "of", "failed": {case: why}, "late", "seconds"}; `cases` None: all. On a street of its own.

    `late`: cases whose entry was refused because this machine was too slow for the scaled waits; nothing else of them is excused.
    """
    with (
        tempfile.TemporaryDirectory(prefix="quantum-matrix-") as directory,
        Street(Path(directory), Waits(scale), mutant) as street,
    ):
        return play(street, cases, scale=scale, say=say)


def play(
    street: Street, cases: Sequence[Case] | None = None, *, scale: float = SCALED, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The same on a street that is there."""
    began = time.monotonic()
    chosen = list(matrix() if cases is None else cases)
    failed: dict[str, str] = {}
    late = 0
    for number, found in enumerate(rounds(chosen)):
        took = time.monotonic()
        bad, slow = Round(street, number, found).run()
        failed |= bad
        late += slow
        say(f"round {number + 1}: {len(found) - len(bad)} of {len(found)}, {time.monotonic() - took:.0f} s")
    restarts = sum(member.restarts for member in street.members)
    return {
        "passed": len(chosen) - len(failed),
        "of": len(chosen),
        "failed": failed,
        "late": late,
        "restarts": restarts,
        "scale": round(scale, 3),
        "seconds": round(time.monotonic() - began, 1),
    }


def sample(n: int, seed: int) -> list[Case]:
    return sorted(random.Random(seed).sample(matrix(), min(n, len(matrix()))))


def rounds(cases: Sequence[Case]) -> list[list[Case]]:
    """Of execution: as many of both disturbances as there are instruments. Of the others: one boundary of each worker at a time."""
    mine = {d: [c for c in cases if c.worker == "execution" and c.disturbance == d] for d in ("kill", "freeze")}
    found = []
    for i in range(0, max(map(len, mine.values())), EACH):
        found.append(mine["kill"][i : i + EACH] + mine["freeze"][i : i + EACH])
    for pair in (("fill.heard", "position.read"), ("fill.written", "position.decided")):
        for disturbance in ("kill", "freeze"):
            these = [c for c in cases if c.boundary in pair and c.disturbance == disturbance]
            if these:
                found.append(these)
    return found


class Play:
    """A case on its instrument, with the intents that it consists of."""

    def __init__(self, case: Case, symbol: str, number: int) -> None:
        self.case, self.symbol, self.instrument = case, symbol, instrument_of(symbol)
        self.key = f"{symbol}-{number}"
        self.ids = {
            "entry": client_id(Purpose.ENTRY, self.key),
            "stop": client_id(Purpose.STOP, self.key),
            "close": client_id(Purpose.CLOSE, self.key),
        }
        self.attempts = {first: [order_ids.attempt_id(first, n) for n in range(1, 9)] for first in self.ids.values()}

    def entry(self) -> Entry:
        return entry(
            self.key, self.instrument, order_type=OrderType.MARKET, quantity=QUANTITY, reference_price=PRICE, stop_price=STOP
        )

    def close(self) -> Exit:
        return Exit(
            event_id=f"exit-{self.key}",
            at=1,
            instrument=self.instrument,
            account="sim",
            action=ExitAction.CLOSE,
            reason=ExitReason.MANUAL,
            detail="",
            position_id="p",
            plan_id="p",
            plan_revision=1,
            side=Side.LONG,
            client_id=self.ids["close"],
            quantity=QUANTITY,
            policy_version=1,
        )

    def intent(self) -> Entry | Exit:
        """What the case is about."""
        return self.close() if self.case.leg == "close" else self.entry()

    def wrong(self, seen: Seen) -> str:
        """What does not hold; empty: all does."""
        for name, first in self.ids.items():
            if (n := seen.exist(self.attempts[first])) > 1:
                return f"{n} orders exist for one {name}"
            if seen.unannounced(self.attempts[first]):
                return f"the {name} was sent without its line in the outbox"
        if not (seen.net == seen.filled == seen.position):
            return f"the exchange holds {seen.net}, fills add up to {seen.filled}, the position is {seen.position}"
        if not seen.protected:
            return f"a position of {seen.net} without a stop"
        wanted = {"open": QUANTITY, "flat": Decimal(0), "any": seen.net}[must_hold(self.case)]
        if seen.net != wanted and not (seen.net == 0 and self.late(seen)):
            return f"the exchange holds {seen.net} instead of {wanted}"
        open_ = {
            first: state for first, state in seen.last_states(self.attempts).items() if state in ("SENDING", "UNKNOWN", "PLANNED")
        }
        if seen.net and open_:
            return f"not settled: {open_}"
        return ""

    def late(self, seen: Seen) -> bool:
        """Its entry took longer from its proof to the exchange than its window: the machine is too busy for such short waits."""
        return TOO_LATE in seen.refusals(self.attempts[self.ids["entry"]])


class Round:
    def __init__(self, street: Street, number: int, cases: Sequence[Case]) -> None:
        self.street = street
        even, odd = list(street.even), list(street.odd)
        self.plays = []
        for case in cases:
            kind = even if (case.disturbance == "kill") == (case.worker == "execution") or not odd else odd
            self.plays.append(Play(case, (kind or even or odd).pop(), number))

    def run(self) -> tuple[dict[str, str], int]:
        """{case: why it failed}, and how many entries came too late."""
        street, waits = self.street, self.street.waits
        street.all_ready()
        street.read_exchange()
        after = len(street.records)
        closing = [play for play in self.plays if play.case.leg == "close"]
        street.write(*(play.entry() for play in closing))
        self._settle(closing, after, lambda play, seen: bool(seen.net) and seen.protected and not _apart(seen), 60)
        for play in self.plays:
            street.gate(play.symbol, play.case.boundary)
            for body in plans(play.case, play.symbol, play.ids[play.case.leg]):
                street.control("POST", "faults", **body)
        street.write(*(play.intent() for play in self.plays))
        for worker in ("execution", "account", "positions"):
            mine = [play for play in self.plays if play.case.worker == worker]
            if mine:
                self._wait_at_boundaries(mine, all_=worker == "execution")
                self._disturb(worker, {play.case.disturbance for play in mine})
        street.open_gates()
        street.all_ready()
        self._say_again()
        bad = self._settle(self.plays, after, lambda play, seen: not play.wrong(seen), 30 * waits.session_s)
        street.control("DELETE", "faults")
        late = sum(play.case.fault != "-1021" and play.late(Seen(street, play.symbol, after)) for play in self.plays)
        self._flatten(after)
        return bad, late

    def _say_again(self) -> None:
        """Intents stand in the log twice: again when all of it has been done, and read before anybody judges."""
        twice = [play for play in self.plays if play.case.fault == "intent-twice"]
        if twice:
            self.street.write(*(play.intent() for play in twice))
            self.street.until(self.street.intents_are_read, 30)
            self.street.until(lambda: False, self.street.waits.session_s / 2)

    def _wait_at_boundaries(self, plays: list[Play], *, all_: bool) -> None:
        """Until all stand (or the first, where one stops the whole worker); a fault may keep a case from its boundary for good."""
        street = self.street
        seen, news = 0, time.monotonic()
        patience_s = 1.5 * street.waits.timeout_s + 2.0

        def arrived() -> bool:
            nonlocal seen, news
            n = sum(street.reached(play.symbol) for play in plays)
            if n > seen:
                seen, news = n, time.monotonic()
            return n == len(plays) or (n > 0 and not all_) or time.monotonic() - news > patience_s

        street.until(arrived, 120)

    def _disturb(self, worker: str, kinds: set[str]) -> None:
        """Even partitions are killed, odd ones frozen; the frozen wake when all that they held may have been taken over."""
        street = self.street
        if any(play.case.fault == "stream-drop" for play in self.plays):
            street.control("POST", "faults", kind="ws-abort", route="user")
        frozen = [street.member(worker, 1 if worker == "execution" else 0)] if "freeze" in kinds else []
        for member in frozen:
            member.freeze()
        if "kill" in kinds:
            street.member(worker).kill()
        for play in self.plays:
            if play.case.worker == worker:
                (street.gates / play.symbol).unlink(missing_ok=True)
        if frozen:
            street.until(lambda: False, street.waits.freeze_s)
        for member in frozen:
            member.thaw()

    def _settle(self, plays: list[Play], after: int, good: Callable[[Play, Seen], bool], patience_s: float) -> dict[str, str]:
        left = list(plays)

        def done() -> bool:
            self.street.read_exchange()
            left[:] = [play for play in left if not good(play, Seen(self.street, play.symbol, after))]
            if left:
                time.sleep(0.2)
            return not left

        self.street.until(done, patience_s)
        return {play.case.name: play.wrong(Seen(self.street, play.symbol, after)) or "never came right" for play in left}

    def _flatten(self, after: int) -> None:
        """By another hand, so that the next round finds the instruments empty."""
        street = self.street
        for play in self.plays:
            net = Seen(street, play.symbol, after).net
            if net:
                street.hand(play.symbol, OrderSide.SELL if net > 0 else OrderSide.BUY, abs(net))
        self._settle(self.plays, after, lambda play, seen: not seen.net and not _apart(seen), 30)


def _apart(seen: Seen) -> bool:
    return not (seen.net == seen.filled == seen.position)
