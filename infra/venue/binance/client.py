"""python-binance's AsyncClient, made safe for money: redirected, signed with a given time, fixed-point numbers, our errors.

Traps of the library that this file exists for: its class attributes are its only addresses; it overwrites timestamp and
recvWindow unless they are set while signing; it drops `newClientOrderId` of conditional orders; it writes floats as 1e-05.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import msgspec
from binance import AsyncClient
from binance.exceptions import BinanceAPIException, BinanceRequestException

from infra.settings import Settings
from infra.venue.binance import wire
from infra.venue.binance.budget import SHARES, Budget, Lane, weight_of
from infra.venue.binance.errors import ApiError, classify
from infra.venue.binance.filters import parse_filters
from infra.venue.binance.key import Permissions
from infra.venue.binance.key import parse as parse_key
from infra.venue.port import (
    Ack,
    Filters,
    Kline,
    MarketVenue,
    MarkPrice,
    Meaning,
    OrderRequest,
    Outcome,
    OutcomeKind,
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
from schemas.units import decimal_text

RECV_WINDOW_MS = 5000
TIMEOUT_S = 8.0
CLOCK_MAX_AGE_S = 600.0
TOO_MANY_ORDERS = -1015

_SENT_AT, _WINDOW = "__sent_at", "__recv_window"


class RestClient(AsyncClient):  # type: ignore[misc]  # the library has no types
    """The library with its addresses moved and its signing and answers corrected. Build it by `rest_client`."""

    def __init__(self, api_key: str, api_secret: str, timeout_s: float) -> None:
        self.used_weight = 0
        self.budget: Budget | None = None
        super().__init__(api_key, api_secret, requests_params={"timeout": aiohttp.ClientTimeout(total=timeout_s)})

    def _generate_signature(self, data: dict[str, Any], uri_encode: bool = True) -> str:
        """A given time and window win over the library's own, which it has just written into `data`."""
        sent_at, window = data.pop(_SENT_AT, None), data.pop(_WINDOW, None)
        if sent_at is not None:
            data["timestamp"] = sent_at
        data["recvWindow"] = window or RECV_WINDOW_MS
        return str(super()._generate_signature(data, uri_encode))

    async def _handle_response(self, response: aiohttp.ClientResponse) -> Any:
        weight, count = _number(response, "X-MBX-USED-WEIGHT-1M"), _number(response, "X-MBX-ORDER-COUNT-10S")
        self.used_weight = weight if weight is not None else self.used_weight
        if self.budget is not None:
            self.budget.told(weight, count)
        body = await response.text()
        if not 200 <= response.status < 300:
            raise ApiError(response, response.status, body)
        if not body:
            return {}
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as e:
            raise BinanceRequestException(f"{response.status} {body[:200]}") from e


def _number(response: aiohttp.ClientResponse, header: str) -> int | None:
    text = response.headers.get(header)
    return int(text) if text is not None and text.isdigit() else None


def rest_client(settings: Settings, timeout_s: float = TIMEOUT_S) -> RestClient:
    """A client of the venue that `settings` name. Needs a running event loop."""
    return _redirected(settings.exchange_url)(
        settings.api_key.get_secret_value(), settings.api_secret.get_secret_value(), timeout_s
    )


