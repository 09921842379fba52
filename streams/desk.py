"""The desk: does what the order state machine says is due, one task an order, so that one hanging call stops nobody else.

    work(state) -> SEND     prove ownership -> SENDING, acknowledged by the log -> the call -> ACKED | REFUSED | UNKNOWN
                -> RESOLVE  ask the exchange by client id until it is known or proven absent
                -> ABANDON  say so

Tasks never touch state: they say `Order` events to `trade.orders`, which the stage folds. Between saying and folding the desk works
on its own view, the state plus what it has said. Nothing frozen can order late: the time before the ownership proof signs the
request, and the exchange refuses it once the window has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import Ack, Book, Meaning, OrderRequest, Outcome, OutcomeKind, StopRequest, VenueError, VenueOrder
from processors import execution, intents
from processors.brakes import Held, Known, hold
from processors.execution import State, Todo, Work
from processors.intents import Intent
from processors.protection import STOP_TYPES
from schemas import topics
from schemas.ids import Purpose, partition_of
from schemas.policy import Execution
from schemas.trading import Order, OrderState
from schemas.units import OrderSide
from streams.absence import Sought, seek
from streams.brakes import BrakeReader, Brakes
from streams.ending import end_if_failed
from streams.envelope import Cause
from streams.recovery import naked
from streams.sender import Undelivered
from streams.stage import NotOwner, Outbox

log = logging.getLogger(__name__)

RECONCILE_S = 10.0
BRAKES_S = TIME_S = 0.05
WITHDRAW_S = 0.5
RECOVER_S = 1.0
FEW = 20
"""Instruments up to which the books are read one by one: 2 of weight each instead of 80."""
GONE_AFTER = 2
"""Looks at the books that deny a stop, as its own query does, before it counts as gone: somebody else's that we took for ours."""
JUST_SAID_S = 2.0
"""An order younger than this may not be in the exchange's lists yet."""
TOO_LATE = -1021
ABSENT_AFTER = 3
"""Answers "no such order", after the window, that prove an entry absent."""
AGAIN_S = (0.05, 0.2, 0.5, 1.0, 2.0)


