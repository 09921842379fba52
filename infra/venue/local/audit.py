"""Was every position protected? Computed from the exchange's own log, from outside of everything that trades.

An episode is the life of a position of one symbol from the first fill away from zero to the fill that brings it
back (a flip ends one and begins another). It is protected while a live STOP_MARKET on the closing side stands: one
that closes the position, or reduce-only quantities that together cover it. Everything else is unprotected time,
counted in wall seconds and in market seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]


@dataclass(slots=True)
class Episode:
    symbol: str
    side: str
    opened_wall: float
    opened_t: int
    closed_wall: float | None = None
    closed_t: int | None = None
    unprotected_s: float = 0.0
    unprotected_market_s: float = 0.0
    first_protected_wall: float | None = None
    fills: int = 0


@dataclass(slots=True)
class _Symbol:
    steps: int = 0
    episode: Episode | None = None
    stops: dict[int, Record] = field(default_factory=dict)  # live ones
    seen_wall: float = 0.0
    seen_t: int = 0

    def protected(self) -> bool:
        closing = "SELL" if self.steps > 0 else "BUY"
        covered = 0
        for stop in self.stops.values():
            if stop["side"] == closing:
                if stop["close_position"]:
                    return True
                if stop["reduce_only"]:
                    covered += stop["qty"]
        return covered >= abs(self.steps)

    def pass_time(self, wall: float, t: int) -> None:
        """Count the time since the last look, in the state that held since then."""
        if self.episode is not None and not self.protected():
            self.episode.unprotected_s += max(0.0, wall - self.seen_wall)
            self.episode.unprotected_market_s += max(0, t - self.seen_t) / 1000
        self.seen_wall, self.seen_t = wall, t

    def note_protection(self, wall: float) -> None:
        if self.episode is not None and self.episode.first_protected_wall is None and self.protected():
            self.episode.first_protected_wall = wall


def audit(records: list[Record], now_wall: float, now_t: int, since_wall: float = 0.0) -> dict[str, Any]:
    """The log judged at this moment. Times: `*_s` wall seconds, `*_market_s` market seconds, `*_wall` epoch, `*_t` market ms.

    With `since_wall`, episodes that had ended before it are left out, and those opened before it do not count as opened.
    """
    symbols: dict[str, _Symbol] = {}
    episodes: list[Episode] = []
    fills = 0
    orders: Counter[str] = Counter()
    seen_orders: set[int] = set()
    seen_algos: set[int] = set()
    for record in records:
        wall, t = record["wall"], record["t"]
        match record["k"]:
            case "fill":
                fills += 1
                state = symbols.setdefault(_leg(record), _Symbol())
                state.pass_time(wall, t)
                _fill(state, episodes, record)
                state.note_protection(wall)
            case "algo":
                algo = record["algo"]
                if (
                    algo["status"] == "NEW" and algo["id"] not in seen_algos
                ):  # a trailing stop says it again when it begins to follow
                    orders[algo["client_id"]] += 1
                seen_algos.add(algo["id"])
                if algo["type"] != "STOP_MARKET":
                    continue
                state = symbols.setdefault(_leg(algo), _Symbol())
                state.pass_time(wall, t)
                if algo["status"] == "NEW":
                    state.stops[algo["id"]] = algo
                else:
                    state.stops.pop(algo["id"], None)
                state.note_protection(wall)
            case "order":
                order = record["order"]
                if order["id"] not in seen_orders and not order["algo_id"]:  # a child is its parent's
                    orders[order["client_id"]] += 1
                seen_orders.add(order["id"])
    for state in symbols.values():
        state.pass_time(now_wall, now_t)
    episodes = [e for e in episodes if e.closed_wall is None or e.closed_wall >= since_wall]
    opened = [e for e in episodes if e.opened_wall >= since_wall]
    first = [e.first_protected_wall for e in opened if e.first_protected_wall is not None]
    return {
        "unprotected_worst_s": round(max((e.unprotected_s for e in episodes), default=0.0), 3),
        "unprotected_worst_market_s": round(max((e.unprotected_market_s for e in episodes), default=0.0), 3),
        "episodes": [_episode_row(e) for e in episodes],
        "fills": fills,
        "orders": sum(orders.values()),
        "orders_by_client_id_max": max(orders.values(), default=0),
        "doubled_client_ids": sorted(client_id for client_id, count in orders.items() if count > 1),
        "first_protected_wall": min(first, default=None),
        "opened": len(opened),
        "closed": sum(e.closed_wall is not None for e in episodes),
        "open": [_open_row(name, state) for name, state in sorted(symbols.items()) if state.episode is not None],
    }


def _leg(record: Record) -> str:
    """The symbol, or symbol/LONG and symbol/SHORT of a hedged account."""
    side = record.get("position_side", "BOTH")
    return str(record["symbol"]) if side == "BOTH" else f"{record['symbol']}/{side}"


def _fill(state: _Symbol, episodes: list[Episode], record: Record) -> None:
    before = state.steps
    state.steps += record["steps"] if record["side"] == "BUY" else -record["steps"]
    if state.episode is not None:
        state.episode.fills += 1
        if before * state.steps <= 0:
            state.episode.closed_wall, state.episode.closed_t = record["wall"], record["t"]
            state.episode = None
    if state.steps and state.episode is None:
        side = "LONG" if state.steps > 0 else "SHORT"
        state.episode = Episode(_leg(record), side, record["wall"], record["t"], fills=1)
        episodes.append(state.episode)


def _episode_row(e: Episode) -> dict[str, Any]:
    return {
        "symbol": e.symbol,
        "side": e.side,
        "opened_wall": e.opened_wall,
        "opened_t": e.opened_t,
        "closed_wall": e.closed_wall,
        "closed_t": e.closed_t,
        "unprotected_s": round(e.unprotected_s, 3),
        "unprotected_market_s": round(e.unprotected_market_s, 3),
        "first_protected_wall": e.first_protected_wall,
        "fills": e.fills,
    }


def _open_row(name: str, state: _Symbol) -> dict[str, Any]:
    shown = ("id", "client_id", "side", "trigger", "qty", "close_position", "reduce_only", "working_type")
    stops = [{key: stop[key] for key in shown} for stop in state.stops.values()]
    return {"symbol": name, "steps": state.steps, "protected": state.protected(), "stops": stops}
