"""What the spot account has: of each asset a total, and the part that open orders have locked."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from infra.venue.local.spot.refusals import POOR, rejected


class Balances:
    """Money moves by `pay` and `earn`; `lock` and `unlock` only bind it. Nothing ever becomes negative."""

    def __init__(self, assets: Iterable[str], start: dict[str, Decimal]) -> None:
        self.total = {asset: start.get(asset, Decimal(0)) for asset in assets}
        self.locked = dict.fromkeys(self.total, Decimal(0))

    def free(self, asset: str) -> Decimal:
        return self.total[asset] - self.locked[asset]

    def need(self, asset: str, amount: Decimal) -> None:
        """Refuse what is not there."""
        if amount > self.free(asset):
            raise rejected(POOR)

    def lock(self, asset: str, amount: Decimal) -> None:
        self.need(asset, amount)
        self.locked[asset] += amount

    def unlock(self, asset: str, amount: Decimal) -> None:
        self.locked[asset] -= amount

    def pay(self, asset: str, amount: Decimal) -> None:
        self.total[asset] -= amount

    def earn(self, asset: str, amount: Decimal) -> None:
        self.total[asset] += amount

    def rows(self, assets: Iterable[str]) -> tuple[tuple[str, Decimal, Decimal], ...]:
        return tuple((asset, self.free(asset), self.locked[asset]) for asset in assets)
