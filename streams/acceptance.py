"""What a venue must do for us, as numbered lists, each item tried with the client that trades. `quantum venue check` runs them.

Works on one instrument with the smallest size that is allowed, and leaves the account as it was: no order of ours, no position.
This is the list of the perpetuals, and what the lists share; spot's is acceptance_spot.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import ROUND_UP, Decimal
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.sockets import Socket, user_stream
from infra.venue.port import (
    Filters,
    Meaning,
    OrderRequest,
    OrderSeen,
    OrderVenue,
    OutcomeKind,
    Protector,
    StopRequest,
    VenueError,
    VenueOrder,
)
from schemas.ids import Purpose, client_id
from schemas.trading import OrderType
from schemas.units import OrderSide

WAIT_S = 10.0
OLD_MS = 20_000


class Market(OrderVenue, Protector, Protocol):
    """What both lists lean on."""


V = TypeVar("V", bound=Market)


class Failed(Exception):
    """The venue did not do what the item says."""


class Desk(Generic[V]):
    """What the items of a list share: client, user stream, and the ids of this run."""

    def __init__(self, venue: V, stream: Socket, instrument: str) -> None:
        self.venue = venue
        self.instrument = instrument
        self.seen: list[OrderSeen] = []
        self.filters: Filters | None = None
        self.run = uuid.uuid4().hex
        self.placed: list[str] = []
        self.stream = stream
        self._n = 0

    def name(self, purpose: Purpose) -> str:
        self._n += 1
        name = client_id(purpose, "acceptance", self.run, self._n)
        self.placed.append(name)
        return name

    async def price(self) -> Decimal:
        raise NotImplementedError

    def rules(self) -> Filters:
        if self.filters is None:
            raise Failed("the filters were not read (item 2)")
        return self.filters

    def size(self, price: Decimal) -> Decimal:
        """The smallest that may open, with a tenth to spare."""
        rules = self.rules()
        least = max(rules.min_quantity, rules.min_notional * Decimal("1.1") / price)
        return (least / rules.step).to_integral_value(ROUND_UP) * rules.step

    def at(self, price: Decimal) -> Decimal:
        tick = self.rules().tick
        return price // tick * tick

    async def held(self) -> Decimal:
        found = [p.quantity for p in await self.venue.positions() if p.instrument == self.instrument]
        return found[0] if found else Decimal(0)

    async def heard(self, true: Callable[[OrderSeen], bool], what: str) -> OrderSeen:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for event in self.seen:
                if true(event):
                    return event
            await asyncio.sleep(0.05)
        raise Failed(f"the user stream has not told within {WAIT_S:.0f} s: {what}")

    async def connected(self, after: int) -> None:
        """By a connection later than number `after`."""
        for _ in range(int(WAIT_S / 0.05)):
            if self.stream.connected and self.stream.epoch > after:
                return
            await asyncio.sleep(0.05)
        raise Failed(f"the user stream is not connected within {WAIT_S:.0f} s")

    async def listen(self) -> None:
        async for batch in self.stream.batches():
            self.seen += [event for event in batch.messages if isinstance(event, OrderSeen)]

    async def limit(self, part: str = "0.97") -> OrderRequest:
        """One that would rest at that part of the price; not sent."""
        price = self.at(await self.price() * Decimal(part))
        return OrderRequest(self.instrument, OrderSide.BUY, OrderType.LIMIT, self.size(price), self.name(Purpose.ENTRY), price)

    async def market(self, side: OrderSide, quantity: Decimal, purpose: Purpose) -> str:
        name = self.name(purpose)
        order = OrderRequest(self.instrument, side, OrderType.MARKET, quantity, name, reduce_only=purpose is not Purpose.ENTRY)
        await self.venue.place_order(order)
        return name

    async def resting(self, *, anew: bool = False) -> VenueOrder:
        """A limit order of ours that rests below the market: one from before, else a new one."""
        if not anew:
            for order in await self.venue.open_orders(self.instrument):
                if order.client_id in self.placed and not order.reduce_only:
                    return order
        wanted = await self.limit()
        await self.venue.place_order(wanted)
        found = await self.venue.get_order(self.instrument, wanted.client_id)
        if found is None:
            raise Failed(f"{wanted.client_id} was acknowledged, and is not found by its client id")
        return found

    async def leave(self) -> None:
        """Nothing of ours stays."""
        for name in self.placed:
            for cancel in (self.venue.cancel_order, self.venue.unprotect):
                with suppress(VenueError):
                    await cancel(self.instrument, name)
        with suppress(VenueError):
            if held := await self.held():
                await self.market(OrderSide.SELL if held > 0 else OrderSide.BUY, abs(held), Purpose.CLOSE)


class PerpetualDesk(Desk[BinanceUsdm]):
    async def price(self) -> Decimal:
        found = [mark.mark for mark in await self.venue.marks() if mark.instrument == self.instrument]
        want(bool(found), "the mark price of the instrument is told")
        return Decimal(str(found[0]))

    async def stop(self, part: str, quantity: Decimal | None = None) -> str:
        name = self.name(Purpose.STOP)
        level = self.at(await self.price() * Decimal(part))
        await self.venue.place_algo(StopRequest(self.instrument, OrderSide.SELL, level, name, quantity))
        return name


class Item(NamedTuple):
    number: int
    about: str
    run: Callable[[Any], Awaitable[str]]


Run = TypeVar("Run", bound=Callable[[Any], Awaitable[str]])


class Items(list[Item]):
    """A numbered list: `@items.add("what the venue must do")`."""

    def add(self, about: str) -> Callable[[Run], Run]:
        def remember(run: Run) -> Run:
            self.append(Item(len(self) + 1, about, run))
            return run

        return remember


ITEMS = Items()
item = ITEMS.add


def want(true: bool, what: str) -> None:
    if not true:
        raise Failed(f"not so: {what}")


async def refused(call: Awaitable[Any], meaning: Meaning, kind: OutcomeKind = OutcomeKind.SEMANTIC) -> str:
    """The call must be refused in just that way."""
    try:
        await call
    except VenueError as e:
        want(e.outcome.kind is kind and e.outcome.meaning is meaning, f"refused as {meaning or kind}, but: {e}")
        return str(e.outcome.code)
    raise Failed(f"it was taken, and should have been refused as {meaning or kind}")


async def check(settings: Settings, instrument: str) -> list[dict[str, Any]]:
    """[{number, about, ok, detail, ms}], every item tried whatever the others say."""
    venue = BinanceUsdm(settings)
    async with venue:
        return await tried(ITEMS, PerpetualDesk(venue, user_stream(settings, venue), instrument))


async def tried(items: Items, desk: Desk[Any]) -> list[dict[str, Any]]:
    found = []
    ear = asyncio.ensure_future(desk.listen())
    try:
        for each in items:
            began = time.monotonic()
            try:
                ok, detail = True, await each.run(desk)
            except (Failed, VenueError) as e:
                ok, detail = False, str(e)
            row = {"number": each.number, "about": each.about, "ok": ok, "detail": detail}
            found.append(row | {"ms": round((time.monotonic() - began) * 1000, 1)})
    finally:
        await desk.leave()
        ear.cancel()
        await desk.stream.close()
    return found


def page(spot: Items) -> str:
    """docs/venue-acceptance.md"""
    lines = [
        "# What a venue must do",
        "",
        "`quantum venue check` tries each item with the client that trades, on the smallest size that is allowed, and leaves no",
        "order and no position. `--target local` (default) starts a local exchange for itself; `--target testnet` needs a testnet",
        "key in `QT_API_KEY` and `QT_API_SECRET`. Exit code 3 when an item fails. Made by `quantum venue list --markdown`.",
        "",
        "## Perpetuals",
        "",
        *(f"{each.number}. {each.about}" for each in ITEMS),
        "",
        "## Spot (`--market spot`)",
        "",
        *(f"{each.number}. {each.about}" for each in spot),
    ]
    return "\n".join(lines) + "\n"


# -- the list


@item("Its clock is told, and ours follows it to within a second of its answers")
async def clock(desk: Desk[Any]) -> str:
    await desk.venue.sync_time()
    off = abs(await desk.venue.server_time() - desk.venue.request_ms())
    want(off < 1000, f"our request time is right to 1 s (off by {off} ms)")
    return f"off by {off} ms"


@item("The instrument is listed, with a tick, a step and a smallest notional")
async def listed(desk: PerpetualDesk) -> str:
    desk.filters = (await desk.venue.filters()).get(desk.instrument)
    rules = desk.rules()
    want(rules.tick > 0 and rules.step > 0 and rules.trading, "tick and step are positive, and it trades")
    return f"tick {rules.tick}, step {rules.step}, notional {rules.min_notional}"


@item("The account answers a signed request; the instrument is flat to begin with")
async def account(desk: PerpetualDesk) -> str:
    stated = await desk.venue.account()
    want(await desk.held() == 0, "the instrument is flat: close your own position first")
    return f"equity {stated.equity:.2f}"


@item("A request that was signed before its window is refused with -1021")
async def fence(desk: Desk[Any]) -> str:
    call = desk.venue.place_order(await desk.limit(), sent_at=desk.venue.request_ms() - OLD_MS, recv_window_ms=5000)
    return await refused(call, Meaning.NONE, OutcomeKind.FIX)


@item("Leverage can be set, and set again to what it is")
async def leverage(desk: PerpetualDesk) -> str:
    await desk.venue.set_leverage(desk.instrument, 3)
    await desk.venue.set_leverage(desk.instrument, 3)
    return "3"


@item("The user stream opens")
async def stream(desk: Desk[Any]) -> str:
    await desk.connected(0)
    return "connected"


@item("A limit order rests under our client id: acknowledged, found by it, listed, and told on the user stream")
async def rests(desk: PerpetualDesk) -> str:
    order = await desk.resting()
    name = order.client_id
    want(order.status == "NEW" and order.filled == 0, f"it is NEW ({order.status})")
    want(name in [o.client_id for o in await desk.venue.open_orders(desk.instrument)], "it stands among the open orders")
    await desk.heard(lambda seen: seen.order.client_id == name and seen.execution == "NEW", f"order {name} is new")
    return f"order {order.exchange_id}"


@item("A second order under the same client id is refused while the first rests")
async def once(desk: Desk[Any]) -> str:
    order = await desk.resting()
    again = OrderRequest(desk.instrument, OrderSide.BUY, OrderType.LIMIT, order.quantity, order.client_id, order.price)
    return await refused(desk.venue.place_order(again), Meaning.DUPLICATE_ID)


@item("A resting order is cancelled by its client id; it is found as CANCELED, and cannot be cancelled again")
async def cancels(desk: PerpetualDesk) -> str:
    order = await desk.resting()
    await desk.venue.cancel_order(desk.instrument, order.client_id)
    found = await desk.venue.get_order(desk.instrument, order.client_id)
    want(found is not None and found.status == "CANCELED", f"it is CANCELED ({found.status if found else 'denied'})")
    return await refused(desk.venue.cancel_order(desk.instrument, order.client_id), Meaning.NO_SUCH_ORDER)


@item("An order that was never sent is denied, in both books")
async def denied(desk: PerpetualDesk) -> str:
    name = client_id(Purpose.ENTRY, "never", desk.run)
    want(await desk.venue.get_order(desk.instrument, name) is None, "the ordinary book does not know it")
    want(await desk.venue.get_algo(desk.instrument, name) is None, "the book of conditional orders does not know it")
    return "denied"


@item("An order below the smallest notional is refused for good")
async def small(desk: PerpetualDesk) -> str:
    rules, price = desk.rules(), desk.at(await desk.price() * Decimal("0.97"))
    if rules.min_quantity * price >= rules.min_notional:
        return "cannot be tried: the smallest quantity is large enough"
    order = OrderRequest(desk.instrument, OrderSide.BUY, OrderType.LIMIT, rules.min_quantity, desk.name(Purpose.ENTRY), price)
    return await refused(desk.venue.place_order(order), Meaning.NONE, OutcomeKind.TERMINAL)


@item("A reduce-only order without a position is refused as having nothing to reduce")
async def nothing(desk: PerpetualDesk) -> str:
    size = desk.size(await desk.price())
    return await refused(desk.market(OrderSide.SELL, size, Purpose.CLOSE), Meaning.NOTHING_TO_REDUCE)


@item("A market order fills: told on the user stream with our client id, listed among our trades, and the position is their sum")
async def fills(desk: PerpetualDesk) -> str:
    size = desk.size(await desk.price())
    name = await desk.market(OrderSide.BUY, size, Purpose.ENTRY)
    done = await desk.heard(lambda seen: seen.order.client_id == name and seen.order.status == "FILLED", f"{name} is filled")
    told = sum((s.fill.quantity for s in desk.seen if s.fill is not None and s.order.client_id == name), Decimal(0))
    trades = [t for t in await desk.venue.user_trades(desk.instrument) if t.order_id == done.order.exchange_id]
    listed_ = sum((trade.quantity for trade in trades), Decimal(0))
    held = await desk.held()
    want(told == listed_ == held == size, f"told {told}, listed {listed_}, held {held}, wanted {size}")
    return f"{held} at {trades[0].price}"


@item("The newest orders of an instrument are listed with their client ids: a second way to an order")
async def newest(desk: PerpetualDesk) -> str:
    name = await _position(desk)
    want(name in [order.client_id for order in await desk.venue.newest_orders(desk.instrument)], f"{name} is among them")
    return "listed"


@item("A closePosition stop by mark price rests in the other book, found by its client id, and not among ordinary orders")
async def net(desk: PerpetualDesk) -> str:
    await _position(desk)
    name = await desk.stop("0.95")
    found = await desk.venue.get_algo(desk.instrument, name)
    want(found is not None and found.live and found.close_position, "it is found, live, and closes the position")
    want(
        name in [o.client_id for o in await desk.venue.open_algo_orders(desk.instrument)], "it stands among the conditional orders"
    )
    want(await desk.venue.get_order(desk.instrument, name) is None, "the ordinary book does not know it")
    want(name in [o.client_id for o in await desk.venue.newest_algo_orders(desk.instrument)], "it stands among the newest")
    return f"at {found.trigger_price}" if found else ""


@item("A second closePosition stop on that side is refused as existing already")
async def one_net(desk: PerpetualDesk) -> str:
    await _net(desk)
    return await refused(desk.stop("0.94"), Meaning.STOP_EXISTS)


@item("A quantity stop stands before the net")
async def two_stops(desk: PerpetualDesk) -> str:
    await _net(desk)
    name = await desk.stop("0.96", await desk.held())
    found = await desk.venue.get_algo(desk.instrument, name)
    want(found is not None and found.live, "it rests beside the net")
    await desk.venue.cancel_algo(desk.instrument, name)
    return "rests"


@item("A stop on the wrong side of the mark is refused as triggering at once")
async def passed(desk: PerpetualDesk) -> str:
    await _position(desk)
    return await refused(desk.stop("1.03", await desk.held()), Meaning.WOULD_TRIGGER)


@item("A reduce-only limit order rests as a take-profit, and is cancelled")
async def take_profit(desk: PerpetualDesk) -> str:
    await _position(desk)
    name, price = desk.name(Purpose.TAKE_PROFIT), desk.at(await desk.price() * Decimal("1.03"))
    order = OrderRequest(desk.instrument, OrderSide.SELL, OrderType.LIMIT, await desk.held(), name, price, reduce_only=True)
    await desk.venue.place_order(order)
    found = await desk.venue.get_order(desk.instrument, name)
    want(found is not None and found.live and found.reduce_only, "it rests and can only reduce")
    await desk.venue.cancel_order(desk.instrument, name)
    return f"at {price}"


@item("The user stream comes back after it was given up, and tells again")
async def again(desk: Desk[Any]) -> str:
    before = desk.stream.epoch
    desk.stream.doubt("the acceptance list wants to see it come back")
    await desk.connected(before)
    order = await desk.resting(anew=True)
    await desk.heard(lambda seen: seen.order.client_id == order.client_id, "an order after the new connection")
    return f"connection {desk.stream.epoch}"


@item("A reduce-only market order closes the position, and what stays open is zero")
async def closes(desk: PerpetualDesk) -> str:
    await _position(desk)
    name = await desk.market(OrderSide.SELL, await desk.held(), Purpose.CLOSE)
    await desk.heard(lambda seen: seen.order.client_id == name and seen.order.status == "FILLED", f"{name} is filled")
    want(await desk.held() == 0, "the position is flat")
    return "flat"


@item("The net of a position that is gone ends by itself or can be cancelled: nothing of it rests")
async def no_orphan(desk: PerpetualDesk) -> str:
    resting = [order for order in await desk.venue.open_algo_orders(desk.instrument) if order.client_id in desk.placed]
    for order in resting:
        await desk.venue.cancel_algo(desk.instrument, order.client_id)
    left = [o for o in await desk.venue.open_algo_orders(desk.instrument) if o.client_id in desk.placed]
    want(not left, f"{len(left)} conditional orders of ours rest")
    return f"{len(resting)} had to be cancelled"


@item("Answers tell how much of the request weight is used")
async def weight(desk: PerpetualDesk) -> str:
    await desk.venue.account()
    used = desk.venue.rest.used_weight
    want(used > 0, "X-MBX-USED-WEIGHT-1M stands in the answer")
    return f"{used} of a minute's weight"


# -- what items need first


async def _position(desk: PerpetualDesk) -> str:
    """A position; gives the client id of an order that was filled for it."""
    if not await desk.held():
        await desk.market(OrderSide.BUY, desk.size(await desk.price()), Purpose.ENTRY)
    want(await desk.held() > 0, "a market order has opened a position")
    filled = [seen.order.client_id for seen in desk.seen if seen.fill is not None]
    return filled[-1] if filled else desk.placed[-1]


async def _net(desk: PerpetualDesk) -> None:
    await _position(desk)
    if not any(order.close_position for order in await desk.venue.open_algo_orders(desk.instrument)):
        await desk.stop("0.95")
