"""Binance spot behind the same port: positions are balances, protection is one order list of two (or a stop alone).

Nothing here can open a short: a sale takes what is held, so every sale only reduces. There is no mark; prices are the best quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.settings import Settings
from infra.venue.binance import spot_wire
from infra.venue.binance.budget import SHARES, SPOT_ORDERS_A_10S, SPOT_WEIGHT, Budget, spot_weight_of
from infra.venue.binance.calls import TIMEOUT_S, Calls, named
from infra.venue.binance.filters import SPOT, instrument_of, parse_spot_filters
from infra.venue.port import (
    Ack,
    BestQuote,
    Filters,
    Meaning,
    OrderRequest,
    OrderVenue,
    Protection,
    Protector,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
)
from schemas.ids import symbol_of
from schemas.trading import OrderType

NONE = Decimal(0)
STOP, GOAL = "-s", "-t"
"""What a protection's two orders append to its client id."""


class Assets(NamedTuple):
    base: str
    quote: str


class BinanceSpot(Calls):
    """OrderVenue and Protector. `who`: whose share of spot's own rate budget it spends (budget.py)."""

    side_by_side = False

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S, *, who: str = "people", patient: bool = False) -> None:
        budget = Budget(SHARES[who], SPOT_WEIGHT, orders=SPOT_ORDERS_A_10S)
        super().__init__(settings, settings.spot_url, budget, timeout_s, patient=patient)
        self._assets: dict[str, Assets] = {}

    async def _request(self, method: str, path: str, signed: bool, version: int | None, body: Mapping[str, Any]) -> Any:
        return await self.rest._request_api(method, path, signed, "v3", **body)

    def _weight(self, method: str, path: str, params: Mapping[str, Any]) -> int:
        return spot_weight_of(method, path, params)

    def subscription(self) -> dict[str, Any]:
        """Signed parameters of a subscription to the account's events."""
        return dict(self.rest._sign_ws_params({}, self.rest._generate_ws_api_signature))

    # -- public

    async def filters(self) -> dict[str, Filters]:
        """Filters by instrument, of what is listed."""
        info = await self._call("filters", "get", "exchangeInfo")
        for symbol in info["symbols"]:
            self._assets[instrument_of(symbol["symbol"], SPOT)] = Assets(symbol["baseAsset"], symbol["quoteAsset"])
        return {found.instrument: found for found in map(parse_spot_filters, info["symbols"])}

    async def quote(self, instrument: str) -> BestQuote:
        row = await self._call("quote", "get", "ticker/bookTicker", {"symbol": symbol_of(instrument)})
        return BestQuote(instrument, float(row["bidPrice"]), float(row["askPrice"]))

    # -- orders

    async def place_order(self, order: OrderRequest, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack:
        params: dict[str, Any] = {
            "symbol": symbol_of(order.instrument),
            "side": order.side.value,
            "type": order.type.value,
            "quantity": order.quantity,
            "newClientOrderId": order.client_id,
            "newOrderRespType": "ACK",
        }
        if order.type is OrderType.LIMIT:
            params |= {"price": order.price, "timeInForce": "GTC"}
        if not order.reduce_only:
            self._entry_must_fit()
        return spot_wire.ack(await self._order("place_order", "order", params, sent_at, recv_window_ms))

    async def cancel_order(self, instrument: str, client_id: str) -> None:
        """Raises NO_SUCH_ORDER where nothing rests under that id: it may have been filled."""
        params = {"symbol": symbol_of(instrument), "origClientOrderId": client_id}
        await self._signed("cancel_order", "delete", "order", params)

    async def get_order(self, instrument: str, client_id: str) -> VenueOrder | None:
        """None: the exchange says that it knows no such order (its answer may lag a write)."""
        params = {"symbol": symbol_of(instrument), "origClientOrderId": client_id}
        row = await self._tolerant(Meaning.NO_SUCH_ORDER, self._signed("get_order", "get", "order", params))
        return spot_wire.order(row) if row else None

    async def open_orders(self, instrument: str | None = None) -> list[VenueOrder]:
        """Those of lists too."""
        return [spot_wire.order(row) for row in await self._signed("open_orders", "get", "openOrders", named(instrument))]

    async def newest_orders(self, instrument: str) -> list[VenueOrder]:
        return [spot_wire.order(row) for row in await self._signed("newest_orders", "get", "allOrders", named(instrument))]

    # -- protection

    async def protect(self, wanted: Protection, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack:
        """An order list, or without a take-profit a stop alone; both sell at market once the stop has been passed.

        Raises WOULD_TRIGGER where the market has passed the stop (or the take-profit) already: close at market.
        """
        assert wanted.quantity is not None, "spot protects a quantity"
        params: dict[str, Any] = {
            "symbol": symbol_of(wanted.instrument),
            "side": wanted.side.value,
            "quantity": wanted.quantity,
            "newOrderRespType": "ACK",
        }
        if wanted.take_profit is None:
            params |= {"type": "STOP_LOSS", "stopPrice": wanted.stop_price, "newClientOrderId": wanted.client_id}
            return spot_wire.ack(await self._order("protect", "order", params, sent_at, recv_window_ms))
        stop, goal = ("below", "above") if wanted.side == "SELL" else ("above", "below")
        params |= {
            "listClientOrderId": wanted.client_id,
            f"{stop}Type": "STOP_LOSS",
            f"{stop}StopPrice": wanted.stop_price,
            f"{stop}ClientOrderId": wanted.client_id + STOP,
            f"{goal}Type": "LIMIT_MAKER",
            f"{goal}Price": wanted.take_profit,
            f"{goal}ClientOrderId": wanted.client_id + GOAL,
        }
        row = await self._order("protect", "orderList/oco", params, sent_at, recv_window_ms)
        return Ack(str(row["orderListId"]), row["listClientOrderId"], row["listOrderStatus"])

    async def unprotect(self, instrument: str, client_id: str) -> None:
        """Both orders of a list, or the stop alone. Raises NO_SUCH_ORDER where neither rests: it may have triggered."""
        params = {"symbol": symbol_of(instrument), "listClientOrderId": client_id}
        try:
            await self._signed("unprotect", "delete", "orderList", params)
        except VenueError as e:
            if e.outcome.meaning is not Meaning.NO_SUCH_ORDER:
                raise
            await self.cancel_order(instrument, client_id)

    async def protections(self, instrument: str) -> list[Protection]:
        """What rests as a stop, whoever placed it; one of a list with its take-profit."""
        rows = await self._signed("protections", "get", "openOrders", named(instrument))
        stops = [row for row in rows if row["type"] in ("STOP_LOSS", "STOP_LOSS_LIMIT")]
        if not stops:
            return []
        names = {-1: ""}
        if any(row["orderListId"] != -1 for row in stops):
            lists = await self._signed("protections", "get", "openOrderList")
            names |= {int(row["orderListId"]): row["listClientOrderId"] for row in lists}
        return [spot_wire.protection(row, rows, names) for row in stops if row["orderListId"] in names]

    # -- the account

    async def positions(self) -> list[VenuePosition]:
        """Balances of a step at least, as instruments against USDT. Spot knows no entry price and no mark: 0."""
        rules = await self.filters()
        rows = (await self._signed("positions", "get", "account", {"omitZeroBalances": True}))["balances"]
        held = {row["asset"]: Decimal(row["free"]) + Decimal(row["locked"]) for row in rows}
        return [
            VenuePosition(instrument, quantity, NONE, NONE, NONE, NONE, at=0)
            for instrument, assets in self._assets.items()
            if assets.quote == "USDT" and (quantity := held.get(assets.base, Decimal(0))) >= rules[instrument].step
        ]

    async def user_trades(self, instrument: str, *, from_id: int | None = None, limit: int = 1000) -> list[VenueFill]:
        """Ours, ascending, from an id (else the newest)."""
        params: dict[str, Any] = {"symbol": symbol_of(instrument), "limit": limit}
        if from_id is not None:
            params["fromId"] = from_id
        return [spot_wire.user_trade(row) for row in await self._signed("user_trades", "get", "myTrades", params)]


if TYPE_CHECKING:
    _orders: type[OrderVenue] = BinanceSpot
    _protector: type[Protector] = BinanceSpot
