"""How the street stands, seen from outside: the broker's books, the workers' probes, the exchange's own log."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException

from infra.broker.admin import offsets, require
from infra.errors import UserError
from infra.probe import ask
from infra.settings import Settings
from infra.venue import by_hand
from schemas import topics
from streams.brake_commands import holding
from streams.lag import lags
from streams.queries import rows_of

GATHERED = 200

STREET = (
    ("frames", topics.MARKET_TRADES),
    ("candles", topics.MARKET_CANDLES),
    ("features", topics.MARKET_FEATURES),
    ("predictions", topics.SIGNAL_PREDICTIONS),
    ("verdicts", topics.RISK_VERDICTS),
    ("entries", topics.TRADE_ENTRIES),
    ("orders", topics.TRADE_ORDERS),
    ("fills", topics.TRADE_FILLS),
    ("exit decisions", topics.TRADE_EXIT_DECISIONS),
    ("closed", topics.TRADE_CLOSED),
    ("dead letters", topics.DEAD_LETTERS),
)


def look(settings: Settings, ports: dict[str, str] | None = None) -> dict[str, Any]:
    """Workers with readiness and lag, records by topic, what holds entries back, the exchange's positions. UserError when Kafka
    does not answer."""
    urls = ports if ports is not None else usual_probes(settings)
    require(settings.bootstrap)
    ends = offsets(settings.bootstrap, [topic.name for topic in topics.ALL])
    behind = lags(settings.bootstrap, [name for name in topics.WORKERS if name in urls])
    audit = exchange(settings)
    totals = {name: sum(high - low for low, high in by_partition.values()) for name, by_partition in ends.items()}
    return {
        "workers": [
            {"name": name, "ready": not (why := ask(urls[name], 0.5)), "why": why, "lag": sum(behind[name].values())}
            for name in topics.WORKERS
            if name in urls
        ],
        "topics": totals,
        "holding": holding(settings, bool(totals[topics.RISK_STATES.name] or totals[topics.BREAKER_STATES.name])),
        "exchange": audit,
    }


def usual_probes(settings: Settings) -> dict[str, str]:
    base = settings.probe_port or 18100
    return {name: f"http://{settings.host}:{base + i}/readyz" for i, name in enumerate(topics.WORKERS)}


def exchange(settings: Settings) -> dict[str, Any] | None:
    """Opened, closed and open positions and the worst unprotected time, or None when the exchange is away."""
    try:
        audit = by_hand.ask(settings.exchange_control_url, "audit", 2.0)
    except OSError:
        return None
    found = {name: audit[name] for name in ("opened", "closed", "fills", "unprotected_worst_s")}
    return found | {"open": len(audit["open"])}


def one_line(seen: dict[str, Any]) -> str:
    """A plain line for logs and pipes."""
    ready = sum(worker["ready"] for worker in seen["workers"])
    parts = [f"ready {ready}/{len(seen['workers'])}"]
    parts += [f"({worker['name']}: {worker['why']})" for worker in seen["workers"] if worker["why"]]
    parts += [f"{label} {seen['topics'][topic.name]:,}" for label, topic in STREET]
    if seen["holding"]:
        parts.append(f"ENTRIES HELD BACK ({'; '.join(seen['holding'])})")
    if seen["exchange"]:
        e = seen["exchange"]
        parts.append(f"positions {e['open']} open {e['closed']} closed")
        parts.append(f"longest unprotected {e['unprotected_worst_s']:.2f} s")
    return "  ".join(parts)


def table(seen: dict[str, Any]) -> list[str]:
    """The same for a terminal."""
    lines = ["workers"]
    lines += [
        f"  {w['name']:<12} {'ready' if w['ready'] else 'NOT READY':<10} lag {w['lag']:<10,} {w['why']}".rstrip()
        for w in seen["workers"]
    ]
    lines.append("street")
    lines += [f"  {label:<16} {seen['topics'][topic.name]:>10,}   {topic.name}" for label, topic in STREET]
    lines += [f"HELD BACK        {why}" for why in seen["holding"]]
    e = seen["exchange"]
    if e is None:
        lines.append("exchange         does not answer")
    else:
        lines.append(
            f"positions        {e['opened']} opened, {e['closed']} closed, {e['open']} open; "
            f"longest unprotected {e['unprotected_worst_s']:.2f} s"
        )
    return lines


def open_positions(settings: Settings) -> list[dict[str, Any]]:
    """Open positions with the stop that their plan names, from the history."""
    try:
        return rows_of(settings, "SELECT * FROM protection ORDER BY instrument")
    except UserError as e:
        raise UserError("positions cannot be read", e.why, e.do) from e


def history_behind(settings: Settings) -> int:
    """Records of trade topics that the history has not; 0 where they are few, as it gathers some, or where nobody can say."""
    try:
        found = lags(settings.bootstrap, ["history"])["history"]
    except (UserError, KafkaException):
        return 0
    behind = sum(n for name, n in found.items() if name.startswith("trade."))
    return behind if behind > GATHERED else 0
