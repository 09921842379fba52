"""What a plan says before any price moves: R, targets, trail, each by profile, style, mode and what is known."""

from __future__ import annotations

from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

from processors.exits import liquidation
from processors.exits.planner import BASELINE, Choice, Known, governing, levels, shadowing
from processors.exits.rules import table
from schemas.policy import ExitMode, Exits, Profile, Risk, Style, TpSlMode
from schemas.regime import Regime

EXITS = Exits()
BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"


def plan(profile: str, style: str = "BALANCED", mode: str = "HYBRID", exits: Exits = EXITS, **known: Any) -> Any:
    return levels(Choice(Profile(profile), Style(style), TpSlMode(mode)), Known(**known), exits)


def targets(found: Any) -> list[tuple[D, D]]:
    return [(target.distance, target.share) for target in found.targets]


def test_the_standard_ladder_is_the_policys_own() -> None:
    for known in ({}, {"atr": 0.01, "regime": Regime.CRASH}):
        found = plan("STANDARD_LADDER", **known)
        assert (found.stop, found.static, found.time_stop_s, found.widest) == (D("0.025"), False, None, None)
        assert targets(found) == [(D("0.015"), D("0.30")), (D("0.025"), D("0.30")), (D("0.04"), D("0.40"))]


@pytest.mark.parametrize(("atr", "r"), [(0.002, "0.008"), (0.006, "0.012"), (0.0125, "0.025"), (0.08, "0.025")])
def test_r_is_twice_the_hourly_atr_within_its_bounds(atr: float, r: str) -> None:
    found = plan("DEFAULT", atr=atr)
    assert (found.stop, targets(found), found.trail_at_once) == (D(r), [(D("1.5") * D(r), D(1))], True)
    assert found.trail == D(r)
    challenge = plan("CHALLENGE_100", atr=atr)
    assert targets(challenge) == [(D(r), D("0.30")), (2 * D(r), D("0.70"))]
    assert (challenge.widest, challenge.time_stop_s) == (D("1.5") * D(r), 7200)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("mode", list(TpSlMode))
def test_without_the_markets_word_levels_are_static_and_conservative_never_none(profile: Profile, mode: TpSlMode) -> None:
    found = plan(profile, "AGGRESSIVE", mode)
    assert found.stop > 0
    assert found.targets
    if profile is Profile.STANDARD_LADDER and mode is TpSlMode.HYBRID:
        assert not found.static
    else:
        assert (found.static, found.style, found.stop) == (True, Style.CONSERVATIVE, D("0.016"))
        assert "static" in found.why


def test_by_dynamic_a_ladder_keeps_its_proportion_to_r_and_follows_the_regime() -> None:
    calm = plan("STANDARD_LADDER", mode="DYNAMIC", atr=0.00625, regime=Regime.RANGE)
    assert (calm.stop, targets(calm)[0][0]) == (D("0.0125"), D("0.0075") * D("0.8"))
    wild = plan("STANDARD_LADDER", mode="DYNAMIC", atr=0.00625, regime=Regime.VOLATILE)
    assert (wild.stop, wild.trail) == (D("0.015"), D("0.0125") * D("1.3"))
    assert targets(wild)[0][0] == D("0.6") * wild.stop * D("1.2")
    assert plan("DEFAULT", mode="DYNAMIC", atr=0.02, regime=Regime.VOLATILE).stop == D("0.025"), "never beyond its bound"


def test_the_exit_brain_hears_the_models_confidence_too() -> None:
    unsure = plan("DEFAULT", mode="EXIT_BRAIN", atr=0.0125, regime=Regime.TREND, confidence=0.60)
    sure = plan("DEFAULT", mode="EXIT_BRAIN", atr=0.0125, regime=Regime.TREND, confidence=0.90)
    assert targets(sure)[0][0] / targets(unsure)[0][0] == pytest.approx(D("1.2") / D("0.9"), rel=D("0.001"))
    assert sure.stop == unsure.stop


@pytest.mark.parametrize(("style", "stop", "target"), [("AGGRESSIVE", "0.0125", "0.0234375"), ("CONSERVATIVE", "0.01", "0.012")])
def test_styles_stretch_targets_and_never_widen_a_stop(style: str, stop: str, target: str) -> None:
    found = plan("DEFAULT", style, atr=0.00625)
    assert found.stop == D(stop)
    assert targets(found)[0][0] == pytest.approx(D(target), abs=D("0.000001"))


def test_r_is_fixed_at_the_decision_whatever_the_policy_says_later() -> None:
    first = plan("CHALLENGE_100", atr=0.006)
    later = plan("CHALLENGE_100", exits=Exits(r_atr=D(3)), atr=0.006, stop_distance=first.stop)
    assert (later.stop, targets(later)) == (first.stop, targets(first))


def test_every_number_is_explained() -> None:
    why = plan("CHALLENGE_100", mode="EXIT_BRAIN", atr=0.006, regime=Regime.TREND, confidence=0.8).why
    for word in ("R 1.200%", "2 x hourly ATR 0.600%", "TREND", "confidence 0.80", "1.650% x 30%", "trail", "time stop 7200 s"):
        assert word in why, f"{word!r} is not in {why}"


def test_in_the_shadow_the_baseline_orders() -> None:
    exits = Exits(profile=Profile.DEFAULT, modes={BTC: ExitMode.SHADOW})
    chosen = Choice(Profile.DEFAULT, Style.BALANCED, TpSlMode.HYBRID)
    assert (governing(exits, BTC), shadowing(exits, BTC)) == (BASELINE, chosen)
    assert (governing(exits, ETH), shadowing(exits, ETH)) == (chosen, None)


def test_a_leverage_leaves_room_for_the_stop_its_buffer_and_the_maintenance_margin() -> None:
    risk = Risk()
    for stop in (D("0.008"), D("0.025"), D("0.30")):
        bound = liquidation.leverage_bound(stop, risk)
        assert liquidation.room(bound, risk) >= stop > liquidation.room(bound + 1, risk)


def test_the_page_shows_the_precedence_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "exits.md"
    assert table() in page.read_text(), "put what `quantum exits rules` prints into docs/exits.md"