class Desk:
    """An Observer of the execution stage (streams/stage.py)."""

    def __init__(self, settings: Settings, brakes: Brakes | None = None) -> None:
        """`brakes`: by default what the log and the stop file say."""
        self._settings = settings
        self._venue = BinanceUsdm(settings, who="execution")
        self._outbox: Outbox | None = None
        self._live: set[int] = set()
        self._views: dict[str, State] = {}
        self._said: dict[str, list[Order]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._acked: dict[str, float] = {}
        self._denied: Counter[str] = Counter()
        self._leverage: dict[str, int] = {}
        self._reconciler: asyncio.Task[None] | None = None
        self._protected = asyncio.Event()
        self._recovery: asyncio.Task[None] | None = None
        self._arrivals = 0
        self._brakes = brakes or BrakeReader(settings)
        self._watcher: asyncio.Task[None] | None = None

    # -- the stage's word

    def attach(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._venue.open()
        self._reconciler = asyncio.ensure_future(self._reconcile_for_ever())
        self._reconciler.add_done_callback(end_if_failed)
        self._brakes.start()
        self._watcher = asyncio.ensure_future(self._withdraw_what_is_held())
        self._watcher.add_done_callback(end_if_failed)

    def on_live(self, partition: int, states: Mapping[str, State]) -> None:
        self._live.add(partition)
        self._arrivals += 1
        self._protected.clear()
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.ensure_future(self._recover())
            self._recovery.add_done_callback(end_if_failed)
        for key, state in states.items():
            self.on_state(key, state)

    def on_state(self, key: str, state: State | None) -> None:
        if state is None or partition_of(key) not in self._live:
            self._views.pop(key, None)
            return
        left = []
        for order in self._said.get(key, ()):
            ahead = execution.fold(state, order)
            if ahead is not state:
                state = ahead
                left.append(order)
        self._said[key] = left
        self._views[key] = state
        self._start(key)

    def on_revoked(self, partition: int) -> None:
        """What has not been sent is dropped; what hangs in the air is the next owner's to resolve."""
        self._live.discard(partition)
        for key in [key for key in self._views if partition_of(key) == partition]:
            for intent in self._views.pop(key).intents.values():
                if (task := self._tasks.pop(intent.first_id, None)) is not None:
                    task.cancel()
            self._said.pop(key, None)

    async def close(self) -> None:
        """Ends all tasks; SENDING orders are resolved by whoever comes next."""
        tasks = [*self._tasks.values(), *(task for task in (self._reconciler, self._recovery, self._watcher) if task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._brakes.stop()
        await self._venue.close()

    # -- tasks

    @property
    def _policy(self) -> Execution:
        return self.outbox.policy()[1].execution

    @property
    def outbox(self) -> Outbox:
        assert self._outbox is not None, "attach first"
        return self._outbox

    def _start(self, key: str) -> None:
        for due in execution.work(self._views[key]):
            name = due.intent.first_id
            if name not in self._tasks:
                self._tasks[name] = asyncio.ensure_future(self._do(key, due))

    async def _do(self, key: str, due: Work) -> None:
        try:
            match due.todo:
                case Todo.SEND:
                    await self._send(key, due.intent)
                case Todo.RESOLVE:
                    await self._resolve(key, due.intent)
                case Todo.ABANDON:
                    await self._say(key, due.intent, OrderState.ABANDONED, reason=due.why)
        except (NotOwner, Undelivered) as e:
            # whoever is right, the broker or we: nothing in memory counts any more, and a successor begins from the log
            log.error("ownership of %s is not proven, or the log takes no word of it; this worker ends: %s", key, e)
            self.on_revoked(partition_of(key))
            signal.raise_signal(signal.SIGTERM)
        finally:
            self._tasks.pop(due.intent.first_id, None)
        if key in self._views:
            self._start(key)

    async def _say(
        self,
        key: str,
        intent: Intent,
        state: OrderState,
        *,
        sent_at: int | None = None,
        exchange_id: str | None = None,
        reason: str = "",
        code: int | None = None,
        filled: Decimal = intents.ZERO,
    ) -> None:
        at = self._views[key].market_at if key in self._views else 0
        order = intents.said(intent, state, at, sent_at=sent_at, exchange_id=exchange_id, reason=reason, code=code, filled=filled)
        await self._publish(key, intent, order)

    async def _publish(self, key: str, intent: Intent, order: Order) -> None:
        await self.outbox.send_now(order, Cause(intent.intent_id, intent.trace_id or intent.intent_id))
        if order.state is OrderState.ACKED:
            self._acked[intent.first_id] = time.monotonic()
        elif order.state.terminal:
            self._acked.pop(intent.first_id, None)
        if key in self._views:
            self._said.setdefault(key, []).append(order)
            self._views[key] = execution.fold(self._views[key], order)

    # -- sending

    async def _send(self, key: str, intent: Intent) -> None:
        if intent.attempt > 1:
            await asyncio.sleep(AGAIN_S[min(intent.attempt - 2, len(AGAIN_S) - 1)])
        if intent.entry:
            await self._brakes_are_known()
            if await self._given_up(key, intent):
                return
            await self._protected.wait()
            await self._time_is_known(key)
            if why := execution.over(intent, self._now()) or execution.stopped(intent, self._views.get(key, execution.State())):
                await self._say(key, intent, OrderState.ABANDONED, reason=why)
                return
            if not await self._leverage_is_set(key, intent) or await self._given_up(key, intent):
                return
        if intent.tightens and not await self._room_to_tighten(key, intent):
            return
        with contextlib.suppress(VenueError):  # the call finds the same, and what it finds is said
            await self._venue.clock_is_known()
        sent_at = self._venue.request_ms()
        await self.outbox.prove_ownership(partition_of(key))
        await self._say(key, intent, OrderState.SENDING, sent_at=sent_at)
        try:
            async with asyncio.timeout(self._policy.request_timeout_s):
                ack = await self._call(intent, sent_at)
        except VenueError as e:
            await self._refused(key, intent, e.outcome)
            return
        except TimeoutError:
            await self._refused(key, intent, Outcome(OutcomeKind.UNKNOWN, None, "no answer in time"))
            return
        if intent.cancels is not None:
            await self._say(key, intent, OrderState.CANCELED, reason="done")
        else:
            assert ack is not None
            await self._say(key, intent, OrderState.ACKED, exchange_id=ack.exchange_id)

    async def _time_is_known(self, key: str) -> None:
        """Until a mark has been read that was written since we came. What the states know may be the time before an outage."""
        while not self.outbox.is_current(topics.MARKET_MARKS.name, partition_of(key)):  # noqa: ASYNC110 - the stage reads it
            await asyncio.sleep(TIME_S)

    def _now(self) -> int:
        """Venue time, by the marks of any instrument: its own may have fallen silent."""
        return max((view.market_at for view in self._views.values()), default=0)

    # -- the brakes: no way leads from here to an exit

    async def _brakes_are_known(self) -> None:
        """Until the log's word on them has been read once: what may be stopped is not sent."""
        while not self._brakes.ready:  # noqa: ASYNC110 - a thread reads the log
            await asyncio.sleep(BRAKES_S)

    async def _given_up(self, key: str, intent: Intent) -> bool:
        """What is held back now is not sent later: the market will be another one."""
        held = self._held_back(intent)
        if held is not None:
            await self._say(key, intent, OrderState.ABANDONED, reason=f"{held.reason}: {held.detail}")
        return held is not None

    def _held_back(self, intent: Intent, known: Known | None = None) -> Held | None:
        """`known`: the brakes, where they have just been looked at."""
        opening = intents.opening(intent)
        return hold(opening, known or self._brakes.known()) if opening is not None else None

    async def _withdraw_what_is_held(self) -> None:
        """Entries that rest when a brake is pulled are cancelled: the exchange's word of it ends them in our books."""
        while True:
            await asyncio.sleep(WITHDRAW_S)
            known = self._brakes.known()
            resting = [
                (key, intent)
                for key, view in list(self._views.items())
                for intent in view.intents.values()
                if intent.state is OrderState.ACKED and self._held_back(intent, known) is not None
            ]
            for key, intent in resting:
                try:
                    await self._venue.cancel_order(key, intent.client_id)
                except VenueError as e:
                    if e.outcome.meaning is not Meaning.NO_SUCH_ORDER:
                        log.warning("a held entry is not withdrawn yet", extra={"client_id": intent.client_id, "why": str(e)})

    async def _room_to_tighten(self, key: str, intent: Intent) -> bool:
        """Waits while orders are scarce. False when it is not due any more: it was cancelled meanwhile."""
        await self._venue.room_to_tighten()
        view = self._views.get(key)
        due = execution.work(view) if view is not None else []
        return any(work.todo is Todo.SEND and work.intent.first_id == intent.first_id for work in due)

    async def _recover(self) -> None:
        """With every partition that becomes ours: entries open when no position is without a stop."""
        told: list[str] = []
        while True:
            arrivals = self._arrivals
            try:
                found = await naked(self._venue, self.outbox.policy()[1])
            except VenueError as e:
                found = [str(e)]
            if not found and arrivals == self._arrivals:
                self._protected.set()
                return
            if found and found != told:
                told = found
                log.warning("entries wait until every position is protected", extra={"without": found})
            await asyncio.sleep(RECOVER_S if found else 0)

    async def _leverage_is_set(self, key: str, intent: Intent) -> bool:
        if intent.leverage is None or self._leverage.get(key) == intent.leverage:
            return True
        try:
            await self._venue.set_leverage(key, intent.leverage)
        except VenueError as e:
            if e.outcome.meaning is not Meaning.ALREADY_SO:
                reason = f"leverage {intent.leverage} could not be set: {e.outcome.detail}"
                await self._say(key, intent, OrderState.REFUSED, reason=reason, code=e.outcome.code)
                return False
        self._leverage[key] = intent.leverage
        return True

    async def _call(self, intent: Intent, sent_at: int) -> Ack | None:
        """The one place where an order leaves the house."""
        window = self._policy.recv_window_ms
        if intent.cancels is not None:
            if intent.book == Book.ALGO:
                await self._venue.cancel_algo(intent.instrument, intent.cancels)
            else:
                await self._venue.cancel_order(intent.instrument, intent.cancels)
            return None
        if intent.book == Book.ALGO:
            assert intent.trigger_price is not None
            stop = StopRequest(
                intent.instrument,
                intent.side,
                intent.trigger_price,
                intent.client_id,
                None if intent.close_position else intent.quantity,
                intent.order_type,
            )
            return await self._venue.place_algo(stop, sent_at=sent_at, recv_window_ms=window)
        assert intent.quantity is not None
        order = OrderRequest(
            intent.instrument,
            intent.side,
            intent.order_type,
            intent.quantity,
            intent.client_id,
            intent.price,
            intent.reduce_only,
        )
        return await self._venue.place_order(order, sent_at=sent_at, recv_window_ms=window)

    async def _refused(self, key: str, intent: Intent, outcome: Outcome) -> None:
        """What a failed call means for the order. Only UNKNOWN leaves it open."""
        state, again = OrderState.REFUSED, False
        if outcome.code == TOO_LATE:  # we were frozen, or our clock is wrong: who is not the owner any more says nothing
            await self.outbox.prove_ownership(partition_of(key))
        match outcome.kind, outcome.meaning:
            case (_, Meaning.NOT_SENT):
                state = OrderState.ABANDONED
            case (_, Meaning.DUPLICATE_ID) | (OutcomeKind.UNKNOWN, _):
                state, again = OrderState.UNKNOWN, intent.cancels is not None
            case (_, Meaning.NO_SUCH_ORDER) if intent.cancels is not None:
                state = OrderState.CANCELED
            case (_, Meaning.STOP_EXISTS):
                if await self._adopted(key, intent):
                    return
                again = True
            case (_, Meaning.REDUCE_ONLY_FULL) if intent.purpose is Purpose.CLOSE and intent.cancels is None:
                await self._make_room(key, intent)
                again = True
            case (_, Meaning.REDUCE_ONLY_FULL) | (OutcomeKind.NOT_ACCEPTED_RETRY | OutcomeKind.FIX, _):
                again = not intent.entry
        if again:
            at = self._views[key].market_at if key in self._views else 0
            await self._publish(key, intent, intents.again(intent, at, outcome.detail, outcome.code))
        else:
            await self._say(key, intent, state, reason=outcome.detail, code=outcome.code)

    async def _make_room(self, key: str, close: Intent) -> None:
        """What rests and would reduce too, whoever placed it, leaves a close nothing to reduce."""
        try:
            for order in await self._venue.open_orders(key):
                if order.reduce_only and order.side is close.side:
                    await self._venue.cancel_order(key, order.client_id)
                    log.warning("cancelled for a close", extra={"order": order.client_id, "close": close.client_id})
        except VenueError as e:
            log.warning("no room for a close yet", extra={"client_id": close.client_id, "why": str(e)})

    async def _adopted(self, key: str, intent: Intent) -> bool:
        """A closePosition stop rests on that side already: it is our net when it is no wider than the wanted one."""
        try:
            resting = await self._venue.open_algo_orders(key)
        except VenueError:
            return False
        for order in resting:
            if (
                order.close_position
                and order.type in STOP_TYPES
                and order.side is intent.side
                and order.live
                and not _wider(order, intent)
            ):
                detail = f"adopted {order.client_id}"
                await self._say(key, intent, OrderState.ACKED, exchange_id=order.exchange_id, reason=detail)
                return True
        return False

    # -- resolving

    async def _resolve(self, key: str, intent: Intent) -> None:
        """Asks until the exchange knows the order, or denies it after the window in which it could still arrive.

        A close, or the net, is tried again after one denial: reduce-only and closePosition make a second one harmless.
        """
        policy = self._policy
        urgent = intent.cancels is not None or intent.purpose is Purpose.CLOSE or intent.close_position
        horizon_ms = (intent.sent_at or 0) + policy.recv_window_ms + policy.resolve_after_s * 1000
        denials, wait_s = 0, 0.25
        while denials < (ABSENT_AFTER if intent.entry else 1):
            if not urgent and (early_ms := horizon_ms - self._venue.request_ms()) > 0:
                await asyncio.sleep(early_ms / 1000)
            try:
                async with asyncio.timeout(policy.request_timeout_s):
                    found, proven = await self._look_for(intent)
            except (VenueError, TimeoutError) as e:
                log.warning("no answer to a query", extra={"client_id": intent.client_id, "why": str(e) or "in time"})
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 4.0)
                continue
            if found is not None:
                await self._found(key, intent, found)
                return
            denials = denials + 1 if proven else 0
            if denials < (ABSENT_AFTER if intent.entry else 1):
                await asyncio.sleep(policy.ask_every_s)
        view = self._views.get(key)
        at = view.market_at if view else 0
        if intent.cancels is not None:
            await self._say(key, intent, OrderState.CANCELED, reason="the order that it names is gone")
        elif intent.entry and intent.not_after is not None and at > intent.not_after:
            await self._say(key, intent, OrderState.ABANDONED, reason="never arrived, and its time is over")
        else:
            await self._publish(key, intent, intents.again(intent, at, "proven absent"))

    async def _look_for(self, intent: Intent) -> Sought:
        """By its client id, and where that is denied, among the newest of its instrument."""
        found = await self._query(intent)
        if found is not None or intent.cancels is not None:
            return Sought(found, proven=found is None)
        return await seek(self._venue, intent)

    async def _query(self, intent: Intent) -> VenueOrder | None:
        name = intent.cancels or intent.client_id
        if intent.book == Book.ALGO:
            return await self._venue.get_algo(intent.instrument, name)
        return await self._venue.get_order(intent.instrument, name)

    async def _found(self, key: str, intent: Intent, found: VenueOrder) -> None:
        if intent.cancels is not None:
            if found.live:
                at = self._views[key].market_at if key in self._views else 0
                await self._publish(key, intent, intents.again(intent, at, "the order still rests"))
            else:
                await self._say(key, intent, OrderState.CANCELED, reason=f"it is {found.status}")
            return
        state = execution.outcome_of(found.status) or OrderState.ACKED
        reason = "found by query"
        await self._say(key, intent, state, exchange_id=found.exchange_id, reason=reason, filled=found.filled)

    # -- reconciling: what the user stream may have missed

    async def _reconcile_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                await self._reconcile()
            except VenueError as e:
                log.warning("not reconciled", extra={"why": str(e)})
            except NotOwner as e:
                log.warning("not ours any more", extra={"why": str(e)})

    async def _reconcile(self) -> None:
        """Orders that rest by our books and not by the exchange's: their end was missed, and is asked for."""
        young = time.monotonic() - JUST_SAID_S
        resting = [
            (key, intent)
            for key, view in self._views.items()
            for intent in view.intents.values()
            if intent.state is OrderState.ACKED and intent.cancels is None and self._acked.get(intent.first_id, 0.0) < young
        ]
        if not resting:
            return
        names = {key for key, _ in resting}
        scopes = sorted(names) if len(names) <= FEW else [None]
        listed = [order for name in scopes for order in await self._venue.open_orders(name)]
        listed += [order for name in scopes for order in await self._venue.open_algo_orders(name)]
        known = {order.exchange_id for order in listed} | {order.client_id for order in listed}
        for key, intent in resting:
            if intent.client_id in known or intent.exchange_id in known:
                self._denied.pop(intent.first_id, None)
                continue
            found = await self._query(intent)
            if key not in self._views:
                continue
            if found is not None:
                self._denied.pop(intent.first_id, None)
                if not found.live:
                    await self._found(key, intent, found)
            elif not intent.entry:
                self._denied[intent.first_id] += 1
                if self._denied[intent.first_id] >= GONE_AFTER:
                    del self._denied[intent.first_id]
                    await self._say(key, intent, OrderState.EXPIRED, reason="neither in the books nor known to the exchange")


def _wider(order: VenueOrder, wanted: Intent) -> bool:
    """Whether the resting stop gives the position more room to lose than the wanted one."""
    if wanted.trigger_price is None:
        return False
    if wanted.side is OrderSide.SELL:
        return order.trigger_price < wanted.trigger_price
    return order.trigger_price > wanted.trigger_price
