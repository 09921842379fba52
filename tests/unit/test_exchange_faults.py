"""Planned misbehaviour meets whom it should, as often as it should."""

from __future__ import annotations

from typing import Any

import pytest

from infra.errors import UserError
from infra.venue.local.event_faults import EventFaults
from infra.venue.local.faults import Faults
from infra.venue.local.limits import Throttled
from infra.venue.local.refusals import Refusal

ORDER = ("POST", "/fapi/v1/order")


def test_a_fault_meets_its_route_and_is_used_up() -> None:
    faults = Faults()
    faults.plan({"route": "order", "kind": "delay", "count": 2})
    assert faults.take("GET", "/fapi/v1/order") is None
    assert faults.take("POST", "/fapi/v1/algoOrder") is None
    assert [faults.take(*ORDER) is not None for _ in range(3)] == [True, True, False]
    assert faults.planned == []


def test_probability_is_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.plan({"route": "*", "kind": "refuse-503", "count": 1_000, "probability": 0.3})
        return [faults.take(*ORDER) is not None for _ in range(500)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 100 < sum(drawn(1)) < 200


@pytest.mark.parametrize("code", [-1007, -1021, -1008, -2013, -4116, -4130, -2021, -2022, -1111, -1015])
def test_any_code_of_the_exchange_can_be_the_answer(code: int) -> None:
    faults = Faults()
    for body in ({"kind": "refuse", "code": code}, {"kind": f"refuse{code}"}):
        faults.plan({"route": "GET order", **body})
        fault = faults.take("GET", "/fapi/v1/order")
        assert fault is not None
        with pytest.raises(Refusal) as caught:
            fault.refuse_if_meant()
        assert caught.value.code == code


def test_an_overloaded_exchange_lets_through_what_reduces() -> None:
    faults = Faults()
    faults.plan({"route": "*", "kind": "refuse-1008", "for_s": 60})
    assert faults.take(*ORDER, {"reduceOnly": "true"}) is None
    assert faults.take("POST", "/fapi/v1/algoOrder", {"closePosition": "true"}) is None
    assert faults.take(*ORDER, {"side": "BUY"}) is not None


def test_a_ban_says_how_long() -> None:
    faults = Faults()
    faults.plan({"route": "order", "kind": "418", "retry_after_s": 7})
    fault = faults.take(*ORDER)
    assert fault is not None
    with pytest.raises(Throttled) as caught:
        fault.refuse_if_meant()
    assert (caught.value.status, caught.value.retry_after_s) == (418, 7)


def test_what_cannot_be_planned_is_said() -> None:
    bodies: list[dict[str, Any]] = [
        {"kind": "nonsense", "route": "order"},
        {"kind": "delay"},
        {"kind": "refuse", "route": "order", "code": -77},
        {"kind": "delay", "route": "order", "count": "many"},
    ]
    for body in bodies:
        with pytest.raises(UserError):
            Faults().plan(body)


async def test_user_events_are_doubled_dropped_and_turned_around() -> None:
    faults = Faults()
    way = EventFaults(faults)
    heard: list[str] = []

    def send(*numbers: int) -> list[str]:
        heard.clear()
        for number in numbers:
            way.pass_on(f'{{"e":"ORDER_TRADE_UPDATE","n":{number}}}', heard.append)
        return [text[-2] for text in heard]

    assert send(1, 2) == ["1", "2"]
    faults.plan({"kind": "event-duplicate", "route": "ORDER_TRADE_UPDATE"})
    assert send(1, 2) == ["1", "1", "2"]
    faults.plan({"kind": "event-drop"})
    assert send(1, 2) == ["2"]
    faults.plan({"kind": "event-reorder"})
    assert send(1, 2, 3) == ["2", "1", "3"]
    faults.plan({"kind": "event-drop", "route": "ACCOUNT_UPDATE"})
    assert send(1, 2) == ["1", "2"]
