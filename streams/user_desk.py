"""The account worker's effects: it owns the user stream, and asks the exchange for what the stream has not told.

At every new connection (the stream is open first), and for every instrument that becomes ours: userTrades from where the log ends,
written as backfilled; then what the stream has brought meanwhile. A trade is written once: dropped when the fold or what is in
flight knows it. Snapshots watch over both: a position that the fills do not explain, twice in a row, is asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from infra import logs
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.binance.sockets import Socket, user_stream
from infra.venue.port import OrderSeen, VenueAccount, VenueError, VenueFill, VenuePosition
from processors import account
from processors.account import EMPTY, State
from schemas.events import Event
from schemas.ids import event_id, partition_of, purpose_of
from schemas.trading import AccountSnapshot, Fill, HeldPosition, OrderUpdate
from schemas.units import Source
from streams.stage import Outbox

log = logs.get(__name__)

PAGE = 1000
TEND_S = 0.2
AFTER_FILL_S = 1.0
REMEMBERED_UPDATES = 4096


class UserDesk:
    """An Observer of the account stage (streams/stage.py). Works while it holds a partition; writes only of those that it holds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._instruments = tuple(instrument_of(symbol) for symbol in settings.symbol_list)
        self._source = Source(settings.market.partition(":")[0])
        self._outbox: Outbox | None = None
        self._live: set[int] = set()
        self._states: dict[str, State] = {}
        self._flying: dict[str, dict[int, Decimal]] = {}
        self._due: set[str] = set()
        self._suspect: set[str] = set()
        self._turn = asyncio.Lock()
        self._venue = BinanceUsdm(settings, who="account", patient=True)
        self._stream: Socket | None = None
        self._work: asyncio.Task[None] | None = None
        self._clients: dict[str, str] = {}
        self._said: dict[str, None] = {}
        self._moved = asyncio.Event()
        self._unexplained: dict[str, tuple[Decimal, int]] = {}

    # -- the stage's word

    def attach(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def on_live(self, partition: int, states: Mapping[str, State]) -> None:
        self._live.add(partition)
        self._states.update(states)
        self._due |= {name for name in self._instruments if partition_of(name) == partition}
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._run())
            self._work.add_done_callback(_end_if_failed)

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
        if not self._live and self._work is not None:
            self._work.cancel()

    def _holds(self, instrument: str) -> bool:
        return partition_of(instrument) in self._live

    # -- the stream

    async def _run(self) -> None:
        """Until the last partition is revoked."""
        self._venue.open()
        self._stream = user_stream(self._settings, self._venue)
        beside = [asyncio.ensure_future(self._tend()), asyncio.ensure_future(self._snapshots())]
        for task in beside:
            task.add_done_callback(_end_if_failed)
        try:
            async for batch in self._stream.batches():
                if not batch.messages:
                    self._due |= {name for name in self._instruments if self._holds(name)}
                    continue
                for event in batch.messages:
                    if isinstance(event, OrderSeen):
                        await self._take(event)
        finally:
            for task in beside:
                task.cancel()
            await self._stream.close()
            await self._venue.close()

    async def _tend(self) -> None:
        """Asks for what is due as soon as the stream stands."""
        while True:
            await asyncio.sleep(TEND_S)
            if self._due and self._stream is not None and self._stream.connected:
                async with self._turn:
                    for instrument in sorted(self._due):
                        await self._catch_up(instrument)

    async def _take(self, seen: OrderSeen) -> None:
        instrument = seen.order.instrument
        async with self._turn:
            if not self._holds(instrument):
                return
            if instrument in self._due:
                await self._catch_up(instrument)
            if seen.fill is not None:
                await self._say_fill(seen.fill, backfilled=False)
            else:
                await self._say_update(seen)

    async def _catch_up(self, instrument: str) -> None:
        """Trades that the log does not have. Tries until the exchange answers; stops when the instrument is no longer ours."""
        wait_s = 0.2
        while instrument in self._due and self._holds(instrument):
            try:
                found = await self._missed(instrument)
            except VenueError as e:
                log.warning("the exchange does not tell our trades", instrument=instrument, why=str(e))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)
                continue
            self._due.discard(instrument)
            if found and instrument in self._suspect and self._stream is not None:
                self._stream.doubt(f"it has not told {len(found)} trades of {instrument}")
            self._suspect.discard(instrument)
            for fill in found:
                await self._say_fill(fill, backfilled=True)

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
            except (ProducerSendError, KafkaError) as e:
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
        at = await self._venue.market_ms(self._instruments[0])
        stated, held = await self._venue.account(), await self._venue.positions()
        self._check(held)
        if 0 in self._live:
            await self._say(snapshot_event(stated, held, at, self._settings.account), None)

    def _check(self, held: list[VenuePosition]) -> None:
        """A quantity that our fills do not add up to, twice in a row: the stream has missed something."""
        quantities = {position.instrument: position.quantity for position in held}
        for name in self._instruments:
            if not self._holds(name) or name in self._due:
                continue
            flying = sum(self._flying.get(name, {}).values(), Decimal(0))
            missing = quantities.get(name, Decimal(0)) - self._states.get(name, EMPTY).net - flying
            before, times = self._unexplained.get(name, (Decimal(0), 0))
            times = times + 1 if missing and missing == before else int(bool(missing))
            self._unexplained[name] = (missing, times)
            if times == 2:
                log.warning("a position that our fills do not explain", instrument=name, missing=str(missing))
                self._due.add(name)
                self._suspect.add(name)


