"""python-binance's AsyncClient, made safe for money: redirected, signed with a given time, fixed-point numbers, our errors.

Traps of the library that this file exists for: its class attributes are its only addresses; it overwrites timestamp and
recvWindow unless they are set while signing; it drops `newClientOrderId` of conditional orders; it writes floats as 1e-05.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self

import aiohttp
import msgspec
from binance import AsyncClient
from binance.exceptions import BinanceAPIException, BinanceRequestException
from prometheus_client import Summary

from infra.settings import Settings
from infra.venue.binance.budget import Budget, Lane
from infra.venue.binance.errors import ApiError, classify
from infra.venue.port import Meaning, Outcome, OutcomeKind, VenueError
from schemas.ids import symbol_of
from schemas.units import decimal_text

RECV_WINDOW_MS = 5000
TIMEOUT_S = 8.0
CLOCK_MAX_AGE_S = 600.0
TOO_MANY_ORDERS = -1015

TOOK = Summary("qt_venue_call_seconds", "Calls to the exchange from sending to the answer, refusal or time-out", ["verb"])

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


def rest_client(settings: Settings, url: str, timeout_s: float = TIMEOUT_S) -> RestClient:
    """A client of the venue at that address, with the key of `settings`. Needs a running event loop."""
    return _redirected(url)(settings.api_key.get_secret_value(), settings.api_secret.get_secret_value(), timeout_s)


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


class Calls:
    """How a client of one of Binance's markets asks: clock, signature, budget. Every verb raises VenueError and nothing else.

    `async with ...(settings) as venue:` closes the session on the way out; the clock is synchronised before the first signature.
    `patient`: its reading is history, which waits for quiet times.
    """

    def __init__(self, settings: Settings, url: str, budget: Budget, timeout_s: float, *, patient: bool = False) -> None:
        self.budget = budget
        self._settings = settings
        self._url = url
        self._timeout_s = timeout_s
        self._patient = patient
        self._rest: RestClient | None = None
        self._clock_at: float | None = None
        self._quiet_until = 0.0
        self._banned = False
        self._clock_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open(self) -> None:
        """Makes the session; talks to nobody yet."""
        self._rest = rest_client(self._settings, self._url, self._timeout_s)
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

    async def clock_is_known(self) -> None:
        """Asks the venue's clock where it is unknown, or has just been proven wrong: before a request's time is taken."""
        await self._clock(may_wait=False)

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

    # -- how a call is made

    def _entry_must_fit(self) -> None:
        """Raises NOT_SENT while the account's order count is kept for what reduces."""
        if not self.budget.entry_fits():
            detail = "most of the account's orders of these 10 s are used: the rest is for what reduces"
            raise VenueError("place_order", Outcome(OutcomeKind.NOT_ACCEPTED_RETRY, None, detail, Meaning.NOT_SENT))

    async def _order(self, verb: str, path: str, params: dict[str, Any], sent_at: int | None, recv_window_ms: int | None) -> Any:
        if sent_at is not None:
            params[_SENT_AT] = sent_at
        if recv_window_ms is not None:
            params[_WINDOW] = recv_window_ms
        return await self._signed(verb, "post", path, params, order=True)

    async def _signed(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        order: bool = False,
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
        version: int | None = None,
        calm: bool = False,
    ) -> Any:
        lane = Lane.CALM if method == "get" and (calm or self._patient) else Lane.TRADE if method == "get" else Lane.PROTECT
        await self.budget.wait(lane, self._weight(method, path, params or {}))
        self._quiet(verb, method, path)
        data = {key: _text(value) for key, value in (params or {}).items()}
        body = {"data": data} if data or signed else {}
        try:
            with TOOK.labels(verb).time():
                return await self._request(method, path, signed, version, body)
        except (BinanceAPIException, BinanceRequestException, aiohttp.ClientError, TimeoutError, OSError) as e:
            outcome = classify(e)
            if outcome.retry_after_s is not None and outcome.code != TOO_MANY_ORDERS:
                self._quiet_until = time.monotonic() + outcome.retry_after_s
                self._banned = outcome.banned
            raise VenueError(verb, outcome) from e

    async def _request(self, method: str, path: str, signed: bool, version: int | None, body: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def _weight(self, method: str, path: str, params: Mapping[str, Any]) -> int:
        raise NotImplementedError

    def _quiet(self, verb: str, method: str, path: str) -> None:
        """The venue has asked for silence: whoever asks on is banned, and for longer each time. Orders and cancels cost (almost)
        no weight and may be protection, so only a ban stops them, nor the clock that signs them."""
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0 and (self._banned or (method == "get" and path != "time")):
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


def named(instrument: str | None) -> dict[str, str]:
    return {"symbol": symbol_of(instrument)} if instrument else {}


def _text(value: Any) -> Any:
    """Plain digits and lower-case truth: `1E+2` breaks the signature, `True` is no boolean to Binance."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return decimal_text(value) if isinstance(value, Decimal) else value
