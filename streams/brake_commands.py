"""Stop, resume, close and the breakers, for people. Stopping asks nobody and needs no log; what opens again is signed."""

from __future__ import annotations

import getpass
import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from infra.broker.admin import require
from infra.errors import UserError
from infra.settings import Settings
from infra.venue.binance.filters import instrument_of
from schemas import topics
from schemas.operations import Command, CommandKind
from schemas.risk import ALL, BreakerState, Phase, RiskState
from schemas.signing import signed
from schemas.trading import Position, PositionStatus
from streams.brakes import read_stop_file
from streams.commands import ask, check_token, command, newest

SEEN_S = 5.0


def stop(settings: Settings, reason: str) -> dict[str, Any]:
    """The stop file first: it counts at once, and without a log. Then the log, for everybody else.

    Raises UserError only when neither could be told.
    """
    told: dict[str, Any] = {"file": str(settings.stop_file), "file_error": None, "log": None, "log_error": None}
    try:
        settings.stop_file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), settings.stop_file.open("x") as file:
            file.write(json.dumps({"by": getpass.getuser(), "at": _now(), "why": reason}) + "\n")
    except OSError as e:
        told["file_error"] = f"{settings.stop_file}: {e.strerror}"
    try:
        told["log"] = ask(settings, command(CommandKind.STOP, {}, reason)).accepted
    except UserError as e:
        told["log_error"] = f"{e.what}: {e.why}"
    if told["file_error"] and not told["log"]:
        raise UserError("NOT stopped", f"{told['file_error']}; {told['log_error']}", f"make the file {settings.stop_file} by hand")
    return told


def resume(settings: Settings, reason: str) -> dict[str, Any]:
    """Lifts the emergency stop and the stop file, once control has found the signature right. A cause that stands stops again."""
    answer = ask(settings, _signed(settings, command(CommandKind.RESUME, {}, reason)))
    if not answer.accepted:
        return {"accepted": False, "detail": answer.detail}
    settings.stop_file.unlink(missing_ok=True)
    found = _await(settings, lambda now: not now["stopped"])
    return {"accepted": True, "detail": answer.detail} | found


def reset(settings: Settings, scope: str, reason: str, *, override: bool) -> dict[str, Any]:
    """One entry on trial; `override`: closed, whatever there was. `scope`: a symbol, an instrument, or `*` for every breaker."""
    kind = CommandKind.BREAKER_OVERRIDE if override else CommandKind.BREAKER_RESET
    name = scope if scope == ALL else _named(scope)
    answer = ask(settings, _signed(settings, command(kind, {"scope": name}, reason)))
    if not answer.accepted:
        return {"accepted": False, "detail": answer.detail}

    def done(now: dict[str, Any]) -> bool:
        return not any(row["phase"] == Phase.OPEN for row in now["breakers"] if name in (ALL, row["scope"]))

    return {"accepted": True, "detail": answer.detail} | _await(settings, done)


def close(settings: Settings, scope: str, reason: str) -> dict[str, Any]:
    """A wish to close one position, or all; exits does it."""
    name = scope if scope == ALL else _named(scope)
    require(settings.bootstrap)
    known = newest(settings, topics.TRADE_POSITIONS, Position, lambda position: position.instrument)  # before exits closes any
    mine = {key for key, each in known.items() if each.account == settings.account and each.status is PositionStatus.OPEN}
    answer = ask(settings, command(CommandKind.CLOSE, {"instrument": name}, reason))
    found = sorted(mine if name == ALL else mine & {name})
    return {"accepted": answer.accepted, "detail": answer.detail, "instrument": name, "open": found}


def status(settings: Settings) -> dict[str, Any]:
    """The brakes as the log and the stop file have them."""
    require(settings.bootstrap)
    last = newest(settings, topics.RISK_STATES, RiskState, lambda state: state.account).get(settings.account)
    breakers = newest(settings, topics.BREAKER_STATES, BreakerState, lambda state: state.scope)
    file = read_stop_file(settings.stop_file)
    by_log = last is not None and last.stopped
    return {
        "stopped": by_log or bool(file),
        "by_log": by_log,
        "alarms": list(last.alarms) if last else [],
        "evidence": list(last.evidence) if last else [],
        "since": _time(last.since) if last else None,
        "actor": last.actor if last else "",
        "stop_file": file,
        "breakers": [_row(state) for _, state in sorted(breakers.items())],
    }


def holding(settings: Settings, topics_have_any: bool) -> list[str]:
    """What holds entries back now, a line each; the log is read only when it has anything to say."""
    if not topics_have_any:
        file = read_stop_file(settings.stop_file)
        return [f"stop file: {file}"] if file else []
    found = status(settings)
    told = [f"stop file: {found['stop_file']}"] if found["stop_file"] else []
    told += found["evidence"] if found["by_log"] else []
    return told + [f"{row['scope']} {row['phase']}: {row['reason']}" for row in found["breakers"] if row["phase"] != Phase.CLOSED]


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    told = [f"stop file: {found['stop_file']}"] if found["stop_file"] else []
    if found["by_log"]:
        told += [f"STOPPED since {found['since']} (venue time), `quantum resume` lifts it", *(f"  {e}" for e in found["evidence"])]
    else:
        told.append("emergency stop: not engaged")
    for row in found["breakers"]:
        until = f", tries again from {row['may_reset_at']} (venue time)" if row["phase"] == Phase.OPEN else ""
        told.append(f"{row['scope']}: {row['phase']} since {row['since']}, {row['reason']}: {row['evidence']}{until}")
    return [*told, *([] if found["breakers"] else ["no breaker has tripped"])]


def _row(state: BreakerState) -> dict[str, Any]:
    return {
        "scope": state.scope,
        "phase": state.phase,
        "reason": state.reason,
        "evidence": state.evidence,
        "since": _time(state.since),
        "may_reset_at": _time(state.may_reset_at) if state.may_reset_at else None,
        "trips": state.trips,
        "actor": state.actor,
    }


def _await(settings: Settings, true: Any) -> dict[str, Any]:
    """The brakes once they are so, or as they are after a while."""
    deadline = time.monotonic() + SEEN_S
    while True:
        found = status(settings)
        if true(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _signed(settings: Settings, wish: Command) -> Command:
    """Unsigned without a token: control refuses it, and the audit has it."""
    token = settings.admin_token.get_secret_value()
    if not token:
        return wish
    check_token(token)
    return signed(wish, token)


def _named(scope: str) -> str:
    try:
        return scope if "." in scope else instrument_of(scope.upper())
    except ValueError as e:
        raise UserError(f"{scope!r} is no symbol", str(e), "name one as BTCUSDT") from e


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