def _redirected(http: str) -> type[RestClient]:
    """The addresses are class attributes, formatted in __init__: a subclass is the only way to move them."""
    ws = "ws" + http.removeprefix("http")
    fapi, data, other = f"{http}/fapi", f"{http}/futures/data", f"{http}/elsewhere"
    urls = {
        **dict.fromkeys(("API_URL", "API_TESTNET_URL", "API_DEMO_URL"), f"{http}/api"),
        **dict.fromkeys(("FUTURES_URL", "FUTURES_TESTNET_URL", "FUTURES_DEMO_URL"), fapi),
        **dict.fromkeys(("FUTURES_DATA_URL", "FUTURES_DATA_TESTNET_URL"), data),
        **dict.fromkeys(("FUTURES_COIN_URL", "FUTURES_COIN_TESTNET_URL", "FUTURES_COIN_DEMO_URL"), other),
        **dict.fromkeys(("FUTURES_COIN_DATA_URL", "FUTURES_COIN_DATA_TESTNET_URL", "PAPI_URL"), other),
        **dict.fromkeys(("OPTIONS_URL", "OPTIONS_TESTNET_URL"), other),
        **dict.fromkeys(("WS_API_URL", "WS_API_TESTNET_URL", "WS_API_DEMO_URL"), f"{ws}/ws-api/v3"),
        **dict.fromkeys(("WS_FUTURES_URL", "WS_FUTURES_TESTNET_URL", "WS_FUTURES_DEMO_URL"), f"{ws}/ws-fapi/v1"),
        "MARGIN_API_URL": f"{http}/sapi",
        "WEBSITE_URL": http,
    }
    return type("RedirectedClient", (RestClient,), urls)


