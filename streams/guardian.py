"""guardian: the exchange against itself. Every position has a stop, every order of ours a position; what has not is put right.

A process, a client and a user stream of its own; it plans from the exchange alone and needs neither Kafka nor any other worker.
While the log is there it knows policy and plans too, and keeps what it knew when the log goes. It places only closePosition stops
(a quantity stop while it replaces one that does not protect) and reduce-only closes. What it does is reported to guardian.reports,
when the log is there. It looks at everything every `guardian_sweep_s`, at an instrument when the stream names it, and again when a
grace runs out; how long what stood without a stop it measures by the stream (streams/measure.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from infra import logs
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.sockets import Socket, user_stream
from infra.venue.port import Meaning, OrderRequest, OrderSeen, StopRequest, VenueError
from processors.exposure import Ended
from processors.filters import Filters
from processors.guardian import CancelOrphan, Close, PlaceStop, Seen, inspect
from processors.protection import Held, Resting, covered, protects
from schemas.ids import Purpose, client_id, event_id
from schemas.operations import GuardianReport
from schemas.policy import Policy
from schemas.trading import OrderType
from streams.loop import Loop, run_loop
from streams.measure import Measure
from streams.plans import PlanReader
from streams.policy import PolicyReader
from streams.recovery import held as held_of
from streams.recovery import resting as resting_of
from streams.silence import Silence

log = logs.get(__name__)

LOOK_S = 1.0
"""Between two looks: the answer to one order is several events, and every look costs request weight."""
FULL_EVERY = 6
"""Every so many sweeps all orders are listed (80 of weight); between, those of the instruments that we know (2 each)."""
FEW = 40
STALE_SWEEPS = 3
LATE_S = 3.0
BARE_MS = 15_000
"""A position that no stop could be placed for is closed after so long."""
UNSENT = 10_000
"""Reports kept in memory while the log is away."""


class Guardian:
    """`run()` until cancelled."""

    def __init__(self, loop: Loop, venue: BinanceUsdm, policy: Policy) -> None:
        self.sweeps = 0
        self.placed = 0
        self.closed = 0
        self.orphans = 0
        self.swaps = 0
        self.failures = 0
        self.swept_at: float | None = None
        self._loop = loop
        self._settings = loop.settings
        self._venue = venue
        self._first_policy = policy
        self._policies = PolicyReader(self._settings.bootstrap)
        self._plans = PlanReader(self._settings)
        self.measure = Measure(self._say_protected)
        self._filters: dict[str, Filters] = {}
        self._seen = Seen()
        self._silence = Silence()
        self._known: set[str] = set()
        self._touched: set[str] = set()
        self._everything = True
        self._again: float | None = None
        self._wake = asyncio.Event()
        self.stream: Socket = user_stream(self._settings, venue)

    @property
    def naked(self) -> Mapping[str, float]:
        """Instruments without a stop, with the seconds since that was first seen."""
        now = _now_ms()
        return {name: (now - since) / 1000 for name, since in self._seen.naked.items()}

    @property
    def policy(self) -> Policy:
        """The log's while it has told one, else the file's."""
        version, policy = self._policies.current()
        return policy if version else self._first_policy

    @property
    def alert(self) -> bool:
        """A position has been without a stop for longer than it takes to give it one, or nobody looks."""
        late_s = self.policy.exits.grace_s + LATE_S
        return bool(self.problems()) or any(seconds > late_s for seconds in self.naked.values())

    def problems(self) -> list[str]:
        patience_s = STALE_SWEEPS * self._settings.guardian_sweep_s
        if self.swept_at is None:
            return ["nothing has been looked at yet"]
        age = time.monotonic() - self.swept_at
        return [f"the exchange was last looked at {age:.0f} s ago"] if age > patience_s else []

    async def run(self) -> None:
        self._policies.start()
        self._plans.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._watch())

    async def close(self) -> None:
        self._policies.stop()
        self._plans.stop()
        await self.stream.close()

    # -- when to look

    async def _listen(self) -> None:
        async for batch in self.stream.batches():
            if not batch.messages:
                self._everything = True
                self._silence.forget()
            for event in batch.messages:
                self.measure.event(event, _now_ms())
                if isinstance(event, OrderSeen):
                    if event.fill is not None or not event.order.live:
                        self._touched.add(event.order.instrument)
                else:
                    for instrument, _ in event.quantities:
                        self._touched.add(instrument)
                        self._silence.told(instrument)
            self._wake.set()

    async def _watch(self) -> None:
        sweep_at = 0.0
        while True:
            now = time.monotonic()
            if self._everything or now >= sweep_at:
                self._everything = False
                every = self.sweeps % FULL_EVERY == 0 or len(self._known) > FEW
                done = await self._look(None if every else self._known)
                self.sweeps += done
                sweep_at = max(now + self._settings.guardian_sweep_s, time.monotonic()) if done else time.monotonic() + 1.0
            elif self._touched or (self._again is not None and _now_ms() >= self._again):
                touched, self._touched = self._touched, set()
                await self._look(touched)
            await self._sleep_until(sweep_at)

    async def _sleep_until(self, sweep_at: float) -> None:
        again = self._again / 1000 if self._again is not None else sweep_at
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(sweep_at, again) - time.monotonic())):
                await self._wake.wait()
                await asyncio.sleep(max(0.0, (self.swept_at or 0.0) + LOOK_S - time.monotonic()))
        self._wake.clear()

    # -- looking

    async def _look(self, wanted: set[str] | None) -> bool:
        """Reads the exchange and acts. `wanted` None: everything; else these, and whatever has a claim on us already."""
        try:
            if not self._filters:
                self._filters = await self._read_filters()
            held = [held_of(position) for position in await self._venue.positions()]
            names = {position.instrument for position in held}
            if wanted is None:
                orders = await self._resting()
                scope = names | {order.instrument for order in orders} | self._known
                self._known = names | {order.instrument for order in orders}
            else:
                waiting = set(self._seen.naked) | {name for name, _ in self._seen.orphans.values()}
                scope = wanted | waiting | (names - self._known)
                names_asked = sorted(scope) if len(scope) <= FEW else ()  # of more of them, all orders weigh less than theirs
                orders = await self._resting(*names_asked) if scope else []
                self._known |= scope
        except VenueError as e:
            log.warning("the exchange cannot be looked at", why=str(e))
            self._touched |= wanted or set()
            self._again = _now_ms() + 1000
            return False
        self.swept_at = time.monotonic()
        if untold := self._silence.look({position.instrument: position.quantity * position.side.sign for position in held}):
            self.stream.doubt(f"it has not told what became of {', '.join(sorted(untold))}")
        plans = self._plans.known()
        finding = inspect(scope, held, orders, _now_ms(), self._seen, self.policy, self._filters, plans)
        self._seen = finding.seen
        self.measure.look(scope, held, orders, finding.seen.naked, _now_ms())
        soon = [_now_ms() + LOOK_S * 1000] if self._silence.waits else []
        self._again = min([*soon, *([finding.again_ms] if finding.again_ms is not None else [])], default=None)
        by_instrument: dict[str, list[PlaceStop | Close | CancelOrphan]] = {}
        for action in finding.actions:
            name = action.order.instrument if isinstance(action, CancelOrphan) else action.held.instrument
            by_instrument.setdefault(name, []).append(action)
        await asyncio.gather(*(self._act(actions) for actions in by_instrument.values()))
        return True

    async def _resting(self, *instruments: str) -> list[Resting]:
        """What can only reduce, of both books; without names of all instruments."""
        calls = [
            call(name) for name in (instruments or (None,)) for call in (self._venue.open_algo_orders, self._venue.open_orders)
        ]
        return resting_of([order for orders in await asyncio.gather(*calls) for order in orders])

    async def _read_filters(self) -> dict[str, Filters]:
        found = await self._venue.filters()
        return {
            name: Filters(
                each.tick, each.step, each.min_quantity, min(each.max_quantity, each.market_max_quantity), each.min_notional
            )
            for name, each in found.items()
        }

    # -- acting

    async def _act(self, actions: Iterable[PlaceStop | Close | CancelOrphan]) -> None:
        for action in actions:
            try:
                match action:
                    case PlaceStop():
                        await self._place(action)
                    case Close():
                        await self._close(action)
                    case CancelOrphan():
                        await self._cancel_orphan(action.order)
            except VenueError as e:
                self.failures += 1
                self._again = min(self._again or float("inf"), _now_ms() + 1000)
                log.error("could not be put right", action=type(action).__name__, why=str(e))
                if not isinstance(action, CancelOrphan):
                    self._report(action.held, "FAILED", str(e), action.client_id, action.since_ms)
                if isinstance(action, PlaceStop) and _now_ms() - action.since_ms > BARE_MS:
                    await self._act([await self._given_up(action, e)])

    async def _place(self, action: PlaceStop) -> None:
        held = action.held
        stop = StopRequest(held.instrument, held.side.closes_with, action.level, action.client_id)
        placed = "it rests already"
        try:
            placed = f"order {(await self._venue.place_algo(stop)).exchange_id}"
        except VenueError as e:
            match e.outcome.meaning:
                case Meaning.STOP_EXISTS:
                    await self._adopt_or_swap(action)
                    return
                case Meaning.WOULD_TRIGGER | Meaning.BOOK_FULL as meaning:
                    await self._close_instead(action, meaning)
                    return
                case Meaning.DUPLICATE_ID:
                    pass  # an earlier attempt of ours rests: that is what we want
                case _:
                    raise
        self.placed += 1
        self._report(held, "STOP_PLACED", f"at {action.level}, {placed}", action.client_id, action.since_ms)

    async def _given_up(self, action: PlaceStop, error: VenueError) -> Close:
        """The exchange takes no stop: the position is closed while it takes that."""
        why = f"no stop was taken for {(_now_ms() - action.since_ms) / 1000:.0f} s: {error}"
        try:
            return await self._instead(action, why)
        except VenueError:
            return Close(action.held, _close_id(action.held), (), why, action.since_ms)

    async def _close_instead(self, action: PlaceStop, meaning: Meaning) -> None:
        why = "the level has been passed" if meaning is Meaning.WOULD_TRIGGER else "no stop can rest: too many"
        await self._close(await self._instead(action, why))

    async def _instead(self, action: PlaceStop, why: str) -> Close:
        resting = tuple(order for order in await self._resting(action.held.instrument) if not order.algo)
        return Close(action.held, _close_id(action.held), resting, why, action.since_ms)

    async def _adopt_or_swap(self, action: PlaceStop) -> None:
        """A closePosition stop rests already. It counts when it protects; else it makes way behind a quantity stop."""
        held = action.held
        resting = await self._resting(held.instrument)
        for order in resting:
            if order.close_position and protects(held, order, action.limits):
                self._report(held, "ADOPTED", f"stop at {order.price}", order.client_id, action.since_ms)
                return
        wrong = [order for order in resting if order.close_position and order.side is held.side.closes_with]
        if not covered(held, resting, action.limits):
            try:
                await self._hold(action)
            except VenueError as e:
                if e.outcome.meaning in (Meaning.WOULD_TRIGGER, Meaning.BOOK_FULL):
                    await self._close_instead(action, e.outcome.meaning)
                    return
                raise
        for order in wrong:
            await self._cancel(order)
        stop = StopRequest(held.instrument, held.side.closes_with, action.level, action.client_id)
        try:
            await self._venue.place_algo(stop)
        except VenueError as e:
            if e.outcome.meaning is not Meaning.STOP_EXISTS:
                raise  # the quantity stop holds; the next look sees it
        else:
            await self._cancel_named(held.instrument, action.swap_id)
        self.swaps += 1
        told = "; ".join(f"{order.type} at {order.price} ({order.client_id})" for order in wrong)
        self._report(held, "SWAPPED", f"stop at {action.level} instead of {told or 'none'}", action.client_id, action.since_ms)

    async def _hold(self, action: PlaceStop) -> None:
        """A reduce-only quantity stop at the level. Take-profits that leave it nothing to reduce are cancelled."""
        held = action.held
        filters = self._filters.get(held.instrument)
        quantity = min(held.quantity, filters.max_quantity) if filters else held.quantity
        stop = StopRequest(held.instrument, held.side.closes_with, action.level, action.swap_id, quantity)
        for last in (False, True):
            try:
                await self._venue.place_algo(stop)
            except VenueError as e:
                if e.outcome.meaning is Meaning.DUPLICATE_ID:
                    return  # an earlier attempt of ours rests
                if last or e.outcome.meaning not in (Meaning.NOTHING_TO_REDUCE, Meaning.REDUCE_ONLY_FULL):
                    raise
                for order in await self._resting(held.instrument):
                    if not order.algo:
                        await self._cancel(order)
            else:
                return

    async def _cancel_named(self, instrument: str, client: str) -> None:
        try:
            await self._venue.cancel_algo(instrument, client)
        except VenueError as e:
            if e.outcome.meaning is not Meaning.NO_SUCH_ORDER:
                raise

    async def _close(self, action: Close) -> None:
        """Take-profits first: a full ladder would leave the close nothing to reduce."""
        held = action.held
        for order in action.take_profits:
            await self._cancel(order)
        filters = self._filters.get(held.instrument)
        quantity = min(held.quantity, filters.max_quantity) if filters else held.quantity
        close = OrderRequest(held.instrument, held.side.closes_with, OrderType.MARKET, quantity, action.client_id, reduce_only=True)
        try:
            ack = await self._venue.place_order(close)
        except VenueError as e:
            if e.outcome.meaning not in (Meaning.NOTHING_TO_REDUCE, Meaning.REDUCE_ONLY_FULL):
                raise
            # it is flat, or somebody has placed take-profits meanwhile; if something is left, the next look sees it
            for order in await self._resting(held.instrument):
                if not order.algo:
                    await self._cancel(order)
            return
        self.closed += 1
        self._report(held, "CLOSED", f"{action.why}, order {ack.exchange_id}", action.client_id, action.since_ms)

    async def _cancel_orphan(self, order: Resting) -> None:
        await self._cancel(order)
        self.orphans += 1
        at = await self._venue.market_ms(order.instrument)
        self._say(order.instrument, at, "ORPHAN_CANCELED", f"{order.type} at {order.price}", order.client_id, 0.0, 0.0)

    async def _cancel(self, order: Resting) -> None:
        """Gone already is as good."""
        try:
            if order.algo:
                await self._venue.cancel_algo(order.instrument, order.client_id)
            else:
                await self._venue.cancel_order(order.instrument, order.client_id)
        except VenueError as e:
            if e.outcome.meaning is not Meaning.NO_SUCH_ORDER:
                raise

    # -- telling

    def _report(self, held: Held, action: str, detail: str, client: str, since_ms: float) -> None:
        unprotected_s = (_now_ms() - since_ms) / 1000
        notional = float(held.quantity * held.mark)
        log.warning("guardian", action=action, instrument=held.instrument, detail=detail, unprotected_s=round(unprotected_s, 3))
        self._say(held.instrument, held.at, action, detail, client, unprotected_s, notional)

    def _say_protected(self, ended: Ended, at: int, client: str) -> None:
        detail = f"a stop rests {ended.seconds:.3f} s after the fill"
        self._say(ended.instrument, at, "PROTECTED", detail, client, ended.seconds, ended.notional)

    def _say(self, instrument: str, at: int, action: str, detail: str, client: str, unprotected_s: float, notional: float) -> None:
        self._loop.counts.processed["actions"] += 1
        report = GuardianReport(
            event_id=event_id(GuardianReport.type_name(), instrument, action, client, at, detail),
            at=at,
            instrument=instrument,
            account=self._settings.account,
            action=action,
            detail=detail,
            client_id=client,
            unprotected_s=unprotected_s,
            notional=notional,
        )
        if self._loop.outlet.behind < UNSENT:
            self._loop.outlet.send([report])
        else:
            log.error("report not kept: the log has been away too long", report=report.model_dump(mode="json"))


def _close_id(held: Held) -> str:
    return client_id(Purpose.GUARDIAN, "passed", held.instrument, held.side, held.entry, held.at)


def _now_ms() -> float:
    return time.monotonic() * 1000


def first_policy(settings: Settings) -> Policy:
    """What counts before, or without, the log's word: the file's policy, else the default one."""
    if settings.policy_file is None:
        return Policy()
    try:
        return Policy.model_validate_json(settings.policy_file.read_text())
    except (OSError, ValueError) as e:
        log.error("the policy file cannot be used, protecting by the default policy", file=str(settings.policy_file), why=str(e))
        return Policy()


def metrics(guardian: Guardian) -> Mapping[str, float]:
    naked = guardian.naked
    return {
        "sweeps": guardian.sweeps,
        "stops_placed": guardian.placed,
        "closes": guardian.closed,
        "swaps": guardian.swaps,
        "orphans_canceled": guardian.orphans,
        "failures": guardian.failures,
        "unprotected_positions": len(naked),
        "unprotected_seconds": max(naked.values(), default=0.0),
        "unprotected_seconds_notional": guardian.measure.seconds_notional(_now_ms()),
        "fill_to_stop_seconds": guardian.measure.newest,
        "fill_to_stop_worst_seconds": guardian.measure.worst,
        "alert": float(guardian.alert),
        "socket_rebuilds": guardian.stream.rebuilds,
    }


def main(settings: Settings) -> None:
    run_loop("guardian", settings, work)


async def work(loop: Loop) -> None:
    async with BinanceUsdm(loop.settings, who="guardian") as venue:
        guardian = Guardian(loop, venue, first_policy(loop.settings))
        loop.tell(problems=guardian.problems, metrics=lambda: metrics(guardian), needs_log=False)
        try:
            await guardian.run()
        finally:
            await guardian.close()
