"""Who may be entered, and that one instrument's fate is its own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal as D

import pytest

from infra.errors import UserError
from infra.venue import port
from infra.venue.port import Filters, Kline, Levels, MarkPrice, Meaning, Outcome, OutcomeKind, PublicTrade, VenueError
from processors import universe
from processors.universe import Listing, choose
from schemas.market import OutsideReason
from schemas.policy import Policy, Universe, UniverseMode
from streams.universe import Watch, instruments_of

BTC, ETH, MATIC, PEPE = instruments_of(("BTCUSDT", "ETHUSDT", "MATICUSDT", "1000PEPEUSDT"))
GOOD = Listing(BTC, "BTC", "USDT", "TRADING", True, D(10**9), D(10**6))
POLICY = Universe()


@pytest.mark.parametrize(
    ("listing", "policy", "reason"),
    [
        (GOOD, POLICY, None),
        (GOOD, Universe(blacklist=[BTC]), OutsideReason.BLACKLISTED),
        (GOOD, Universe(blacklist=["BTCUSDT"]), OutsideReason.BLACKLISTED),
        (GOOD._replace(status="SETTLING"), POLICY, OutsideReason.NOT_TRADING),
        (GOOD._replace(perpetual=False), POLICY, OutsideReason.NOT_TRADING),
        (GOOD._replace(quote="USDC"), POLICY, OutsideReason.NOT_TRADING),
        (GOOD, Universe(instruments=[ETH]), OutsideReason.NOT_CHOSEN),
        (GOOD._replace(base="PEPE"), POLICY, OutsideReason.OTHER_CLASS),
        (GOOD._replace(base="PEPE"), Universe(mode=UniverseMode.ALL), None),
        (GOOD._replace(base="PEPE"), Universe(instruments=[BTC]), None),
        (GOOD._replace(base="1000PEPE"), Universe(mega_caps=["PEPE"]), None),
        (GOOD._replace(volume_24h=D(999_999)), POLICY, OutsideReason.VOLUME),
        (GOOD._replace(volume_24h=D(1_000_000)), POLICY, None),
        (GOOD._replace(volume_24h=None), POLICY, OutsideReason.VOLUME),
        (GOOD._replace(depth=D(49_999)), POLICY, OutsideReason.DEPTH),
        (GOOD._replace(depth=None), POLICY, OutsideReason.DEPTH_UNKNOWN),
    ],
)
def test_who_may_be_entered(listing: Listing, policy: Universe, reason: OutsideReason | None) -> None:
    chosen = choose([listing], policy)
    if reason is None:
        assert (chosen.members, chosen.outside) == ((BTC,), {})
    else:
        assert chosen.members == ()
        assert chosen.outside[BTC].reason is reason


def test_who_is_listed_no_more_is_outside_and_nobody_else() -> None:
    chosen = choose([GOOD], POLICY, known=[BTC, MATIC])
    assert chosen.members == (BTC,)
    assert {name: refused.reason for name, refused in chosen.outside.items()} == {MATIC: OutsideReason.NOT_LISTED}


def test_each_instrument_is_judged_by_itself_and_the_largest_stay() -> None:
    """Property: what is said of one does not depend on the others, but for places; and the order of listings says nothing."""
    chance = random.Random(3)
    for _ in range(60):
        listings = [
            GOOD._replace(
                instrument=f"binance.usdm.S{n}USDT",
                status=chance.choice(["TRADING", "TRADING", "BREAK"]),
                base=chance.choice(["BTC", "ARB", "PEPE"]),
                volume_24h=chance.choice([None, D(10), D(chance.randrange(10**6, 10**9))]),
                depth=chance.choice([None, D(10), D(10**6)]),
            )
            for n in range(12)
        ]
        policy = Universe(max_instruments=chance.randrange(1, 6))
        chosen = choose(listings, policy)
        alone = {each.instrument: choose([each], policy) for each in listings}
        fit = {name for name, one in alone.items() if one.members}
        assert set(chosen.members) | set(chosen.outside) == set(alone)
        assert set(chosen.members) <= fit
        assert len(chosen.members) == min(len(fit), policy.max_instruments)
        left = fit - set(chosen.members)
        assert {name for name, refused in chosen.outside.items() if refused.reason is OutsideReason.TOO_MANY} == left
        volumes = {each.instrument: each.volume_24h or D(0) for each in listings}
        assert all(volumes[one] >= volumes[other] for one in chosen.members for other in left)
        chance.shuffle(listings)
        assert choose(listings, policy) == chosen


def test_liquidity_is_the_thinner_side_within_ten_basis_points() -> None:
    bids = [(D("99.95"), D(10)), (D("99.90"), D(10)), (D("99.80"), D(1000))]
    asks = [(D("100.05"), D(5)), (D("100.10"), D(5)), (D("100.11"), D(1000))]
    assert universe.depth(bids, asks) == D("100.05") * 5 + D("100.10") * 5
    assert universe.depth([], asks) == 0


@dataclass
class Venue:
    """An exchange's public half in memory: what it lists, and how often its books were read."""

    listed: dict[str, port.Listing] = field(default_factory=dict)
    thin: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    silent: bool = False

    async def listings(self) -> list[port.Listing]:
        if self.silent:
            raise VenueError("listings", Outcome(OutcomeKind.UNKNOWN, None, "no answer", Meaning.NONE, None, False))
        return list(self.listed.values())

    async def levels(self, instrument: str) -> Levels:
        self.asked.append(instrument)
        size = D(1) if instrument in self.thin else D(10**6)
        return [(D(100), size)], [(D("100.01"), size)]

    async def filters(self) -> dict[str, Filters]:
        raise NotImplementedError

    async def klines(self, instrument: str, interval: str, limit: int) -> list[Kline]:
        raise NotImplementedError

    async def trades(
        self, instrument: str, *, from_id: int | None = None, start_at: int | None = None, limit: int = 1000
    ) -> list[PublicTrade]:
        raise NotImplementedError

    async def marks(self) -> list[MarkPrice]:
        raise NotImplementedError


