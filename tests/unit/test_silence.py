"""A user stream that says nothing is found out by what the exchange shows, and one that is only late is not."""

from __future__ import annotations

from decimal import Decimal

from streams.silence import Silence

BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
ONE, TWO = {BTC: Decimal(1)}, {BTC: Decimal(2)}


def test_what_stood_there_at_the_first_look_is_not_missed() -> None:
    silence = Silence()
    assert silence.look(ONE) == set()
    assert silence.look(ONE) == set()


def test_a_change_that_is_never_told_is_missed_at_the_look_after_it_was_shown() -> None:
    silence = Silence()
    silence.look(ONE)
    assert silence.look(TWO) == set()
    assert silence.waits
    assert silence.look(TWO) == {BTC}
    assert silence.look(TWO) == set()


def test_a_change_that_was_told_before_or_comes_late_is_not_missed() -> None:
    silence = Silence()
    silence.look(ONE)
    silence.told(BTC)
    silence.look(ONE)  # told already, shown only by the next look
    assert silence.look({}) == set()
    assert silence.look({}) == set()
    silence.look({ETH: Decimal(1)})
    silence.told(ETH)
    assert silence.look({ETH: Decimal(1)}) == set()


def test_a_new_connection_begins_anew() -> None:
    silence = Silence()
    silence.look(ONE)
    silence.look(TWO)
    silence.forget()
    assert silence.look({}) == set()
    assert silence.look({}) == set()
