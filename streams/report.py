"""What a run did, taken from outside the workers: broker offsets, SQL, the exchange's own log. Not from their word.

`make(stack)` returns the report as a dict; `failures(report)` says what does not add up. Equalities must hold in every run, however
short; whether there was enough to trade is the reader's to judge.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, TypeVar

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client

from infra.broker.admin import offsets, ping
from infra.broker.reading import read_all
from infra.clickhouse.audit import history_equality
from infra.settings import Settings
from infra.venue import by_hand
from schemas import topics
from streams.lag import lags
from streams.launcher import Stack

T = TypeVar("T")
PROTECTED_WITHIN_S = 15.0
"""No position may be without a stop for longer, whatever was killed."""
LAGGING_TOLD = 5
SETTLED_WITHIN_S = 20
"""An order whose fate is still open that long after its last word is stuck; younger ones were on their way when the run ended."""


def make(stack: Stack) -> dict[str, Any]:
    """The run's report. Kafka, ClickHouse and the exchange must be up, the street drained.

    Equalities hold over the whole log; what was decided and traded is told of this run alone, as earlier ones may stand before it.
    """
    settings = stack.settings
    audit = exchange_audit(settings, stack.began)
    ends = offsets(settings.bootstrap, [topic.name for topic in topics.ALL])
    sql = client(settings)
    dead = sum(high - low for low, high in ends[topics.DEAD_LETTERS.name].values())
    first = audit["first_protected_wall"]
    now = f"k_time >= fromUnixTimestamp64Milli({int(stack.began * 1000)})"
    report: dict[str, Any] = {
        "market": {"source": settings.market, "speed": settings.speed, "seed": settings.seed},
        "seconds": round(time.time() - stack.began, 1),
        "broker": {"name": "Apache Kafka", "version": ping(settings.bootstrap).version},
        "first_protected_s": None if first is None else round(first - stack.began, 2),
        "topics": _topics(settings, ends),
        "positions": {"opened": audit["opened"], "closed": audit["closed"], "open": len(audit["open"])},
        "verdicts": counts(sql, f"SELECT outcome, uniqExact(event_id) FROM risk_verdicts WHERE {now} GROUP BY outcome"),
        "refusals": counts(
            sql, f"SELECT reason, uniqExact(event_id) FROM risk_verdicts WHERE outcome = 'REFUSED' AND {now} GROUP BY reason"
        ),
        "exits": counts(
            sql,
            "SELECT purpose, uniqExact(instrument, client_id) FROM trade_fills "
            f"WHERE purpose NOT IN ('ENTRY', 'FOREIGN') AND {now} GROUP BY purpose",
        ),
        "closed_by": counts(sql, f"SELECT exit_reason, uniqExact(event_id) FROM trade_closed WHERE {now} GROUP BY exit_reason"),
        "unprotected_worst_s": round(audit["unprotected_worst_s"], 3),
        "unprotected_worst_market_s": round(audit["unprotected_worst_market_s"], 1),
        "history": history_equality(sql, ends),
        "trades": _trades(settings, sql, ends),
        "fills": {
            "exchange": audit["fills"],
            "log": _distinct_fills(settings, ends),
            "history": _number(sql, "SELECT uniqExact(instrument, trade_id) FROM trade_fills"),
        },
        "orders_by_client_id_max": audit["orders_by_client_id_max"],
        "orders_unfinished": _unfinished(sql),
        "restarts": stack.restarts,
        "dead_letters": dead,
        "peak_rss_mb": round(stack.peak_rss_mb),
    }
    report["failures"] = failures(report)
    return report


def failures(report: dict[str, Any]) -> list[str]:
    """Every equality that does not hold, in words; empty when the run adds up."""
    told = _lagging(report["topics"])
    late = bool(told)
    for name, seen in report["history"].items():
        lag = report["topics"].get(name, {}).get("lag", 0)
        if 0 < seen["records"] - seen["rows"] <= lag and not seen["holes"] and not seen["doubles"]:
            continue  # what it lacks is what lags: told already
        if seen["holes"] or seen["doubles"] or seen["rows"] != seen["records"]:
            told.append(f"{name}: {seen['records']} records, {seen['rows']} rows, {seen['holes']} holes, {seen['doubles']} doubles")
    if late:
        told.append(
            f"what lags is not lost: this machine did not keep up at --speed {report['market']['speed']:g}; choose a lower one"
        )
    silent = [topic.name for topic in topics.ALL if topic.name not in report["topics"] or topic.name not in report["history"]]
    told += [f"{name}: not in the report" for name in silent]
    for what in ("trades", "fills"):
        if len(set(report[what].values())) != 1:
            told.append(f"{what} differ: {report[what]}")
    if report["orders_by_client_id_max"] > 1:
        told.append(f"an order was sent {report['orders_by_client_id_max']} times")
    told += [f"an order never left {state}: {n} of them" for state, n in report["orders_unfinished"].items()]
    if report["unprotected_worst_s"] > PROTECTED_WITHIN_S:
        told.append(f"a position was unprotected for {report['unprotected_worst_s']} s")
    return told


def _lagging(seen: dict[str, dict[str, int]]) -> list[str]:
    """The worst first; the many that lag by one cause in one line."""
    behind = sorted(((one["lag"], name) for name, one in seen.items() if one["lag"]), reverse=True)
    told = [f"{name}: lag {lag} of {seen[name]['produced']} records" for lag, name in behind[:LAGGING_TOLD]]
    if rest := behind[LAGGING_TOLD:]:
        told.append(f"{len(rest)} more topics: lag {sum(lag for lag, _ in rest)} records")
    return told


def exchange_audit(settings: Settings, since: float) -> dict[str, Any]:
    """The exchange's own account: all fills and orders, positions and protection since a moment of the wall (epoch s)."""
    found: dict[str, Any] = by_hand.ask(settings.exchange_control_url, f"audit?since={since:.3f}", 10.0)
    return found


