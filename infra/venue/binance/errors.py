"""One table: what each refusal of Binance means for us. Whatever is not in it, and whatever has no answer at all, is UNKNOWN.

UNKNOWN is the careful reading: the order may live. It is resolved by asking for our own id (never by sending again).
"""

from __future__ import annotations

import asyncio
import json
from typing import Final, NamedTuple

import aiohttp
from binance.exceptions import BinanceAPIException, BinanceRequestException

from infra.venue.port import Meaning, Outcome, OutcomeKind

UNKNOWN, RETRY, FIX = OutcomeKind.UNKNOWN, OutcomeKind.NOT_ACCEPTED_RETRY, OutcomeKind.FIX
TERMINAL, SEMANTIC, AUTH = OutcomeKind.TERMINAL, OutcomeKind.SEMANTIC, OutcomeKind.AUTH


class Row(NamedTuple):
    kind: OutcomeKind
    about: str
    meaning: Meaning = Meaning.NONE


TABLE: Final[dict[int, Row]] = {
    # may have been done
    -1000: Row(UNKNOWN, "an unknown error while processing"),
    -1001: Row(UNKNOWN, "disconnected inside the exchange"),
    -1006: Row(UNKNOWN, "an unexpected answer inside the exchange"),
    -1007: Row(UNKNOWN, "the backend did not answer in time"),
    # certainly not done; later it may be
    -1003: Row(RETRY, "too many requests"),
    -1008: Row(RETRY, "the exchange sheds load"),
    -1015: Row(RETRY, "too many orders"),
    -1016: Row(RETRY, "the service is shutting down"),
    # our request can be mended. -1021 on an order is a fence, not an error: it is never retried in place
    -1021: Row(FIX, "the timestamp is outside of the window"),
    -1111: Row(FIX, "too many decimals"),
    -4014: Row(FIX, "price is off tick"),
    -4023: Row(FIX, "quantity is off step"),
    -4061: Row(FIX, "position side does not fit the position mode"),
    -5022: Row(FIX, "a post-only order would take"),
    # never, as it stands
    -2010: Row(TERMINAL, "new order rejected"),
    -2018: Row(TERMINAL, "balance is not sufficient"),
    -2019: Row(TERMINAL, "margin is not sufficient"),
    -2025: Row(TERMINAL, "too many open orders"),
    -2027: Row(TERMINAL, "position above the limit of this leverage"),
    -2028: Row(TERMINAL, "leverage too small for the margin"),
    -1013: Row(TERMINAL, "a filter refuses it"),
    -1102: Row(TERMINAL, "a parameter is missing"),
    -1106: Row(TERMINAL, "a parameter that is not allowed here"),
    -1121: Row(TERMINAL, "no such symbol"),
    -1130: Row(TERMINAL, "invalid parameter"),
    -4001: Row(TERMINAL, "price is below zero"),
    -4002: Row(TERMINAL, "price above the highest allowed"),
    -4003: Row(TERMINAL, "quantity is zero or below"),
    -4004: Row(TERMINAL, "quantity below the smallest allowed"),
    -4005: Row(TERMINAL, "quantity above the largest allowed"),
    -4006: Row(TERMINAL, "stop price is below zero"),
    -4013: Row(TERMINAL, "price below the lowest allowed"),
    -4015: Row(TERMINAL, "client id too long"),
    -4016: Row(TERMINAL, "limit price too far above the mark"),
    -4024: Row(TERMINAL, "limit price too far below the mark"),
    -4028: Row(TERMINAL, "no such leverage"),
    -4045: Row(SEMANTIC, "too many conditional orders", Meaning.BOOK_FULL),
    -4131: Row(TERMINAL, "the book is too thin for a market order"),
    -4140: Row(TERMINAL, "symbol is not open for this"),
    -4141: Row(TERMINAL, "symbol is closed"),
    -4164: Row(TERMINAL, "notional below the smallest allowed"),
    -4192: Row(TERMINAL, "cooling-off period"),
    -5021: Row(TERMINAL, "fill-or-kill was not filled"),
    # the refusal says something about the world
    -2021: Row(SEMANTIC, "would trigger at once", Meaning.WOULD_TRIGGER),
    -2022: Row(SEMANTIC, "reduce-only rejected", Meaning.NOTHING_TO_REDUCE),
    -4112: Row(SEMANTIC, "reduce-only rejected", Meaning.NOTHING_TO_REDUCE),
    -4509: Row(SEMANTIC, "no position to close", Meaning.NOTHING_TO_REDUCE),
    -2011: Row(SEMANTIC, "no such order to cancel", Meaning.NO_SUCH_ORDER),
    -2013: Row(SEMANTIC, "no such order", Meaning.NO_SUCH_ORDER),
    -4046: Row(SEMANTIC, "margin type is that already", Meaning.ALREADY_SO),
    -4059: Row(SEMANTIC, "position mode is that already", Meaning.ALREADY_SO),
    -4047: Row(SEMANTIC, "open orders forbid the change", Meaning.CANNOT_CHANGE_NOW),
    -4048: Row(SEMANTIC, "a position forbids the change", Meaning.CANNOT_CHANGE_NOW),
    -4067: Row(SEMANTIC, "open orders forbid the change", Meaning.CANNOT_CHANGE_NOW),
    -4068: Row(SEMANTIC, "a position forbids the change", Meaning.CANNOT_CHANGE_NOW),
    -4116: Row(SEMANTIC, "this client id is in the book", Meaning.DUPLICATE_ID),
    -4118: Row(SEMANTIC, "reduce-only orders cover the position already", Meaning.REDUCE_ONLY_FULL),
    -4120: Row(SEMANTIC, "conditional orders have their own endpoint", Meaning.WRONG_BOOK),
    -4130: Row(SEMANTIC, "a closePosition order rests on that side", Meaning.STOP_EXISTS),
    # nobody may trade with this key
    -1002: Row(AUTH, "not authorised"),
    -1022: Row(AUTH, "signature is not valid"),
    -2014: Row(AUTH, "key has a wrong form"),
    -2015: Row(AUTH, "key, address or permission refused"),
}