def _end_if_failed(task: asyncio.Task[None]) -> None:
    """Half an account worker is worse than none: its successor recovers from the log and the exchange."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("this worker ends", exc_info=error)
        os._exit(1)


def fill_event(fill: VenueFill, account_id: str, source: Source, *, backfilled: bool) -> Fill:
    return Fill(
        event_id=event_id(Fill.type_name(), account_id, fill.instrument, fill.trade_id),
        at=fill.at,
        instrument=fill.instrument,
        account=account_id,
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        client_id=fill.client_id,
        purpose=purpose_of(fill.client_id),
        side=fill.side,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        realized_pnl=fill.realized_pnl,
        maker=fill.maker,
        backfilled=backfilled,
        source=source,
    )


def update_event(seen: OrderSeen, account_id: str) -> OrderUpdate:
    order = seen.order
    said = (order.book, order.exchange_id, seen.execution, order.status, order.filled, order.child_order_id, order.at)
    return OrderUpdate(
        event_id=event_id(OrderUpdate.type_name(), account_id, order.instrument, *said),
        at=order.at,
        instrument=order.instrument,
        account=account_id,
        book=order.book.value,
        client_id=order.client_id,
        purpose=purpose_of(order.client_id),
        exchange_id=order.exchange_id,
        child_order_id=order.child_order_id,
        status=order.status,
        execution=seen.execution,
        order_type=order.type,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=order.filled,
        price=order.price,
        trigger_price=order.trigger_price,
        close_position=order.close_position,
        reduce_only=order.reduce_only,
        detail=seen.detail,
    )


def snapshot_event(stated: VenueAccount, held: list[VenuePosition], at: int, account_id: str) -> AccountSnapshot:
    positions = [
        HeldPosition(
            instrument=position.instrument,
            quantity=position.quantity,
            entry_price=position.entry_price,
            unrealized_pnl=position.unrealized_pnl,
        )
        for position in sorted(held, key=lambda position: position.instrument)
    ]
    said = (account_id, at, stated.wallet, stated.equity, *((p.instrument, p.quantity) for p in positions))
    return AccountSnapshot(
        event_id=event_id(AccountSnapshot.type_name(), *said),
        at=at,
        account=account_id,
        wallet=stated.wallet,
        equity=stated.equity,
        available=stated.available,
        unrealized_pnl=stated.unrealized_pnl,
        positions=positions,
    )
