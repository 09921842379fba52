"""Ids: the partition that Kafka's own clients choose, and client ids that the exchange takes."""

from __future__ import annotations

import base64
import re

import pytest
from aiokafka.partitioner import murmur2 as of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from processors import order_ids
from schemas import ids
from schemas.ids import Purpose
from schemas.trading import ExitReason

# vectors of Kafka's own UtilsTest.testMurmur2 (signed 32 bits there)
KNOWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("text", "signed"), KNOWN.items())
def test_murmur2_gives_kafkas_own_vectors(text: str, signed: int) -> None:
    assert ids._murmur2(text.encode()) == signed & 0xFFFFFFFF


@given(st.text(max_size=40))
def test_partitions_are_those_of_the_python_client(key: str) -> None:
    assert ids.partition_of(key) == (of_aiokafka(key.encode()) & 0x7FFFFFFF) % ids.PARTITIONS


def test_instruments_say_where_they_are_traded() -> None:
    name = ids.instrument("binance", "usdm", "1000PEPEUSDT")
    assert name == "binance.usdm.1000PEPEUSDT"
    assert ids.parts(name) == ("binance", "usdm", "1000PEPEUSDT")
    assert ids.symbol_of(name) == "1000PEPEUSDT"
    for wrong in ("btcusdt", "", "BTC/USDT"):
        with pytest.raises(ValueError, match="is no instrument"):
            ids.instrument("binance", "usdm", wrong)


def test_the_same_cause_has_the_same_id_and_another_has_another() -> None:
    assert ids.event_id("a", 1, "x") == ids.event_id("a", 1, "x")
    different = [("a", 1, "x"), ("a", "1x"), ("a1", "x"), ("a", 1, "x", "")]
    assert len({ids.event_id(*cause) for cause in different}) == len(different)
    assert re.fullmatch(r"[a-z2-7]{26}", ids.event_id("a"))


@given(
    st.sampled_from([Purpose.ENTRY, Purpose.STOP, Purpose.TAKE_PROFIT, Purpose.CLOSE, Purpose.GUARDIAN]),
    st.text(),
    st.integers(1, 9),
)
def test_client_ids_fit_the_exchange_and_tell_their_purpose(purpose: Purpose, cause: str, attempt: int) -> None:
    first = ids.client_id(purpose, cause)
    later = order_ids.attempt_id(first, attempt)
    for name in (first, later):
        assert re.fullmatch(r"[a-z0-9-]{1,36}", name)
        assert ids.purpose_of(name) is purpose
    assert (first == later) == (attempt == 1)


@pytest.mark.parametrize("name", ["autoclose-123", "web_abc", "e-123", "", "x-ABCDEFGHIJKLMNOPQRSTUVWX"])
def test_orders_that_we_did_not_name_are_foreign(name: str) -> None:
    assert ids.purpose_of(name) is Purpose.FOREIGN


@pytest.mark.parametrize("reason", list(ExitReason))
def test_the_reason_of_a_close_can_be_read_back(reason: ExitReason) -> None:
    for n in (0, order_ids.MAX_CLOSES - 1):
        name = order_ids.attempt_id(order_ids.close_id("position", reason, n), order_ids.MAX_ATTEMPTS)
        assert order_ids.close_reason(name, ("position", "entry")) is reason


@given(st.binary(min_size=15, max_size=16))
def test_the_words_of_ids_are_base32_of_the_library(raw: bytes) -> None:
    assert ids._base32(raw) == base64.b32encode(raw).decode().rstrip("=").lower()
