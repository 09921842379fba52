"""USD-M futures by python-binance's AsyncClient: our verbs, its words. How a call is made: calls.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
from binance.exceptions import BinanceAPIException, BinanceRequestException

from infra.settings import Settings
from infra.venue.binance import wire
from infra.venue.binance.budget import SHARES, Budget, Lane, weight_of
from infra.venue.binance.calls import TIMEOUT_S, Calls, named
from infra.venue.binance.errors import classify
from infra.venue.binance.filters import parse_filters
from infra.venue.binance.key import Permissions
from infra.venue.binance.key import parse as parse_key
from infra.venue.port import (
    Ack,
    Filters,
    Kline,
    Levels,
    Listing,
    MarketVenue,
    MarkPrice,
    Meaning,
    OrderRequest,
    Protection,
    PublicTrade,
    StopRequest,
    TradingVenue,
    VenueAccount,
    VenueError,
    VenueFill,
    VenueOrder,
    VenuePosition,
)
from schemas.ids import symbol_of
from schemas.trading import OrderType


class BinanceUsdm(Calls):
    """USD-M futures: MarketVenue, TradingVenue and Protector (infra/venue/port.py).

    `who`: whose share of the rate budget it spends (budget.py).
    """

    side_by_side = True

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S, *, who: str = "people", patient: bool = False) -> None:
        super().__init__(settings, settings.exchange_url, Budget(SHARES[who], settings.weight_limit), timeout_s, patient=patient)

    async def _request(self, method: str, path: str, signed: bool, version: int | None, body: Mapping[str, Any]) -> Any:
        return await self.rest._request_futures_api(method, path, signed, version or 1, **body)

    def _weight(self, method: str, path: str, params: Mapping[str, Any]) -> int:
        return weight_of(method, path, params)

    # -- public

    async def filters(self) -> dict[str, Filters]:
        """Filters by instrument, of what is listed."""
        info = await self._call("filters", "get", "exchangeInfo")
        found = (parse_filters(symbol) for symbol in info["symbols"] if symbol.get("contractType", "PERPETUAL") == "PERPETUAL")
        return {filters.instrument: filters for filters in found}

    async def listings(self) -> list[Listing]:
        """Everything that is listed, with the volume of the last day."""
        info = await self._call("listings", "get", "exchangeInfo", calm=True)
        rows = await self._call("listings", "get", "ticker/24hr", calm=True)
        return wire.listings(info, rows)

    async def levels(self, instrument: str) -> Levels:
        """The best hundred of each side."""
        return wire.levels(await self._call("levels", "get", "depth", {"symbol": symbol_of(instrument), "limit": 100}, calm=True))

    async def klines(self, instrument: str, interval: str, limit: int) -> list[Kline]:
        """The newest `limit`, oldest first; the last one may still be open."""
        params = {"symbol": symbol_of(instrument), "interval": interval, "limit": limit}
        return [wire.kline(row) for row in await self._call("klines", "get", "klines", params, calm=True)]

    async def trades(
        self, instrument: str, *, from_id: int | None = None, start_at: int | None = None, limit: int = 1000
    ) -> list[PublicTrade]:
        """Ascending: from an id, else from a market time, else the newest."""
        params: dict[str, Any] = {"symbol": symbol_of(instrument), "limit": limit}
        if from_id is not None:
            params["fromId"] = from_id
        elif start_at is not None:
            params["startTime"] = start_at
        return [wire.agg_trade(row) for row in await self._call("trades", "get", "aggTrades", params, calm=True)]

    async def marks(self) -> list[MarkPrice]:
        rows = await self._call("marks", "get", "premiumIndex")
        return [wire.premium(row) for row in rows]

    async def market_ms(self, instrument: str) -> int:
        """Market time: on the local exchange it runs faster than the clock that signs."""
        row = await self._call("market_ms", "get", "premiumIndex", {"symbol": symbol_of(instrument)})
        return int(row["time"])

    # -- settings of an instrument

    async def set_leverage(self, instrument: str, leverage: int) -> None:
        params = {"symbol": symbol_of(instrument), "leverage": leverage}
        await self._signed("set_leverage", "post", "leverage", params)

    async def set_margin_type(self, instrument: str, margin: Literal["CROSSED", "ISOLATED"]) -> None:
        """Already so is a success."""
        params = {"symbol": symbol_of(instrument), "marginType": margin}
        await self._tolerant(Meaning.ALREADY_SO, self._signed("set_margin_type", "post", "marginType", params))

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
        if order.reduce_only:
            params["reduceOnly"] = True
        else:
            self._entry_must_fit()
        return wire.ack(await self._order("place_order", "order", params, sent_at, recv_window_ms))

    async def room_to_tighten(self) -> None:
        """Returns when the account's order count has room for a stop that only tightens."""
        await self.budget.wait_to_tighten()

    async def place_algo(self, stop: StopRequest, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack:
        params: dict[str, Any] = {
            "algoType": "CONDITIONAL",
            "symbol": symbol_of(stop.instrument),
            "side": stop.side.value,
            "type": stop.type.value,
            "triggerPrice": stop.trigger_price,
            "workingType": "MARK_PRICE",
            "clientAlgoId": stop.client_id,
        }
        params |= {"closePosition": True} if stop.quantity is None else {"quantity": stop.quantity, "reduceOnly": True}
        return wire.algo_ack(await self._order("place_algo", "algoOrder", params, sent_at, recv_window_ms))

    async def cancel_order(self, instrument: str, client_id: str) -> None:
        """Raises NO_SUCH_ORDER where nothing rests under that id: it may have been filled."""
        params = {"symbol": symbol_of(instrument), "origClientOrderId": client_id}
        await self._signed("cancel_order", "delete", "order", params)

    async def cancel_algo(self, instrument: str, client_id: str) -> None:
        await self._signed("cancel_algo", "delete", "algoOrder", {"clientAlgoId": client_id})

    async def get_order(self, instrument: str, client_id: str) -> VenueOrder | None:
        """None: the exchange says that it knows no such order (its answer may lag a write)."""
        params = {"symbol": symbol_of(instrument), "origClientOrderId": client_id}
        row = await self._tolerant(Meaning.NO_SUCH_ORDER, self._signed("get_order", "get", "order", params))
        return wire.order(row) if row else None

    async def order_by_exchange_id(self, instrument: str, exchange_id: str) -> VenueOrder | None:
        params = {"symbol": symbol_of(instrument), "orderId": exchange_id}
        row = await self._tolerant(Meaning.NO_SUCH_ORDER, self._signed("get_order", "get", "order", params))
        return wire.order(row) if row else None

    async def get_algo(self, instrument: str, client_id: str) -> VenueOrder | None:
        call = self._signed("get_algo", "get", "algoOrder", {"clientAlgoId": client_id})
        row = await self._tolerant(Meaning.NO_SUCH_ORDER, call)
        return wire.algo_order(row) if row else None

    async def open_orders(self, instrument: str | None = None) -> list[VenueOrder]:
        return [wire.order(row) for row in await self._signed("open_orders", "get", "openOrders", named(instrument))]

    async def open_algo_orders(self, instrument: str | None = None) -> list[VenueOrder]:
        rows = await self._signed("open_algo_orders", "get", "openAlgoOrders", named(instrument))
        return [wire.algo_order(row) for row in (rows if isinstance(rows, list) else rows.get("orders", []))]

    async def newest_orders(self, instrument: str) -> list[VenueOrder]:
        """Of the ordinary book, whatever their state, oldest first: another way to an order than asking for its id."""
        return [wire.order(row) for row in await self._signed("newest_orders", "get", "allOrders", named(instrument))]

    async def newest_algo_orders(self, instrument: str) -> list[VenueOrder]:
        rows = await self._signed("newest_algo_orders", "get", "allAlgoOrders", named(instrument))
        return [wire.algo_order(row) for row in rows]

    # -- protection

    async def protect(self, wanted: Protection, *, sent_at: int | None = None, recv_window_ms: int | None = None) -> Ack:
        """A stop by mark price; a take-profit is an order of its own here. STOP_EXISTS: one closes the whole position already."""
        assert wanted.take_profit is None, "perpetuals do not pair a stop with a take-profit"
        stop = StopRequest(wanted.instrument, wanted.side, wanted.stop_price, wanted.client_id, wanted.quantity)
        return await self.place_algo(stop, sent_at=sent_at, recv_window_ms=recv_window_ms)

    async def unprotect(self, instrument: str, client_id: str) -> None:
        await self.cancel_algo(instrument, client_id)

    async def protections(self, instrument: str) -> list[Protection]:
        """Stops that can only reduce, whoever placed them."""
        return [
            Protection(instrument, o.side, o.trigger_price, o.client_id, None if o.close_position else o.quantity)
            for o in await self.open_algo_orders(instrument)
            if o.live and o.type == OrderType.STOP_MARKET and (o.close_position or o.reduce_only)
        ]

    # -- the account

    async def positions(self) -> list[VenuePosition]:
        """Those that are not flat."""
        rows = await self._signed("positions", "get", "positionRisk", version=3)
        return [found for row in rows if (found := wire.position(row)).quantity]

    async def account(self) -> VenueAccount:
        return wire.account(await self._signed("account", "get", "account", version=3))

    async def user_trades(self, instrument: str, *, from_id: int | None = None, limit: int = 1000) -> list[VenueFill]:
        """Ours, ascending, from an id (else the newest)."""
        params: dict[str, Any] = {"symbol": symbol_of(instrument), "limit": limit}
        if from_id is not None:
            params["fromId"] = from_id
        return [wire.user_trade(row) for row in await self._signed("user_trades", "get", "userTrades", params)]

    async def permissions(self) -> Permissions | None:
        """What our key may do; None where the venue does not tell (testnets do not)."""
        await self._clock(may_wait=True)
        await self.budget.wait(Lane.TRADE, 1)
        try:
            return parse_key(await self.rest.get_account_api_permissions())
        except (BinanceAPIException, BinanceRequestException, aiohttp.ClientError, TimeoutError, OSError) as e:
            if getattr(e, "status_code", None) == 404:
                return None
            raise VenueError("permissions", classify(e)) from e

    async def listen_key(self) -> str:
        """The key of the user stream, valid for 60 minutes; asking again extends the same key."""
        return str((await self._call("listen_key", "post", "listenKey"))["listenKey"])

    async def keep_listen_key(self) -> None:
        await self._call("keep_listen_key", "put", "listenKey")

    async def close_listen_key(self) -> None:
        await self._call("close_listen_key", "delete", "listenKey")


if TYPE_CHECKING:
    _public: type[MarketVenue] = BinanceUsdm
    _private: type[TradingVenue] = BinanceUsdm
