"""Which API keys may trade."""

from __future__ import annotations

import pytest

from infra.venue.binance.key import objections, parse

GOOD = {
    "ipRestrict": True,
    "enableReading": True,
    "enableFutures": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
    "somethingNew": True,
}


@pytest.mark.parametrize(
    ("change", "real", "play"),
    [
        ({}, [], []),
        ({"enableWithdrawals": True}, ["it can withdraw"], ["it can withdraw"]),
        ({"enableFutures": False}, ["it may not read and trade futures"], ["it may not read and trade futures"]),
        ({"ipRestrict": False}, ["it works from any address"], []),
        ({"permitsUniversalTransfer": True}, ["it can move money to other accounts"], []),
    ],
)
def test_a_key_is_refused_for_what_it_may_do_too_much_or_not(change: dict[str, bool], real: list[str], play: list[str]) -> None:
    key = parse(GOOD | change)
    assert objections(key, real_money=True) == real
    assert objections(key, real_money=False) == play


def test_what_the_venue_does_not_say_is_not_permitted() -> None:
    assert objections(parse({}), real_money=False) == ["it may not read and trade futures"]
