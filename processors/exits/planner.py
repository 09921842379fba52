"""The planner: from what is known at the entry to the levels of a plan, each number with its reason. Pure; risk, exits and whoever
protects a position without a plan ask the same function.

    R      STANDARD_LADDER in HYBRID: the policy's stop distance. Else r_atr x ATR within r_min..r_max, x the scale's stop, within
           them again; r_static where no ATR is known
    trail  trail_atr x ATR within the same bounds, else trail_static; x the scale's trail;
           one that begins at once is never nearer than R
    rungs  in HYBRID a ladder's own distances, else they keep their proportion to R; x the scale's target
    scale  the style's factors; by DYNAMIC and EXIT_BRAIN x the regime's; by EXIT_BRAIN x the model's confidence

Nothing known of the market where it is asked for: static levels in the style CONSERVATIVE, marked as such. Never none.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors.filters import from_text
from schemas.policy import ExitMode, Exits, Profile, Scale, Style, TpSlMode
from schemas.regime import Regime

FARTHEST = Decimal("0.90")
"""Of a target: a short's take-profit must stay above zero."""
NEUTRAL_CONFIDENCE = Decimal("0.70")
PULL_MIN, PULL_MAX = Decimal("0.8"), Decimal("1.3")
GRAIN = Decimal("0.000001")
STATIC = "static"


class Choice(NamedTuple):
    """What the policy wants for an instrument."""

    profile: Profile
    style: Style
    mode: TpSlMode


class Known(msgspec.Struct, frozen=True):
    """What was known when the position was decided. `atr`: ATR14 of hourly candles, a share of the price; None: not known.

    `leverage`: with which it was entered. `stop_distance`: R as it was fixed then, None where nobody has.
    """

    atr: float | None = None
    regime: Regime | None = None
    confidence: float | None = None
    leverage: int | None = None
    stop_distance: Decimal | None = None


NOTHING = Known()


class Target(msgspec.Struct, frozen=True):
    """A take-profit: distance from the entry price and share of the position, like the policy's rung."""

    distance: Decimal
    share: Decimal


class Levels(msgspec.Struct, frozen=True):
    """Distances are shares of the entry price. `stop` is R. `trail_at_once`: not only after the first take-profit. `widest`: a
    net that rests farther out gets a nearer stop in front of it. `static`: made without the market's word. `why`: every number
    in words."""

    profile: Profile
    style: Style
    mode: TpSlMode
    stop: Decimal
    targets: tuple[Target, ...]
    trail: Decimal
    trail_at_once: bool
    widest: Decimal | None
    time_stop_s: int | None
    static: bool
    known: Known
    why: str


BASELINE = Choice(Profile.STANDARD_LADDER, Style.BALANCED, TpSlMode.HYBRID)
"""What orders while the chosen plan runs in the shadow."""


def governing(exits: Exits, instrument: str) -> Choice:
    """The plan that orders."""
    return BASELINE if _mode(exits, instrument) is ExitMode.SHADOW else _chosen(exits)


def shadowing(exits: Exits, instrument: str) -> Choice | None:
    """The plan that is only recorded beside it."""
    return _chosen(exits) if _mode(exits, instrument) is ExitMode.SHADOW else None


def _mode(exits: Exits, instrument: str) -> ExitMode:
    return exits.modes.get(instrument, exits.mode)


def _chosen(exits: Exits) -> Choice:
    return Choice(exits.profile, exits.style, exits.tp_sl_mode)