SPOT_SAYS: Final[dict[tuple[int, str], Meaning]] = {
    (-2010, "Duplicate order sent."): Meaning.DUPLICATE_ID,
    (-2010, "Order would trigger immediately."): Meaning.WOULD_TRIGGER,
    (-2010, "Stop price would trigger immediately."): Meaning.WOULD_TRIGGER,
    (-2010, "The relationship of the prices for the orders is not correct."): Meaning.WOULD_TRIGGER,
    (-2018, "Order list does not exist."): Meaning.NO_SUCH_ORDER,
}
"""Spot has one code for many refusals: there the words are the code. A pair whose prices have passed the market would trigger."""

NOT_DONE_503: Final = "Service Unavailable."
"""The one 503 that promises that nothing was done. Every other may hide an accepted order."""


class ApiError(BinanceAPIException):  # type: ignore[misc]  # the library has no types
    """The library's refusal, with the body that its own message loses."""

    def __init__(self, response: aiohttp.ClientResponse, status: int, body: str) -> None:
        super().__init__(response, status, body)
        self.body = body
        self.retry_after_s = _seconds(response.headers.get("Retry-After"))


def classify(error: BaseException) -> Outcome:
    """What an attempt that raised `error` came to."""
    if isinstance(error, BinanceAPIException):
        return _refused(error)
    if isinstance(error, BinanceRequestException):
        return Outcome(UNKNOWN, None, f"an answer that cannot be read: {str(error.message)[:200]}")
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.os_error.strerror or str(error.os_error)  # the library's own text speaks of SSL where there is none
        return Outcome(RETRY, None, f"no connection to {error.host}:{error.port}: {why}")  # before a byte was sent
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Outcome(UNKNOWN, None, "no answer in time")
    if isinstance(error, aiohttp.ClientError | OSError):
        return Outcome(UNKNOWN, None, f"connection lost: {type(error).__name__} {error}".strip())
    raise TypeError(f"{type(error).__name__} is no failure of a request") from error


def _refused(error: BinanceAPIException) -> Outcome:
    status, code = int(error.status_code), int(error.code or 0)
    body = str(getattr(error, "body", "") or "")
    wait = getattr(error, "retry_after_s", None)
    detail = str(error.message) if code else f"HTTP {status} {_plain(body)}".strip()
    if status in (418, 429):
        return Outcome(RETRY, code or None, detail, retry_after_s=wait, banned=status == 418)
    if (meaning := SPOT_SAYS.get((code, str(error.message)))) is not None:
        return Outcome(SEMANTIC, code, detail, meaning, wait)
    row = TABLE.get(code)
    if row is not None:
        return Outcome(row.kind, code, detail, row.meaning, wait)
    if status == 503 and NOT_DONE_503 in _message(body):
        return Outcome(RETRY, code or None, detail, retry_after_s=wait)
    if status >= 500 or status == 408 or not code:
        return Outcome(UNKNOWN, code or None, detail)
    # a refusal with a code of the exchange that we do not know: it has been refused
    return Outcome(TERMINAL, code, detail)


def _message(body: str) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return body
    return str(found.get("msg", "")) if isinstance(found, dict) else body


def _plain(body: str) -> str:
    return " ".join(body.split())[:160]


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