class BinanceUsdm:
    """USD-M futures: MarketVenue and TradingVenue (infra/venue/port.py). Every verb raises VenueError and nothing else.

    `async with BinanceUsdm(settings) as venue:` synchronises the clock on the way in and closes the session on the way out.
    `who`: whose share of the rate budget it spends (budget.py). `patient`: its reading is history, which waits for quiet times.
    """

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S, *, who: str = "people", patient: bool = False) -> None:
        self.budget = Budget(SHARES[who], settings.weight_limit)
        self._settings = settings
        self._timeout_s = timeout_s
        self._patient = patient
        self._rest: RestClient | None = None
        self._clock_at: float | None = None
        self._quiet_until = 0.0
        self._banned = False
        self._clock_lock = asyncio.Lock()
        self._filters: dict[str, Filters] = {}

    async def __aenter__(self) -> BinanceUsdm:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open(self) -> None:
        """Makes the session; talks to nobody yet."""
        self._rest = rest_client(self._settings, self._timeout_s)
        self._rest.budget = self.budget

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close_connection()
            await self._rest.ws_future.close()
            self._rest = None

    @property
    def rest(self) -> RestClient:
        assert self._rest is not None, "open() first"
        return self._rest

    # -- clock

    def request_ms(self) -> int:
        """The real clock as the venue sees it."""
        return int(time.time() * 1000 + self.rest.timestamp_offset)

    async def server_time(self) -> int:
        return int((await self._call("server_time", "get", "time"))["serverTime"])

    async def sync_time(self) -> None:
        """Offset of the venue's clock: the middle of the quickest of three round trips."""
        best = float("inf")
        for _ in range(3):
            before = time.time() * 1000
            server = await self.server_time()
            after = time.time() * 1000
            if after - before < best:
                best = after - before
                self.rest.timestamp_offset = int(server - (before + after) / 2)
        self._clock_at = time.monotonic()

    async def _clock(self, *, may_wait: bool) -> None:
        """Signing needs a clock. One that is old is renewed, but never in the way of an order."""
        if self._clock_at is not None and (not may_wait or time.monotonic() - self._clock_at < CLOCK_MAX_AGE_S):
            return
        async with self._clock_lock:
            if self._clock_at is None or time.monotonic() - self._clock_at >= CLOCK_MAX_AGE_S:
                await self.sync_time()

    # -- public

    async def filters(self) -> dict[str, Filters]:
        """Filters by instrument, of what is listed."""
        info = await self._call("filters", "get", "exchangeInfo")
        found = (parse_filters(symbol) for symbol in info["symbols"] if symbol.get("contractType", "PERPETUAL") == "PERPETUAL")
        self._filters = {filters.instrument: filters for filters in found}
        return self._filters

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
        elif not self.budget.entry_fits():
            detail = "most of the account's orders of these 10 s are used: the rest is for what reduces"
            raise VenueError("place_order", Outcome(OutcomeKind.NOT_ACCEPTED_RETRY, None, detail, retry_after_s=None))
        return wire.ack(await self._order("place_order", "order", params, sent_at, recv_window_ms))

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
        return [wire.order(row) for row in await self._signed("open_orders", "get", "openOrders", _symbol(instrument))]

    async def open_algo_orders(self, instrument: str | None = None) -> list[VenueOrder]:
        rows = await self._signed("open_algo_orders", "get", "openAlgoOrders", _symbol(instrument))
        return [wire.algo_order(row) for row in (rows if isinstance(rows, list) else rows.get("orders", []))]

    async def newest_orders(self, instrument: str) -> list[VenueOrder]:
        """Of the ordinary book, whatever their state, oldest first: another way to an order than asking for its id."""
        return [wire.order(row) for row in await self._signed("newest_orders", "get", "allOrders", _symbol(instrument))]

    async def newest_algo_orders(self, instrument: str) -> list[VenueOrder]:
        rows = await self._signed("newest_algo_orders", "get", "allAlgoOrders", _symbol(instrument))
        return [wire.algo_order(row) for row in rows]

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

    # -- how a call is made

    async def _order(self, verb: str, path: str, params: dict[str, Any], sent_at: int | None, recv_window_ms: int | None) -> Any:
        if sent_at is not None:
            params[_SENT_AT] = sent_at
        if recv_window_ms is not None:
            params[_WINDOW] = recv_window_ms
        return await self._signed(verb, "post", path, params, order=True)

    async def _signed(
        self, verb: str, method: str, path: str, params: Mapping[str, Any] | None = None, *, version: int = 1, order: bool = False
    ) -> Any:
        await self._clock(may_wait=not order)
        try:
            return await self._call(verb, method, path, params, signed=True, version=version)
        except VenueError as e:
            if e.outcome.code != -1021:
                raise
            self._clock_at = None
            if order:
                raise  # the fence against requests that were frozen on their way: never retried in place
        await self._clock(may_wait=True)
        return await self._call(verb, method, path, params, signed=True, version=version)

    async def _call(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        signed: bool = False,
        version: int = 1,
        calm: bool = False,
    ) -> Any:
        lane = Lane.CALM if method == "get" and (calm or self._patient) else Lane.TRADE if method == "get" else Lane.PROTECT
        await self.budget.wait(lane, weight_of(method, path, params or {}))
        self._quiet(verb, method)
        data = {key: _text(value) for key, value in (params or {}).items()}
        body = {"data": data} if data or signed else {}
        try:
            return await self.rest._request_futures_api(method, path, signed, version, **body)
        except (BinanceAPIException, BinanceRequestException, aiohttp.ClientError, TimeoutError, OSError) as e:
            outcome = classify(e)
            if outcome.retry_after_s is not None and outcome.code != TOO_MANY_ORDERS:
                self._quiet_until = time.monotonic() + outcome.retry_after_s
                self._banned = outcome.banned
            raise VenueError(verb, outcome) from e

    def _quiet(self, verb: str, method: str) -> None:
        """The venue has asked for silence: whoever asks on is banned, and for longer each time. Orders and cancels cost (almost)
        no weight and may be protection, so only a ban stops them."""
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0 and (self._banned or method == "get"):
            detail = f"the exchange wants to be left alone for another {left_s:.1f} s"
            raise VenueError(verb, Outcome(OutcomeKind.NOT_ACCEPTED_RETRY, None, detail, Meaning.NONE, left_s, self._banned))

    async def _tolerant(self, meaning: Meaning, call: Any) -> Any:
        """The answer, or None where the refusal means `meaning`."""
        try:
            return await call
        except VenueError as e:
            if e.outcome.kind is OutcomeKind.SEMANTIC and e.outcome.meaning is meaning:
                return None
            raise


def _symbol(instrument: str | None) -> dict[str, str]:
    return {"symbol": symbol_of(instrument)} if instrument else {}


def _text(value: Any) -> Any:
    """Plain digits and lower-case truth: `1E+2` breaks the signature, `True` is no boolean to Binance."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return decimal_text(value) if isinstance(value, Decimal) else value


if TYPE_CHECKING:
    _public: type[MarketVenue] = BinanceUsdm
    _private: type[TradingVenue] = BinanceUsdm