def levels(choice: Choice, known: Known, exits: Exits) -> Levels:
    """The whole plan but for its prices. `known.stop_distance` fixes R; the rest follows it."""
    fixed = choice.profile is Profile.STANDARD_LADDER and choice.mode is TpSlMode.HYBRID
    adapts = choice.mode is not TpSlMode.HYBRID
    static = (not fixed and known.atr is None) or (adapts and known.regime is None)
    style = Style.CONSERVATIVE if static else choice.style
    missing = _missing(known)
    if static:
        known = msgspec.structs.replace(known, atr=None, regime=None)
    scale, reasons = scaled(style, choice.mode, known, exits)
    if fixed:
        plain, why = exits.stop_distance, "stop by policy"
    else:
        plain, why = _r(known, exits)
    stop = plain * scale.stop if fixed else _within(plain * scale.stop, exits)
    if known.stop_distance is not None:
        stop, why = known.stop_distance, "fixed at the decision"
    stop = stop.quantize(GRAIN)
    challenge = choice.profile is Profile.CHALLENGE_100
    widest = (exits.challenge_widest_r * stop).quantize(GRAIN) if challenge else None
    trail, trail_why = _trail(known, exits)
    trail = (trail * scale.trail).quantize(GRAIN)
    if _at_once(choice):
        trail = max(trail, stop)
    targets, target_why = _targets(choice, stop if adapts or not fixed else None, scale, exits)
    limit = exits.challenge_time_stop_s if challenge else None
    told = [
        f"{choice.profile} {style} {choice.mode}" + (f", {STATIC}: {missing}" if static else ""),
        f"R {stop:.3%} ({why})",
        target_why,
        f"trail {trail:.3%} ({trail_why}) {'at once' if _at_once(choice) else 'after the first take-profit'}",
        *([f"time stop {limit} s"] if limit else []),
        *reasons,
    ]
    return Levels(
        profile=choice.profile,
        style=style,
        mode=choice.mode,
        stop=stop,
        targets=targets,
        trail=trail,
        trail_at_once=_at_once(choice),
        widest=widest,
        time_stop_s=limit,
        static=static,
        known=known,
        why="; ".join(told),
    )


def scaled(style: Style, mode: TpSlMode, known: Known, exits: Exits) -> tuple[Scale, list[str]]:
    """The one place where regime, volatility's class and the model's confidence stretch a plan: the factors, and why."""
    factors, reasons = [exits.styles[style]], []
    if mode is not TpSlMode.HYBRID and known.regime is not None and known.regime in exits.regimes:
        of_regime = exits.regimes[known.regime]
        factors.append(of_regime)
        reasons.append(f"{known.regime}: stop x {of_regime.stop:f}, targets x {of_regime.target:f}, trail x {of_regime.trail:f}")
    if mode is TpSlMode.EXIT_BRAIN and known.confidence is not None:
        pull = min(max(1 + from_text(known.confidence) - NEUTRAL_CONFIDENCE, PULL_MIN), PULL_MAX)
        factors.append(Scale(target=pull, trail=pull))
        reasons.append(f"confidence {known.confidence:.2f}: targets and trail x {pull:f}")
    stop = target = trail = Decimal(1)
    for factor in factors:
        stop, target, trail = stop * factor.stop, target * factor.target, trail * factor.trail
    return Scale.model_construct(stop=stop, target=target, trail=trail), reasons


def _r(known: Known, exits: Exits) -> tuple[Decimal, str]:
    if known.atr is None:
        return exits.r_static, "no hourly ATR is known"
    atr = from_text(known.atr)
    bounds = f"within {exits.r_min:.2%}..{exits.r_max:.2%}"
    return _within(exits.r_atr * atr, exits), f"{exits.r_atr:f} x hourly ATR {atr:.3%} {bounds}"


def _trail(known: Known, exits: Exits) -> tuple[Decimal, str]:
    if known.atr is None:
        return exits.trail_static, "no hourly ATR is known"
    atr = from_text(known.atr)
    return _within(exits.trail_atr * atr, exits), f"{exits.trail_atr:f} x hourly ATR {atr:.3%}"


def _within(distance: Decimal, exits: Exits) -> Decimal:
    return min(max(distance, exits.r_min), exits.r_max)


def _targets(choice: Choice, r: Decimal | None, scale: Scale, exits: Exits) -> tuple[tuple[Target, ...], str]:
    """`r` None: a ladder's own distances."""
    match choice.profile:
        case Profile.STANDARD_LADDER:
            unit = Decimal(1) if r is None else r / exits.stop_distance
            wanted = [(rung.distance * unit, rung.share) for rung in exits.ladder]
        case Profile.DEFAULT:
            wanted = [(exits.default_target_r * (r or exits.stop_distance), Decimal(1))]
        case Profile.CHALLENGE_100:
            wanted = [(rung.r * (r or exits.stop_distance), rung.share) for rung in exits.challenge_ladder]
    targets = tuple(Target(min(d * scale.target, FARTHEST).quantize(GRAIN), share) for d, share in wanted)
    why = ", ".join(f"{target.distance:.3%} x {target.share:.0%}" for target in targets)
    return targets, f"targets {why}" + ("" if scale.target == 1 else f" (x {scale.target.normalize():f})")


def _at_once(choice: Choice) -> bool:
    return choice.profile is Profile.DEFAULT


def _missing(known: Known) -> str:
    found = [word for word, value in (("hourly ATR", known.atr), ("regime", known.regime)) if value is None]
    return f"{' and '.join(found)} unknown"
