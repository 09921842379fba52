"""How long what stood without a stop, as the stream tells it."""

from __future__ import annotations

from decimal import Decimal as D

from processors.exposure import Ended, Exposure, Word, heard, running

BTC = "binance.usdm.BTCUSDT"


def live(exposure: Exposure, *words: tuple[float, Word]) -> tuple[Exposure, list[Ended]]:
    ended = []
    for now, word in words:
        moved = heard(exposure, word, now)
        exposure = moved.exposure
        ended += [moved.ended] if moved.ended else []
    return exposure, ended


def position(quantity: str) -> Word:
    return Word(BTC, quantity=D(quantity))


def test_from_the_fill_to_the_first_stop_and_again_when_it_is_gone() -> None:
    exposure, ended = live(
        {},
        (0, Word(BTC, price=D(100))),
        (10, position("2")),
        (40, Word(BTC, live="s-1")),
        (5000, position("3")),
        (9000, Word(BTC, live="s-2")),
        (9001, Word(BTC, gone="s-1")),
        (10_000, Word(BTC, gone="s-2")),
    )
    assert ended == [Ended(BTC, 0.03, 200.0, protected=True, first=True)]
    assert running(exposure, 10_500) == 0.5 * 300
    exposure, ended = live(exposure, (11_000, position("0")))
    assert ended == [Ended(BTC, 1.0, 300.0, protected=False, first=False)]
    assert not exposure


def test_a_stop_that_is_heard_of_before_its_position_protects_at_once() -> None:
    _, ended = live({}, (0, Word(BTC, live="s-1")), (5, position("-1")))
    assert ended == []


def test_what_closes_and_opens_the_other_way_begins_anew() -> None:
    exposure, ended = live({}, (0, position("1")), (10, Word(BTC, live="s")), (20, Word(BTC, gone="s")), (30, position("-1")))
    assert [each.seconds for each in ended] == [0.01]
    _, ended = live(exposure, (80, Word(BTC, live="s-2")))
    assert ended == [Ended(BTC, 0.05, 0.0, protected=True, first=True)]


def test_a_look_at_the_exchange_corrects_what_the_stream_has_missed() -> None:
    shown = Word(BTC, D(1), D(100), stops=frozenset({"s"}))
    _, ended = live({}, (0, position("1")), (2000, shown))
    assert [(each.seconds, each.notional) for each in ended] == [(2.0, 100.0)]
