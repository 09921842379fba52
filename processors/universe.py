"""The universe: which instruments may be entered, by what the exchange lists and what the policy asks for.

The first row that applies decides; whoever is refused is reduce-only: no entry, while stops, take-profits and closes go on. One
instrument never speaks for another, and none of it trips a breaker.

| an instrument                                                      | refused         |
|--------------------------------------------------------------------|-----------------|
| on the blacklist                                                   | BLACKLISTED     |
| not listed (any more), so delisted or renamed                      | NOT_LISTED      |
| listed, its status not TRADING, or no perpetual in USDT            | NOT_TRADING     |
| not in `instruments`, where the policy names some                  | NOT_CHOSEN      |
| of none of the classes; mode l1l2-top, and no `instruments` named  | OTHER_CLASS     |
| 24 h volume below `min_volume_24h`, or unknown                     | VOLUME          |
| liquidity below `min_depth`                                        | DEPTH           |
| liquidity unknown                                                  | DEPTH_UNKNOWN   |
| beyond `max_instruments`, by volume and then by name               | TOO_MANY        |

Ask twice to ask the exchange little: first without liquidity; it has to be known of those that are DEPTH_UNKNOWN only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from schemas import ids
from schemas.market import OutsideReason
from schemas.policy import Universe, UniverseMode

QUOTE: Final = "USDT"
BAND: Final = Decimal("0.001")
"""Liquidity is what rests within 10 bp of the middle."""


class Listing(NamedTuple):
    """What the exchange says of an instrument. `volume_24h` and `depth` (the thinner side within BAND) in quote; None: unknown."""

    instrument: str
    base: str
    quote: str
    status: str
    perpetual: bool
    volume_24h: Decimal | None = None
    depth: Decimal | None = None


class Refused(NamedTuple):
    reason: OutsideReason
    detail: str


class Chosen(NamedTuple):
    """`members` by volume; `outside`: everybody else, by name, those among them who are known to us and not listed any more."""

    members: tuple[str, ...]
    outside: Mapping[str, Refused]


def choose(listings: Iterable[Listing], policy: Universe, known: Iterable[str] = ()) -> Chosen:
    """`known`: instruments that we name, whether listed or not."""
    listed = {listing.instrument: listing for listing in listings}
    outside: dict[str, Refused] = {}
    fit: list[Listing] = []
    for name in sorted({**listed, **dict.fromkeys(known)}):
        listing = listed.get(name)
        refused = _refused(name, listing, policy)
        if refused is not None or listing is None:
            outside[name] = refused or Refused(OutsideReason.NOT_LISTED, "")
        else:
            fit.append(listing)
    fit.sort(key=lambda listing: (-(listing.volume_24h or Decimal(0)), listing.instrument))
    for listing in fit[policy.max_instruments :]:
        outside[listing.instrument] = Refused(OutsideReason.TOO_MANY, f"{policy.max_instruments} have a larger volume")
    return Chosen(tuple(listing.instrument for listing in fit[: policy.max_instruments]), dict(sorted(outside.items())))


def depth(bids: Iterable[tuple[Decimal, Decimal]], asks: Iterable[tuple[Decimal, Decimal]]) -> Decimal:
    """Of levels (price, quantity), the best first: what the thinner side holds within BAND of the middle. 0 for an empty side."""
    below, above = list(bids), list(asks)
    if not below or not above:
        return Decimal(0)
    middle = (below[0][0] + above[0][0]) / 2
    least, most = middle * (1 - BAND), middle * (1 + BAND)
    return min(
        sum((price * quantity for price, quantity in below if price >= least), Decimal(0)),
        sum((price * quantity for price, quantity in above if price <= most), Decimal(0)),
    )


def _refused(name: str, listing: Listing | None, policy: Universe) -> Refused | None:
    if name in policy.blacklist or ids.symbol_of(name) in policy.blacklist:
        return Refused(OutsideReason.BLACKLISTED, "by policy")
    if listing is None:
        return Refused(OutsideReason.NOT_LISTED, "the exchange does not list it: delisted, or renamed")
    if listing.status != "TRADING" or not listing.perpetual or listing.quote != QUOTE:
        kind = "" if listing.perpetual else ", no perpetual"
        return Refused(OutsideReason.NOT_TRADING, f"{listing.status}{kind}, quoted in {listing.quote}")
    if policy.instruments:
        if name not in policy.instruments:
            return Refused(OutsideReason.NOT_CHOSEN, "the policy names others")
    elif policy.mode is UniverseMode.L1L2_TOP and plain(listing.base) not in policy.bases:
        return Refused(OutsideReason.OTHER_CLASS, f"{listing.base} is in no class of the policy")
    if listing.volume_24h is None or listing.volume_24h < policy.min_volume_24h:
        volume = "unknown" if listing.volume_24h is None else f"{listing.volume_24h:.0f}"
        return Refused(OutsideReason.VOLUME, f"24 h volume {volume}, at least {policy.min_volume_24h:f}")
    if listing.depth is None:
        return Refused(OutsideReason.DEPTH_UNKNOWN, "its order book has not been read")
    if listing.depth < policy.min_depth:
        return Refused(OutsideReason.DEPTH, f"{listing.depth:.0f} within {BAND:.1%} of the middle, at least {policy.min_depth:f}")
    return None


def plain(base: str) -> str:
    """1000PEPE is PEPE: the exchange trades small ones by the thousand."""
    for thousands in ("1000000", "1000"):
        if base.startswith(thousands) and base != thousands:
            return base.removeprefix(thousands)
    return base
