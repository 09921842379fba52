"""What each failure of a request means, row by row, as the client library raises it."""

from __future__ import annotations

import json
from typing import Any, cast

import aiohttp
import pytest
from binance.exceptions import BinanceRequestException

from infra.venue.binance.errors import TABLE, ApiError, classify
from infra.venue.port import Meaning, Outcome, OutcomeKind

UNKNOWN, RETRY, FIX = OutcomeKind.UNKNOWN, OutcomeKind.NOT_ACCEPTED_RETRY, OutcomeKind.FIX
TERMINAL, SEMANTIC, AUTH = OutcomeKind.TERMINAL, OutcomeKind.SEMANTIC, OutcomeKind.AUTH


class Response:
    """What the library's exception reads of an answer."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.text = "a bound method in the real one"


def refusal(status: int, body: str, headers: dict[str, str] | None = None) -> ApiError:
    return ApiError(cast("aiohttp.ClientResponse", Response(headers or {})), status, body)


def coded(code: int, status: int = 400) -> ApiError:
    return refusal(status, json.dumps({"code": code, "msg": "said so"}))


KINDS = {
    UNKNOWN: [-1000, -1001, -1006, -1007],
    RETRY: [-1003, -1008, -1015, -1016],
    FIX: [-1021, -1111, -4014, -4023, -4061, -5022],
    TERMINAL: [-2010, -2018, -2019, -2027, -4164, -4003, -4004, -4005, -4006, -4131, -1121, -4140, -4141, -4192],
    SEMANTIC: [-2021, -2022, -2011, -2013, -4046, -4059, -4047, -4048, -4067, -4068, -4116, -4118, -4120, -4130],
    AUTH: [-2014, -2015, -1022, -1002],
}


@pytest.mark.parametrize(("code", "kind"), [(code, kind) for kind, codes in KINDS.items() for code in codes])
def test_a_code_means_what_the_table_says(code: int, kind: OutcomeKind) -> None:
    found = classify(coded(code))
    assert (found.kind, found.code) == (kind, code)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (-2021, Meaning.WOULD_TRIGGER),
        (-2022, Meaning.NOTHING_TO_REDUCE),
        (-2011, Meaning.NO_SUCH_ORDER),
        (-2013, Meaning.NO_SUCH_ORDER),
        (-4046, Meaning.ALREADY_SO),
        (-4059, Meaning.ALREADY_SO),
        (-4048, Meaning.CANNOT_CHANGE_NOW),
        (-4116, Meaning.DUPLICATE_ID),
        (-4118, Meaning.REDUCE_ONLY_FULL),
        (-4120, Meaning.WRONG_BOOK),
        (-4130, Meaning.STOP_EXISTS),
    ],
)
def test_a_semantic_refusal_says_something_about_the_world(code: int, meaning: Meaning) -> None:
    assert classify(coded(code)).meaning is meaning


def test_every_row_says_what_it_is_about() -> None:
    assert all(row.about for row in TABLE.values())
    assert all((row.kind is SEMANTIC) == (row.meaning is not Meaning.NONE) for row in TABLE.values())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), UNKNOWN),
        (aiohttp.ServerDisconnectedError(), UNKNOWN),
        (aiohttp.ClientPayloadError("cut"), UNKNOWN),
        (ConnectionResetError(104, "reset"), UNKNOWN),
        (BinanceRequestException("Invalid Response: <html>"), UNKNOWN),
        (refusal(503, "Unknown error, please check your request or try again later."), UNKNOWN),
        (refusal(503, '{"code":-1,"msg":"Unknown error, please check your request or try again later."}'), UNKNOWN),
        (refusal(502, "<html><body>Bad Gateway</body></html>"), UNKNOWN),
        (refusal(408, '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'), UNKNOWN),
        (refusal(403, "<html>blocked</html>"), UNKNOWN),
        (refusal(503, "Service Unavailable."), RETRY),
        (refusal(503, '{"code":-1008,"msg":"Server is currently overloaded"}'), RETRY),
        (refusal(429, '{"code":-1003,"msg":"Too many requests."}'), RETRY),
        (refusal(418, '{"code":-1003,"msg":"banned"}'), RETRY),
        (coded(-9999), TERMINAL),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, OutcomeKind) else type(value).__name__,
)
def test_what_has_no_clear_answer_is_unknown(error: BaseException, kind: OutcomeKind) -> None:
    assert classify(error).kind is kind


def test_a_connection_that_never_stood_was_never_accepted() -> None:
    key: Any = type("Key", (), {"ssl": None, "host": "127.0.0.1", "port": 1})()
    error = aiohttp.ClientConnectorError(key, OSError(111, "refused"))
    assert classify(error) == Outcome(RETRY, None, "no connection to 127.0.0.1:1: refused")


def test_too_many_requests_say_how_long_to_wait_and_a_ban_says_so() -> None:
    slow = classify(refusal(429, '{"code":-1003,"msg":"slow"}', {"Retry-After": "7"}))
    assert (slow.retry_after_s, slow.banned) == (7.0, False)
    assert classify(refusal(418, '{"code":-1003,"msg":"no"}', {"Retry-After": "120"})).banned


def test_a_bug_of_ours_is_no_outcome() -> None:
    with pytest.raises(TypeError, match="no failure of a request"):
        classify(KeyError("x"))
