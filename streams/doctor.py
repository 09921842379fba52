"""`quantum doctor`: one check a dependency, each with what, why and what to do."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from infra.broker.admin import offsets, ping
from infra.broker.reading import read_all
from infra.errors import UserError
from infra.settings import Settings, shown
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.key import Permissions, objections
from infra.venue.port import OutcomeKind, VenueError
from schemas import topics
from schemas.ids import event_id
from schemas.operations import Heartbeat
from streams.commands import send
from streams.queries import rows_of

CLOCK_SKEW_S = 1.0
THROUGH_S = 60.0
SILENT_S = 15.0
HEARTBEATS = 500
"""The last ones that are looked at: at one every two seconds, those of a minute and more of the usual workers."""
REAL_MONEY = ("https://fapi.binance.com", "https://api.binance.com")


def examine(settings: Settings, *, round_trip: bool = False) -> list[dict[str, Any]]:
    """Every check runs, whatever the others say."""
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("kafka", kafka),
        ("topics", declared_topics),
        ("clickhouse", clickhouse),
        ("workers", workers),
        ("exchange", exchange),
        ("key", key),
        ("model", model),
    ]
    if round_trip:
        checks.append(("round trip", through))
    return [_run(name, check, settings) for name, check in checks]


def _run(name: str, check: Callable[[Settings], str], settings: Settings) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found: dict[str, Any] = {"name": name, "ok": True, "detail": check(settings)}
    except UserError as e:
        found = {"name": name, "ok": False, "detail": e.what, "why": e.why, "do": e.do}
    return found | {"ms": round((time.monotonic() - began) * 1000, 1)}


def kafka(settings: Settings) -> str:
    return f"{settings.bootstrap} answers, version {ping(settings.bootstrap, 3.0).version}"


def declared_topics(settings: Settings) -> str:
    ping(settings.bootstrap, 3.0)
    offsets(settings.bootstrap, [topic.name for topic in topics.ALL])
    return f"all {len(topics.ALL)} are there"


def clickhouse(settings: Settings) -> str:
    tables = {row["name"] for row in rows_of(settings, "SELECT name FROM system.tables WHERE database = currentDatabase()")}
    missing = [topic.table for topic in topics.ALL if topic.table not in tables]
    if missing:
        raise UserError(
            f"ClickHouse at {shown(settings.clickhouse)} lacks tables",
            ", ".join(missing),
            "start the stack once (`make run`), or run `quantum bootstrap`: both apply the migrations",
        )
    return f"{shown(settings.clickhouse)} answers, all tables are there"


def workers(settings: Settings) -> str:
    """By their heartbeats: a worker that has said nothing for SILENT_S is down, or cannot reach Kafka."""
    ping(settings.bootstrap, 3.0)
    name, oldest = topics.HEALTH_HEARTBEATS.name, (time.time() - SILENT_S) * 1000
    ends = {p: (max(low, high - HEARTBEATS), high) for p, (low, high) in offsets(settings.bootstrap, [name])[name].items()}
    newest: dict[tuple[str, str], Heartbeat] = {}
    for message in read_all(settings.bootstrap, name, ends):
        try:
            beat = Heartbeat.model_validate_json(message.value() or b"")
        except ValidationError:
            continue  # what is no heartbeat is the stages' matter: they bury it
        newest[beat.worker, beat.member] = beat
    live = [beat for beat in newest.values() if beat.at >= oldest]
    if silent := [worker for worker in topics.WORKERS if worker not in {beat.worker for beat in live}]:
        raise UserError(
            f"{len(silent)} of {len(topics.WORKERS)} workers are silent: {', '.join(silent)}",
            f"no heartbeat for {SILENT_S:.0f} s",
            "look at their logs and at `quantum status`; nothing is opened while a vital one is silent, stops rest on the exchange",
        )
    waiting = [f"{beat.member} ({beat.status})" for beat in live if not beat.ready and beat.worker in topics.WORKERS]
    return f"all {len(topics.WORKERS)} live" + (f"; not ready: {', '.join(waiting)}" if waiting else ", all are ready")


def exchange(settings: Settings) -> str:
    url = f"{settings.exchange_url}/fapi/v1/time"
    try:
        before = time.time()
        with urllib.request.urlopen(url, timeout=3.0) as answer:
            server = json.loads(answer.read())["serverTime"] / 1000
        skew = server - (before + time.time()) / 2
    except (OSError, ValueError, KeyError) as e:
        raise UserError(
            f"the exchange at {settings.exchange_url} does not answer",
            str(e),
            "start the stack (`make run`) or set QT_EXCHANGE_PORT to where it listens",
        ) from e
    if abs(skew) > CLOCK_SKEW_S:
        raise UserError(
            f"the clock differs from the exchange's by {skew:.1f} s",
            "orders are signed with the time and refused when it is off",
            "synchronise this machine's clock",
        )
    return f"{settings.exchange_url} answers, clock within {abs(skew) * 1000:.0f} ms"


def key(settings: Settings) -> str:
    """What the API key may do. A key that can withdraw never passes; where money is real, it must be bound to addresses too."""
    try:
        found = asyncio.run(_permissions(settings))
    except VenueError as e:
        if e.outcome.kind is not OutcomeKind.AUTH:
            raise UserError(
                f"{settings.exchange_url} does not say what the key may do", str(e), "the exchange must answer first"
            ) from e
        raise UserError(
            f"the key is not accepted by {settings.exchange_url}", str(e), "correct QT_API_KEY and QT_API_SECRET"
        ) from e
    real_money = settings.exchange_url.startswith(REAL_MONEY)
    if found is None:
        if real_money:
            raise UserError("the venue does not tell what the key may do", "a real account must be asked", "try again later")
        return "accepted; this venue does not tell what it may do"
    if wrong := objections(found, real_money=real_money):
        raise UserError(
            "this key shall not trade", "; ".join(wrong), "make a key that may only trade futures, bound to this address"
        )
    where = "from listed addresses" if found.ip_restricted else "from any address (no real money here)"
    return f"may read and trade futures, cannot withdraw, works {where}"


def through(settings: Settings) -> str:
    """A heartbeat of our own onto the log; `history` writes it like everything else, and SQL finds it."""
    ping(settings.bootstrap, 3.0)
    began, at = time.monotonic(), int(time.time() * 1000)
    beat = Heartbeat(
        event_id=event_id(Heartbeat.type_name(), "doctor", uuid.uuid4().hex),
        at=at,
        worker="doctor",
        member="doctor-0",
        pid=os.getpid(),
        started_at=at,
        ready=True,
        status="round trip",
        processed=0,
        recovered_gaps=0,
        dead_letters=0,
        rss_mb=0.0,
    )
    send(settings, beat)
    query = f"SELECT count() AS n FROM health_heartbeats WHERE worker = 'doctor' AND event_id = '{beat.event_id}'"
    while not rows_of(settings, query)[0]["n"]:
        if time.monotonic() - began > THROUGH_S:
            raise UserError(
                f"a heartbeat did not reach ClickHouse within {THROUGH_S:.0f} s",
                f"{settings.bootstrap} took it, the table health_heartbeats does not have it",
                "look at the worker `history`: its log, its readiness",
            )
        time.sleep(0.2)
    return f"Kafka to ClickHouse in {time.monotonic() - began:.1f} s"


async def _permissions(settings: Settings) -> Permissions | None:
    async with BinanceUsdm(settings) as venue:
        await venue.account()
        return await venue.permissions()


def model(settings: Settings) -> str:
    from streams.model_commands import versions
    from streams.serving import verify

    found = versions(settings)
    name = str(found["serving"])
    if name != found["active"]:
        raise UserError(
            f"the model {found['active']} is to decide, {name} does",
            str(found["refused"]),
            "restore its directory in QT_MODEL_REGISTRY: it is taken with one of the next candles; or promote another",
        )
    refusal = verify(name, settings)
    if refusal is not None:
        raise UserError(
            f"the model {name} is refused",
            f"{refusal.reason}: {refusal.detail}",
            "what served before goes on, or entries of the strategy `model` are off: correct QT_MODEL_DIR, QT_MODEL_REGISTRY, "
            "QT_MODEL_KEY, or promote another (`quantum model list`)",
        )
    return f"{name} loads and gives its golden outputs"
