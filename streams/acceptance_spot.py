"""What spot must do for us: a list as acceptance.py's, for a market without marks, reduce-only orders, closePosition stops."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from infra.settings import Settings
from infra.venue.binance.sockets import spot_user_stream
from infra.venue.binance.spot import BinanceSpot
from infra.venue.port import Meaning, OutcomeKind, Protection
from infra.venue.protection import move
from schemas.ids import Purpose
from schemas.units import OrderSide
from streams import acceptance
from streams.acceptance import Desk, Items, refused, tried, want

ITEMS = Items()
item = ITEMS.add


class SpotDesk(Desk[BinanceSpot]):
    async def price(self) -> Decimal:
        """Where a seller sells."""
        return Decimal(str((await self.venue.quote(self.instrument)).bid))

    async def sellable(self) -> Decimal:
        """What the position is, in whole steps: commissions are taken from what is bought."""
        step = self.rules().step
        return (await self.held() / step).to_integral_value(ROUND_DOWN) * step

    async def position(self) -> Decimal:
        """Twice the smallest: its parts must be large enough to be sold."""
        if not await self.held():
            await self.market(OrderSide.BUY, 2 * self.size(await self.price()), Purpose.ENTRY)
        return await self.sellable()

    async def protection(self, stop: str, goal: str | None) -> Protection:
        quantity, price = await self.position(), await self.price()
        levels = [self.at(price * Decimal(part)) if part else None for part in (stop, goal)]
        assert levels[0] is not None
        return Protection(self.instrument, OrderSide.SELL, levels[0], self.name(Purpose.STOP), quantity, levels[1])


async def check(settings: Settings, instrument: str) -> list[dict[str, Any]]:
    """[{number, about, ok, detail, ms}], every item tried whatever the others say."""
    venue = BinanceSpot(settings)
    async with venue:
        return await tried(ITEMS, SpotDesk(venue, spot_user_stream(settings, venue), instrument))


item("Its clock is told, and ours follows it to within a second of its answers")(acceptance.clock)


@item("The instrument is listed, with a tick, a step and a smallest notional; none of it is held to begin with")
async def listed(desk: SpotDesk) -> str:
    desk.filters = (await desk.venue.filters()).get(desk.instrument)
    rules = desk.rules()
    want(rules.tick > 0 and rules.step > 0 and rules.trading, "tick and step are positive, and it trades")
    want(await desk.held() == 0, "nothing is held: sell your own first")
    return f"tick {rules.tick}, step {rules.step}, notional {rules.min_notional}"


item("A request that was signed before its window is refused with -1021")(acceptance.fence)


item("The user stream opens by a signed subscription")(acceptance.stream)


@item("A limit order rests under our client id: acknowledged, found by it, listed, and told on the user stream")
async def rests(desk: SpotDesk) -> str:
    order = await desk.resting()
    want(order.status == "NEW" and order.filled == 0, f"it is NEW ({order.status})")
    want(order.client_id in [o.client_id for o in await desk.venue.open_orders(desk.instrument)], "it stands among the open orders")
    await desk.heard(lambda seen: seen.order.client_id == order.client_id and seen.execution == "NEW", "the order is new")
    return f"order {order.exchange_id}"


item("A second order under the same client id is refused while the first rests")(acceptance.once)


@item(
    "A resting order is cancelled by its client id; it is found as CANCELED, told under its own id, and cannot be cancelled again"
)
async def cancels(desk: SpotDesk) -> str:
    order = await desk.resting()
    await desk.venue.cancel_order(desk.instrument, order.client_id)
    found = await desk.venue.get_order(desk.instrument, order.client_id)
    want(found is not None and found.status == "CANCELED", f"it is CANCELED ({found.status if found else 'denied'})")
    await desk.heard(lambda seen: seen.order.client_id == order.client_id and seen.execution == "CANCELED", "its cancellation")
    return await refused(desk.venue.cancel_order(desk.instrument, order.client_id), Meaning.NO_SUCH_ORDER)


@item("More than is held cannot be sold: nothing can open a short")
async def no_short(desk: SpotDesk) -> str:
    size = desk.size(await desk.price())
    return await refused(desk.market(OrderSide.SELL, size, Purpose.CLOSE), Meaning.NONE, OutcomeKind.TERMINAL)


@item(
    "A market order fills: told with our client id, listed among our trades; the position is their sum less the fees taken from it"
)
async def fills(desk: SpotDesk) -> str:
    size = 2 * desk.size(await desk.price())
    name = await desk.market(OrderSide.BUY, size, Purpose.ENTRY)
    done = await desk.heard(lambda seen: seen.order.client_id == name and seen.order.status == "FILLED", f"{name} is filled")
    told = sum((s.fill.quantity for s in desk.seen if s.fill is not None and s.order.client_id == name), Decimal(0))
    trades = [t for t in await desk.venue.user_trades(desk.instrument) if t.order_id == done.order.exchange_id]
    base = desk.instrument.rsplit(".", 1)[1]
    taken = sum((t.fee for t in trades if base.startswith(t.fee_asset)), Decimal(0))
    bought, held = sum((t.quantity for t in trades), Decimal(0)), await desk.held()
    want(
        told == bought == size and held == bought - taken, f"told {told}, listed {bought}, fees {taken}, held {held}, wanted {size}"
    )
    return f"{held} at {trades[0].price}"


@item("A stop and a take-profit rest as one order list, found under our id with both levels")
async def one_list(desk: SpotDesk) -> str:
    wanted = await desk.protection("0.97", "1.03")
    await desk.venue.protect(wanted)
    want(await desk.venue.protections(desk.instrument) == [wanted], "it is what rests")
    return f"{wanted.stop_price} and {wanted.take_profit}"


@item(
    "A second protection of the same position is refused: it is moved by a cancel, then a placement, and the time between is told"
)
async def moves(desk: SpotDesk) -> str:
    resting = await _protected(desk)
    code = await refused(desk.venue.protect(await desk.protection("0.98", "1.03")), Meaning.NONE, OutcomeKind.TERMINAL)
    tighter = await desk.protection("0.98", "1.03")
    moved = await move(desk.venue, resting, tighter)
    want(await desk.venue.protections(desk.instrument) == [tighter], "the tighter one is what rests")
    return f"{code}; bare for {moved.bare_s * 1000:.0f} ms"


@item("A protection that the market has passed is refused as triggering at once, and the one before it rests again")
async def passed(desk: SpotDesk) -> str:
    resting = await _protected(desk)
    moved = await move(desk.venue, resting, await desk.protection("1.02", "1.03"))
    said = moved.refused.outcome if moved.refused is not None else None
    want(said is not None and said.meaning is Meaning.WOULD_TRIGGER, f"refused as triggering at once, but: {said}")
    levels = [(p.stop_price, p.take_profit) for p in await desk.venue.protections(desk.instrument)]
    want(levels == [(resting.stop_price, resting.take_profit)], f"the level before rests again: {levels}")
    return str(said.code) if said is not None else ""


@item("A stop alone rests too")
async def alone(desk: SpotDesk) -> str:
    for resting in await desk.venue.protections(desk.instrument):
        await desk.venue.unprotect(desk.instrument, resting.client_id)
    wanted = await desk.protection("0.97", None)
    await desk.venue.protect(wanted)
    want(await desk.venue.protections(desk.instrument) == [wanted], "it is what rests")
    return f"at {wanted.stop_price}"


item("The user stream comes back after it was given up, subscribes again, and tells again")(acceptance.again)


@item("Once its protection is cancelled the position can be sold, and less than a step of it stays")
async def closes(desk: SpotDesk) -> str:
    for resting in await desk.venue.protections(desk.instrument):
        await desk.venue.unprotect(desk.instrument, resting.client_id)
    name = await desk.market(OrderSide.SELL, await desk.position(), Purpose.CLOSE)
    await desk.heard(lambda seen: seen.order.client_id == name and seen.order.status == "FILLED", f"{name} is filled")
    want(await desk.held() == 0, "the position is flat")
    return "flat"


async def _protected(desk: SpotDesk) -> Protection:
    found = await desk.venue.protections(desk.instrument)
    if not found:
        await desk.venue.protect(await desk.protection("0.97", "1.03"))
        found = await desk.venue.protections(desk.instrument)
    want(len(found) == 1, "one protection rests")
    return found[0]