def client(settings: Settings) -> Client:
    """A clickhouse-connect client on our database."""
    return clickhouse_connect.get_client(dsn=settings.clickhouse, database=settings.clickhouse_database)


def counts(sql: Client, query: str) -> dict[str, int]:
    return {str(name): int(n) for name, n in sorted(sql.query(query).result_rows, key=lambda row: str(row[0]))}


def _number(sql: Client, query: str) -> int:
    return int(sql.query(query).result_rows[0][0])


def _unfinished(sql: Client) -> dict[str, int]:
    """Orders whose last word is that they are about to be sent, or that nobody knows."""
    return counts(
        sql,
        "SELECT last, count() FROM ("
        "SELECT argMax(state, k_offset) AS last, max(k_time) AS said FROM trade_orders GROUP BY instrument, intent_id) "
        "WHERE last IN ('PLANNED', 'SENDING', 'UNKNOWN') "
        f"AND said < (SELECT max(k_time) FROM health_heartbeats) - INTERVAL {SETTLED_WITHIN_S} SECOND GROUP BY last",
    )


def _topics(settings: Settings, ends: dict[str, dict[int, tuple[int, int]]]) -> dict[str, dict[str, int]]:
    """`consumed`: what its slowest consumer has applied; `lag`: what that one still has before it."""
    worst: dict[str, int] = {}
    for by_topic in lags(settings.bootstrap, topics.WORKERS).values():
        for name, lag in by_topic.items():
            worst[name] = max(worst.get(name, 0), lag)
    seen = {}
    for topic in topics.ALL:
        produced = sum(high - low for low, high in ends[topic.name].values())
        lag = worst.get(topic.name, produced)
        seen[topic.name] = {"produced": produced, "consumed": produced - lag, "lag": lag}
    return seen


def _values(settings: Settings, topic: str, ends: dict[str, dict[int, tuple[int, int]]]) -> list[bytes]:
    found = (message.value() for message in read_all(settings.bootstrap, topic, ends[topic]))
    return [value for value in found if value is not None]


class _Frame(msgspec.Struct):
    type: str
    instrument: str = ""
    first_id: int = 0
    t: list[int] = []


class _Fill(msgspec.Struct):
    instrument: str
    trade_id: int


def _decoded(values: list[bytes], kind: type[T]) -> list[T]:
    """What is no such record is poison, and counted as a dead letter elsewhere."""
    found = []
    for value in values:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found.append(msgspec.json.decode(value, type=kind))
    return found


def _trades(settings: Settings, sql: Client, ends: dict[str, dict[int, tuple[int, int]]]) -> dict[str, int]:
    """Trades inside frames, counted by a consumer of our own and by SQL; distinct ids, so that a hole or a double shows."""
    name = topics.MARKET_TRADES.name
    frames = _decoded(_values(settings, name, ends), _Frame)
    frames = [frame for frame in frames if frame.type == "market.trade-frame"]
    ids: dict[str, set[int]] = {}
    for frame in frames:
        ids.setdefault(frame.instrument, set()).update(range(frame.first_id, frame.first_id + len(frame.t)))
    return {
        "log": sum(len(frame.t) for frame in frames),
        "log_distinct": sum(map(len, ids.values())),
        "log_span": sum(max(found) - min(found) + 1 for found in ids.values()),
        "history": _number(sql, "SELECT sum(length(t)) FROM market_trades"),
    }


def _distinct_fills(settings: Settings, ends: dict[str, dict[int, tuple[int, int]]]) -> int:
    name = topics.TRADE_FILLS.name
    fills = _decoded(_values(settings, name, ends), _Fill)
    return len({(fill.instrument, fill.trade_id) for fill in fills})
