"""The account worker's effects: it owns the user stream, and asks the exchange for what the stream has not told.

At every new connection (the stream is open first), and for every instrument that becomes ours: userTrades from where the log ends,
written as backfilled; then what the stream has brought meanwhile. Instruments are those of the settings, and every other that the
account has to do with: what the log has fills of, what is held, what an order of ours rests in, what the stream names. Each is
asked for by itself: one that is refused (delisted) is asked for again ever more patiently, and goes on with what the stream tells
of it; the others do not notice. A trade is written once: dropped when the fold or what is in flight knows it. Snapshots watch over
both: a position that the fills do not explain, and still do not when the stream has come past that moment, is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric

from infra import logs
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.binance.sockets import Socket, user_stream
from infra.venue.port import OrderSeen, OutcomeKind, PositionSeen, VenueError, VenueFill, VenuePosition
from processors import account
from processors.account import EMPTY, State
from schemas.events import Event
from schemas.ids import Purpose, partition_of, purpose_of
from schemas.trading import CorrectionKind
from schemas.units import Source
from streams.ending import end_if_failed
from streams.sender import Undelivered
from streams.stage import Outbox
from streams.user_events import correction_event, fill_event, snapshot_event, update_event

log = logs.get(__name__)

PAGE = 1000
TEND_S = 0.2
AFTER_FILL_S = 1.0
REMEMBERED_UPDATES = 4096
LATE_MS = 3000
"""Of venue time: what a look gives as its time is that of the newest mark, and may be so old."""
SILENT_S = 3.0
"""A stream without a word for so long is not late."""
AGAIN_TIMES = 15
"""Checks after which a difference that stays is asked about again."""
FULL_S = 300.0
CLOCKS = 3
"""Instruments that a look asks for the market's time before it does without."""
ABREAST = 10
"""Instruments that are asked about at the same time."""
AGAIN_S = 0.2
PATIENCE_S = 3.0
"""So long the stream's words of an instrument wait for the trades before them while the exchange does not answer."""
AWAY_S, REFUSED_S = 5.0, 60.0
"""The longest wait before the exchange is asked again: while it does not answer, and where it says no."""


class Unexplained(NamedTuple):
    """What our fills lack of a position. `times`: looks in a row that showed it. `at`: venue time of the last of them."""

    missing: Decimal
    times: int
    at: int


class PutOff(NamedTuple):
    """The exchange does not tell our trades of an instrument. In monotonic seconds: when it is asked again, and from when on the
    stream's words wait for it no more (`on_at`)."""

    wait_s: float
    again_at: float
    on_at: float


