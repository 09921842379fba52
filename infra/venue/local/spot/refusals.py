"""No, in the words of spot: one code with many texts where the matching engine refuses, and failed filters by name."""

from __future__ import annotations

from typing import Final

from infra.venue.local.refusals import Refusal

CLOSED: Final = "Market is closed."
DUPLICATE: Final = "Duplicate order sent."
POOR: Final = "Account has insufficient balance for requested action."
TAKES: Final = "Order would immediately match and take."
TRIGGERS: Final = "Order would trigger immediately."
UNRELATED: Final = "The relationship of the prices for the orders is not correct."
UNKNOWN: Final = "Unknown order sent."
UNKNOWN_LIST: Final = "Unknown order list sent."
OCO: Final[dict[int, str]] = {
    -1158: "Order type not supported in OCO.",
    -1165: "A limit order in a buy OCO must be below.",
    -1166: "A limit order in a sell OCO must be above.",
    -1196: "A stop loss order in a buy OCO must be above.",
    -1197: "A stop loss order in a sell OCO must be below.",
    -1198: "A take profit order in a buy OCO must be below.",
    -1199: "A take profit order in a sell OCO must be above.",
}


def rejected(why: str) -> Refusal:
    return Refusal(-2010, why)


def cancel_rejected(why: str = UNKNOWN) -> Refusal:
    return Refusal(-2011, why)


def filtered(name: str) -> Refusal:
    return Refusal(-1013, f"Filter failure: {name}")


def imprecise(parameter: str) -> Refusal:
    return Refusal(-1111, f"Parameter '{parameter}' has too much precision.")


def oco(code: int) -> Refusal:
    return Refusal(code, OCO[code])
