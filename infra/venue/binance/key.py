"""What an API key may do, as the venue states it, and what of that is not acceptable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Permissions:
    """`ip_restricted`: it works from listed addresses only."""

    reads: bool
    trades_futures: bool
    withdraws: bool
    transfers: bool
    ip_restricted: bool


def parse(row: Mapping[str, Any]) -> Permissions:
    """An answer of /sapi/v1/account/apiRestrictions. What it does not say is not permitted."""
    return Permissions(
        reads=bool(row.get("enableReading", False)),
        trades_futures=bool(row.get("enableFutures", False)),
        withdraws=bool(row.get("enableWithdrawals", False)),
        transfers=bool(row.get("enableInternalTransfer", False) or row.get("permitsUniversalTransfer", False)),
        ip_restricted=bool(row.get("ipRestrict", False)),
    )


def objections(key: Permissions, *, real_money: bool) -> list[str]:
    """Why this key shall not trade. A key that can withdraw is refused wherever it is; the rest counts where money is real."""
    found = []
    if key.withdraws:
        found.append("it can withdraw")
    if not (key.reads and key.trades_futures):
        found.append("it may not read and trade futures")
    if real_money and key.transfers:
        found.append("it can move money to other accounts")
    if real_money and not key.ip_restricted:
        found.append("it works from any address")
    return found