class UserDesk:
    """An Observer of the account stage (streams/stage.py). Works while it holds a partition; writes only of those that it holds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clocks = [instrument_of(symbol) for symbol in settings.symbol_list]
        self._instruments = {instrument_of(symbol) for symbol in settings.symbol_list}
        self._source = Source(settings.market.partition(":")[0])
        self._outbox: Outbox | None = None
        self._live: set[int] = set()
        self._states: dict[str, State] = {}
        self._flying: dict[str, dict[int, Decimal]] = {}
        self._due: set[str] = set()
        self._asking: set[str] = set()
        self._abreast = asyncio.Semaphore(ABREAST)
        self._put_off: dict[str, PutOff] = {}
        self._behind: defaultdict[str, list[OrderSeen]] = defaultdict(list)
        self._suspect: dict[str, int] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told_at = 0
        self._looked_at = 0
        self._venue = BinanceUsdm(settings, who="account", patient=True)
        self._stream: Socket | None = None
        self._work: asyncio.Task[None] | None = None
        self._clients: dict[str, str] = {}
        self._said: dict[str, None] = {}
        self._moved = asyncio.Event()
        self._unexplained: dict[str, Unexplained] = {}
        self._why: dict[str, str] = {}
        self._foreign: set[str] = set()
        self._books_at = -FULL_S
        self.checked_at: float | None = None
        self.equity: Decimal | None = None
        self.corrections = 0

    # -- the stage's word

    def attach(self, outbox: Outbox) -> None:
        self._outbox = outbox
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """Equality with the exchange, continuously: positions against the sum of our fills."""
        differ = sum(1 for each in self._unexplained.values() if each.missing)
        age = time.monotonic() - self.checked_at if self.checked_at is not None else float("inf")
        for name, about, value in (
            ("positions_unexplained", "Instruments whose position on the exchange is not the sum of our fills", differ),
            ("equality_age_seconds", "Wall seconds since positions were compared with the exchange", age),
            ("trades_refused", "Instruments whose trades the exchange does not tell when it is asked", len(self._put_off)),
            ("foreign_orders", "Orders on the exchange that are none of ours", len(self._foreign)),
            ("corrections", "Corrections since the start, each on account.corrections", self.corrections),
        ):
            yield GaugeMetricFamily(f"qt_account_{name}", about, value=value)
        if self.equity is not None:
            yield GaugeMetricFamily("qt_account_equity_usdt", "Wallet and unrealised profit", value=float(self.equity))

    def on_live(self, partition: int, states: Mapping[str, State]) -> None:
        self._live.add(partition)
        self._states.update(states)
        self._instruments.update(states)
        self._due |= {name for name in self._instruments if partition_of(name) == partition}
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._run())
            self._work.add_done_callback(end_if_failed)

    def on_state(self, key: str, state: State | None) -> None:
        self._states[key] = state or EMPTY
        flying = self._flying.get(key, {})
        for trade_id in [trade_id for trade_id in flying if account.knows(self._states[key], trade_id)]:
            del flying[trade_id]

    def on_revoked(self, partition: int) -> None:
        self._live.discard(partition)
        for key in [key for key in self._states if partition_of(key) == partition]:
            del self._states[key]
            self._flying.pop(key, None)
        self._due = {name for name in self._due if partition_of(name) != partition}
        for name in [name for name in {*self._put_off, *self._behind} if partition_of(name) == partition]:
            self._put_off.pop(name, None)
            self._behind.pop(name, None)
        if not self._live and self._work is not None:
            self._work.cancel()

    def _holds(self, instrument: str) -> bool:
        return partition_of(instrument) in self._live

    def _cover(self, instruments: Iterable[str]) -> None:
        """What nobody has named, and the account has to do with all the same, is asked for from now on."""
        for name in sorted(set(instruments) - self._instruments):
            log.info("the account has to do with an instrument that no setting names", instrument=name)
            self._instruments.add(name)
            if self._holds(name):
                self._due.add(name)

    # -- the stream

    async def _run(self) -> None:
        """Until the last partition is revoked."""
        self._asking.clear()
        self._venue.open()
        self._stream = user_stream(self._settings, self._venue)
        beside = [asyncio.ensure_future(self._tend()), asyncio.ensure_future(self._snapshots())]
        for task in beside:
            task.add_done_callback(end_if_failed)
        try:
            async for batch in self._stream.batches():
                if not batch.messages:
                    self._ask_again("a new connection of the user stream")
                    self._books_at = -FULL_S
                    continue
                by_instrument: defaultdict[str, list[OrderSeen]] = defaultdict(list)
                for event in batch.messages:
                    if isinstance(event, OrderSeen):
                        by_instrument[event.order.instrument].append(event)
                await asyncio.gather(*(self._take(name, events) for name, events in by_instrument.items()))
                self._told_at = max(self._told_at, *(_at(event) for event in batch.messages))
        finally:
            for task in beside:
                task.cancel()
            await self._stream.close()
            await self._venue.close()

    def _ask_again(self, why: str) -> None:
        """All that we hold, from where the log ends."""
        mine = {name for name in self._instruments if self._holds(name)}
        self._due |= mine
        self._why |= dict.fromkeys(mine, why)
        self._put_off = {name: put_off._replace(wait_s=AGAIN_S, again_at=0.0) for name, put_off in self._put_off.items()}

    async def _tend(self) -> None:
        """Asks for what is due as soon as the stream stands, what has a position first."""
        async with asyncio.TaskGroup() as asked:
            while True:
                await asyncio.sleep(TEND_S)
                if self._stream is None or not self._stream.connected:
                    continue
                for name in sorted(self._due - self._asking, key=lambda name: (not self._states.get(name, EMPTY).net, name)):
                    if name not in self._put_off or time.monotonic() >= self._put_off[name].again_at:
                        self._due.discard(name)
                        self._asking.add(name)
                        asked.create_task(self._ask(name))

    def _is_behind(self, instrument: str) -> bool:
        """The exchange has yet to say what the log lacks of it: until it has answered, or refused, or was silent for long."""
        put_off = self._put_off.get(instrument)
        waits = put_off is None or time.monotonic() < put_off.on_at
        return waits and (instrument in self._due or instrument in self._asking)

    async def _take(self, instrument: str, events: Sequence[OrderSeen]) -> None:
        """Of one instrument in order, beside those of others: in a crash a hundred stops fill at once."""
        self._cover([instrument])
        self._behind[instrument] += events
        if not self._is_behind(instrument):
            async with self._turns[instrument]:
                await self._say_seen(instrument)

    async def _ask(self, instrument: str) -> None:
        """Trades that the log does not have, then what the stream has told meanwhile; the latter alone where they are refused."""
        found: list[VenueFill] | None = None
        try:
            async with self._abreast:
                found = await self._missed(instrument)
        except VenueError as e:
            self._ask_later(instrument, e)
        else:
            self._put_off.pop(instrument, None)
        async with self._turns[instrument]:
            if found is not None and self._holds(instrument):
                await self._say_missed(instrument, [fill for fill in found if not self._knows(instrument, fill.trade_id)])
            if found is not None or not self._is_behind(instrument):
                await self._say_seen(instrument)
            self._asking.discard(instrument)

    def _ask_later(self, instrument: str, refusal: VenueError) -> None:
        if not self._holds(instrument):
            return
        refused, now = refusal.outcome.kind is OutcomeKind.TERMINAL, time.monotonic()
        before = self._put_off.get(instrument, PutOff(AGAIN_S / 2, now, now + PATIENCE_S))
        wait_s = min(before.wait_s * 2, REFUSED_S if refused else AWAY_S)
        log.warning("the exchange does not tell our trades", instrument=instrument, why=str(refusal), again_in_s=wait_s)
        self._put_off[instrument] = PutOff(wait_s, now + wait_s, min(now, before.on_at) if refused else before.on_at)
        self._due.add(instrument)

    async def _missed(self, instrument: str) -> list[VenueFill]:
        found: list[VenueFill] = []
        next_id = account.ask_from(self._states.get(instrument, EMPTY))
        while True:
            page = await self._venue.user_trades(instrument, from_id=next_id, limit=PAGE)
            found += [fill for fill in page if not self._knows(instrument, fill.trade_id)]
            if len(page) < PAGE:
                return [await self._named(fill) for fill in found]
            next_id = page[-1].trade_id + 1

    async def _named(self, fill: VenueFill) -> VenueFill:
        """The trade list does not tell the order's client id; the order does, for as long as the exchange remembers it."""
        if fill.client_id:
            return fill
        if fill.order_id not in self._clients:
            order = await self._venue.order_by_exchange_id(fill.instrument, fill.order_id)
            self._clients[fill.order_id] = order.client_id if order else ""
        return replace(fill, client_id=self._clients[fill.order_id])

    # -- saying

    def _knows(self, instrument: str, trade_id: int) -> bool:
        flying = self._flying.get(instrument, {})
        return trade_id in flying or account.knows(self._states.get(instrument, EMPTY), trade_id)

    async def _say_missed(self, instrument: str, found: Sequence[VenueFill]) -> None:
        suspected = self._suspect.pop(instrument, None)
        if not found:
            return
        if self._stream is not None and suspected == self._stream.epoch:
            self._stream.doubt(f"it has not told {len(found)} trades of {instrument}")
        for fill in found:
            await self._say_fill(fill, backfilled=True)
        reason = f"{self._why.get(instrument, 'the instrument became ours')}: {len(found)} trades had not been told"
        await self._correct(CorrectionKind.FILLS_MISSED, instrument, found[-1].at, reason, "", str(found[-1].trade_id))

    async def _say_seen(self, instrument: str) -> None:
        while events := self._behind.pop(instrument, None):
            for seen in events:
                if not self._holds(instrument):
                    return
                if seen.fill is not None:
                    await self._say_fill(seen.fill, backfilled=False)
                else:
                    await self._say_update(seen)

    async def _say_fill(self, fill: VenueFill, *, backfilled: bool) -> None:
        if self._knows(fill.instrument, fill.trade_id):
            return
        self._flying.setdefault(fill.instrument, {})[fill.trade_id] = account.signed(fill.side, fill.quantity)
        self._moved.set()
        await self._say(fill_event(fill, self._settings.account, self._source, backfilled=backfilled), fill.instrument)

    async def _say_update(self, seen: OrderSeen) -> None:
        event = update_event(seen, self._settings.account)
        if event.event_id in self._said:
            return
        self._said[event.event_id] = None
        if len(self._said) > REMEMBERED_UPDATES:
            del self._said[next(iter(self._said))]
        await self._say(event, seen.order.instrument)

    async def _say(self, event: Event, instrument: str | None) -> None:
        """Until the log has it, or the instrument is no longer ours."""
        assert self._outbox is not None, "attach first"
        wait_s = 0.1
        while instrument is None or self._holds(instrument):
            try:
                await self._outbox.send_now(event)
                return
            except Undelivered as e:
                log.warning("not written, trying again", event_type=event.type, why=str(e))
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)

    # -- snapshots

    async def _snapshots(self) -> None:
        """Every `snapshot_s`, and soon after a fill."""
        while True:
            self._moved.clear()
            with suppress(VenueError):
                await self._snapshot()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.snapshot_s):
                    await self._moved.wait()
                    await asyncio.sleep(AFTER_FILL_S)

    async def _snapshot(self) -> None:
        at = await self._market_ms()
        stated, held = await self._venue.account(), await self._venue.positions()
        self.equity = stated.equity
        if not at:
            return
        await self._check(held, at)
        await self._look_at_books()
        if 0 in self._live:
            await self._say(snapshot_event(stated, held, at, self._settings.account), None)

    async def _market_ms(self) -> int:
        """Market time, by the first of a few instruments that has one to tell; where none has, the newest that we have heard of."""
        for name in self._clocks[:CLOCKS]:
            try:
                self._looked_at = await self._venue.market_ms(name)
                return self._looked_at
            except VenueError as e:
                self._clocks = [*(other for other in self._clocks if other != name), name]
                if e.outcome.kind is not OutcomeKind.TERMINAL:
                    break
                log.warning("this instrument has no market time to tell", instrument=name, why=str(e))
        return max(self._looked_at, self._told_at)

    async def _correct(
        self, kind: CorrectionKind, instrument: str, at: int, reason: str, ours: str, theirs: str, client: str = ""
    ) -> None:
        """Said once: its id is of what differed."""
        self.corrections += 1
        log.warning("corrected", kind=kind.value, instrument=instrument, reason=reason, ours=ours, theirs=theirs)
        correction = correction_event(kind, self._settings.account, instrument, at, reason, ours, theirs, client)
        await self._say(correction, instrument)

    async def _look_at_books(self) -> None:
        """Every `FULL_S`, and after each new connection: orders that are none of ours are marked, and our trades asked for anew."""
        if time.monotonic() - self._books_at < FULL_S:
            return
        if self._books_at > 0:
            self._ask_again("the full comparison")
        listed = [*await self._venue.open_orders(), *await self._venue.open_algo_orders()]
        self._books_at = time.monotonic()
        self._cover(o.instrument for o in listed if purpose_of(o.client_id) is not Purpose.FOREIGN)
        strange = {o.exchange_id: o for o in listed if purpose_of(o.client_id) is Purpose.FOREIGN and self._holds(o.instrument)}
        for exchange_id, order in strange.items():
            if exchange_id not in self._foreign:
                reason = f"{order.side} {order.type} of {order.quantity}: left alone"
                told = (CorrectionKind.FOREIGN_ORDER, order.instrument, order.at, reason, "", exchange_id, order.client_id)
                await self._correct(*told)
        self._foreign = set(strange)

    async def _check(self, held: list[VenuePosition], at: int) -> None:
        """A quantity that our fills do not add up to, and still so when the stream has told of later times, or nothing for long: it
        has missed something. (In a crash it is seconds late: what is on its way is no difference.)"""
        self.checked_at = time.monotonic()
        stream = self._stream
        if stream is None:
            return
        quantities = {position.instrument: position.quantity for position in held}
        self._cover(quantities)
        for name in sorted(self._instruments):
            if not self._holds(name) or self._is_behind(name):
                continue
            flying = sum(self._flying.get(name, {}).values(), Decimal(0))
            missing = quantities.get(name, Decimal(0)) - self._states.get(name, EMPTY).net - flying
            before = self._unexplained.get(name)
            if before is None or missing != before.missing:
                self._unexplained[name] = Unexplained(missing, int(bool(missing)), at)
                continue
            if not missing or (self._told_at <= before.at + LATE_MS and stream.silent_s < SILENT_S):
                continue
            times = before.times + 1
            self._unexplained[name] = Unexplained(missing, times, at)
            if times == 2 or times % AGAIN_TIMES == 0:
                self._due.add(name)
                self._suspect[name] = stream.epoch
                self._why[name] = "a position that our fills do not explain"
                theirs = quantities.get(name, Decimal(0))
                kind = CorrectionKind.POSITION_UNEXPLAINED
                await self._correct(kind, name, at, "asked for our trades", f"{theirs - missing}", f"{theirs}")


def _at(event: OrderSeen | PositionSeen) -> int:
    return event.order.at if isinstance(event, OrderSeen) else event.at