def listing(instrument: str, base: str, status: str = "TRADING") -> port.Listing:
    return port.Listing(instrument, base, "USDT", status, True, D(10**9))


@pytest.fixture
def venue() -> Venue:
    return Venue({name: listing(name, base) for name, base in ((BTC, "BTC"), (ETH, "ETH"), (PEPE, "1000PEPE"))})


async def test_a_symbol_that_is_gone_is_not_streamed_and_the_others_are(venue: Venue) -> None:
    watch = Watch(venue, lambda: (0, Policy()))
    assert await watch.symbols(("BTCUSDT", "MATICUSDT", "ETHUSDT")) == ("BTCUSDT", "ETHUSDT")
    with pytest.raises(UserError, match="nothing to stream"):
        await watch.symbols(("MATICUSDT",))


async def test_the_universe_is_told_when_it_changes_and_books_are_read_of_who_may_be_in(venue: Venue) -> None:
    known = (BTC, ETH, PEPE)
    watch = Watch(venue, lambda: (4, Policy()))
    await watch.look(known)
    first = watch.news(7)
    assert first is not None
    assert (first.at, first.members, first.policy_version) == (7, [BTC, ETH], 4)
    assert [(each.instrument, each.reason) for each in first.outside] == [(PEPE, OutsideReason.OTHER_CLASS)]
    assert venue.asked == [BTC, ETH]
    await watch.look(known)
    assert watch.news(8) is None
    venue.listed[ETH] = listing(ETH, "ETH", "SETTLING")
    del venue.listed[PEPE]
    await watch.look(known)
    second = watch.news(9)
    assert second is not None
    assert second.members == [BTC]
    assert {each.instrument: each.reason for each in second.outside} == {
        ETH: OutsideReason.NOT_TRADING,
        PEPE: OutsideReason.NOT_LISTED,
    }
    venue.silent = True
    with pytest.raises(VenueError):
        await watch.look(known)
    assert watch.news(10) is None
    assert watch.chosen.members == (BTC,)
