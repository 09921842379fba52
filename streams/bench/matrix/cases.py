"""The table: boundaries of the order path, faults, and which of them can meet. docs/order-path.md tells the same to people.

A case is one intent's way over one boundary, under one fault, with the worker killed or frozen at the boundary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LEGS = ("entry", "stop", "close")
POINTS = {
    "planned": "the intent is folded; ownership is not proved yet",
    "proved": "ownership is proved; SENDING is not written",
    "sending": "SENDING stands in the log; the call has not begun",
    "answered": "the exchange has answered, or will not; nothing is said of it",
    "said": "the outcome stands in the log; the state is not written",
    "queried": "a lost answer was asked for; what was found is not said",
}
BOUNDARIES: dict[str, str] = {f"{leg}.{point}": about for leg in LEGS for point, about in POINTS.items()} | {
    "fill.heard": "the account worker has heard of a fill; it is not in the log",
    "fill.written": "the fill is in the log; the account worker does not know",
    "position.read": "the positions worker has read the fill",
    "position.decided": "the position is on its way to the log; the state is not written",
}
DISTURBANCES = ("kill", "freeze")


class Fault(NamedTuple):
    """`kind`: of the exchange's faults, on the call of the leg. `legs`: which it can meet. `accepted`: the order exists then."""

    about: str
    kind: str = ""
    legs: tuple[str, ...] = LEGS
    accepted: bool = True
    of_query: bool = True


FAULTS: dict[str, Fault] = {
    "none": Fault("nothing but the disturbance"),
    "accept-then-hang": Fault("taken, never answered", "accept-then-hang"),
    "accept-then-drop": Fault("taken, the connection is cut", "accept-then-drop"),
    "accept-then-503": Fault("taken, 503 Unknown error", "accept-then-503"),
    "-1007": Fault("taken, the backend did not answer in time", "accept-then-1007"),
    "refuse-503": Fault("not taken, 503 Service Unavailable", "refuse-503", accepted=False),
    "429": Fault("not taken, too many requests", "429", accepted=False),
    "-1021": Fault("not taken, the timestamp is too old", "refuse-1021", accepted=False),
    "-2013": Fault("a living order is denied three times", "accept-then-drop", of_query=False),
    "-4116": Fault("taken, and the answer says that its client id is in the book", "accept-then-4116", of_query=False),
    "-4130": Fault("a closePosition stop rests on that side", "refuse-4130", ("stop",), accepted=False, of_query=False),
    "-2021": Fault("the stop would trigger at once", "refuse-2021", ("stop",), accepted=False, of_query=False),
    "-2022": Fault("a reduce-only order is refused", "refuse-2022", ("close",), accepted=False, of_query=False),
    "stream-drop": Fault("the user stream is cut at the boundary"),
    "duplicate": Fault("every user event comes twice", "event-duplicate"),
    "reorder": Fault("user events overtake each other", "event-reorder"),
    "intent-twice": Fault("the intent stands in the log twice"),
}
STREAM = ("duplicate", "reorder")


class Case(NamedTuple):
    boundary: str
    fault: str
    disturbance: str

    @property
    def leg(self) -> str:
        """Whose call meets the fault; a fill's and a position's boundary is crossed by an entry."""
        leg = self.boundary.split(".")[0]
        return leg if leg in LEGS else "entry"

    @property
    def worker(self) -> str:
        return {"fill": "account", "position": "positions"}.get(self.boundary.split(".")[0], "execution")

    @property
    def name(self) -> str:
        return f"{self.boundary} x {self.fault}, {self.disturbance}"


def can_meet(boundary: str, fault: str) -> bool:
    case, found = Case(boundary, fault, ""), FAULTS[fault]
    if boundary.endswith(".queried"):
        return found.of_query and case.leg in found.legs
    return case.leg in found.legs


def matrix() -> list[Case]:
    """Every boundary with every fault that can meet it, killed and frozen."""
    return [Case(b, f, d) for b in BOUNDARIES for f in FAULTS if can_meet(b, f) for d in DISTURBANCES]


def plans(case: Case, symbol: str, client_id: str) -> list[dict[str, Any]]:
    """What the exchange is told beforehand (POST /control/faults). `client_id`: of the leg's order."""
    fault = FAULTS[case.fault]
    book = "algoOrder" if case.leg == "stop" else "order"
    post, get = {"route": f"POST {book}", "only": symbol}, {"route": f"GET {book}", "only": client_id}
    if case.fault in STREAM:
        return [{"route": "*", "kind": fault.kind, "only": symbol, "for_s": 60}]
    lost = {**post, "kind": "accept-then-drop"}
    if case.boundary.endswith(".queried"):
        return [lost, *([{**get, "kind": fault.kind}] if fault.kind else [])]
    if case.fault == "-2013":
        return [lost, {**get, "kind": "refuse-2013", "count": 3}]
    return [{**post, "kind": fault.kind}] if fault.kind else []


def must_hold(case: Case) -> str:
    """What the position must be at the end: "open", "flat", or "any" where the exchange has refused for good."""
    fault = FAULTS[case.fault]
    match case.leg:
        case "entry":
            spared = case.boundary.endswith(".queried") or fault.accepted
            return "open" if spared else "any"
        case "stop":
            return "any" if case.fault == "-2021" else "open"
        case _:
            return "any" if case.fault == "-2022" else "flat"
