"""Funding: at each funding time longs pay shorts the rate on their notional at the mark, or the other way round.

The rate is the last one that was told before that time; the time is the one the marks announce.
"""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local.account import money
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import AccountChanged, Booked, FundingSettled
from infra.venue.local.market.base import Mark


class Funding:
    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self._due: dict[str, int] = {}
        self._rates: dict[str, Decimal] = {}

    def on_mark(self, mark: Mark) -> None:
        """Charge what has become due."""
        due = self._due.get(mark.symbol)
        if due is not None and mark.t >= due:
            self._charge(mark, due)
        self.observe(mark)

    def observe(self, mark: Mark) -> None:
        self._rates[mark.symbol] = mark.funding_rate
        if mark.next_funding_t > mark.t:
            self._due[mark.symbol] = mark.next_funding_t

    def _charge(self, mark: Mark, due: int) -> None:
        floor, name = self.floor, mark.symbol
        rate = self._rates.get(name, mark.funding_rate)
        del self._due[name]
        settled = FundingSettled(name, rate, mark.mark, due)
        floor.fundings[name].append(settled)
        floor.out.append(settled)
        if name not in floor.account.exposed:
            return
        for position in floor.account.legs(name):
            amount = money(-position.qty * mark.mark * rate)
            if not amount:
                continue
            floor.account.book(position, amount, floor.now)
            floor.note(Booked(name, "FUNDING_FEE", amount, position.side, floor.now, len(floor.booked) + 1))
            wallet, cross = floor.account.wallet, floor.account.cross_wallet
            changed = AccountChanged(wallet, position.frozen(), mark.mark, floor.now, cross, "FUNDING_FEE", amount)
            floor.out.append(changed)
