"""Each brake on a street of real workers: it trips by what it is for, risk and execution hold entries, exits pass, a kill -9 of
everything lifts nothing, the administrator's token does. One test: what a brake leaves behind is the next one's world."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.signals import Decision
from streams.bench.scenarios.scene import Scene
from streams.bench.scenarios.street import NAMES, LiveStreet
from streams.brake_commands import reset, resume, status, stop
from streams.commands import set_policy

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

FREE = {
    "emergency.errors_in_a_row": 1000,
    "breaker.symbols": 1000,
    "breaker.cool_s": 10**7,
    "breaker.cool_longest_s": 10**7,
    "execution.entry_ttl_s": 10**7,
    "risk.cool_down_s": 0,
    "risk.max_positions": 1000,
}
"""Of the policy: one brake at a time is met, and one that is pulled stays so until somebody lifts it."""
NEVER, AT_ONCE = "0.99", "0.0005"
ALARMS = ["DAILY_DRAWDOWN", "WEEKLY_DRAWDOWN", "EMERGENCY_BRAKE", "EXECUTION_ERRORS", "FEED_SILENT", "SYSTEM_HEALTH", "MANUAL"]


def policy(street: LiveStreet, **values: Any) -> None:
    found = set_policy(street.person, [f"{name}={json.dumps(value)}" for name, value in values.items()], "a test", None)
    assert found["accepted"], found


def alarms(street: LiveStreet) -> list[str]:
    states = street.said(topics.RISK_STATES, "")
    return list(states[-1]["alarms"]) if states else []


class Asked:
    """Entries that try: by a decision as the model would say it, and past risk by an intent."""

    def __init__(self, street: LiveStreet, scene: Scene) -> None:
        self.street, self.scene = street, scene

    def verdict(self) -> dict[str, Any]:
        """Risk's, once it has heard that what stood here, or was under way, is over."""
        self.scene.settled()
        for _ in range(20):
            told = self._decided()
            if told["reason"] not in ("POSITION_EXISTS", "ORDER_IN_FLIGHT"):
                break
            time.sleep(0.5)
        return told

    def _decided(self) -> dict[str, Any]:
        told = json.loads((Path(__file__).parents[1] / "golden" / "signal.decision.json").read_text())
        now = self.street.control("GET", "state")["market_t"]
        name = f"decision-{self.scene.symbol}-{next(self.street.numbers)}"
        told |= {"event_id": name, "at": now, "candle_at": now, "instrument": self.scene.instrument, "action": "LONG"}
        self.street.write(Decision.model_validate_json(json.dumps(told | {"confidence": 0.9, "reference_price": "100"})))
        self.scene.must(lambda: any(v["decision_id"] == name for v in self.scene.said(topics.RISK_VERDICTS)), "a verdict")
        return next(v for v in self.scene.said(topics.RISK_VERDICTS) if v["decision_id"] == name)

    def approved(self) -> None:
        told = self.verdict()
        assert told["outcome"] == "APPROVED", told

    def refused(self, reason: str, *words: str) -> None:
        """Risk refuses, and execution does not send what comes past it."""
        told = self.verdict()
        assert (told["outcome"], told["reason"]) == ("REFUSED", reason), told
        assert [word for word in words if word not in told["detail"]] == [], told
        wanted = self.scene.enter()

        def said() -> list[dict[str, Any]]:
            return [o for o in self.scene.said(topics.TRADE_ORDERS) if o["client_id"] == wanted.client_id]

        self.scene.must(lambda: any(o["state"] == "ABANDONED" for o in said()), "execution abandons it")
        assert said()[-1]["reason"].startswith(reason), said()[-1]
        assert not any(o["state"] == "SENDING" for o in said())


def test_each_brake_trips_holds_entries_lets_exits_pass_survives_everything_and_ends_by_the_token(
    street: LiveStreet, say: Callable[[str], None]
) -> None:
    names = iter(NAMES)

    def scene() -> Scene:
        return Scene(street, next(names))

    def tripped(each: Scene, reason: str) -> None:
        each.must(lambda: reason in [b["reason"] for b in each.said(topics.BREAKER_STATES)], f"breaker {reason}", 60)
        Asked(street, each).refused("BREAKER_OPEN", f"of {each.instrument}")

    asker = Asked(street, scene())

    def sounded(alarm: str) -> None:
        asker.scene.must(lambda: alarm in alarms(street), f"alarm {alarm}", 60)
        asker.refused("EMERGENCY_STOP", alarm)

    policy(street, **FREE)
    loser, *winners = [scene() for _ in range(4)]
    for each in (loser, *winners):
        each.opened("1000" if each is loser else "500")
    for n, each in enumerate(winners):
        each.shock(0.2 + n / 10)

    # breakers of a symbol: errors in a row, protection lost, a difference to the exchange; then that of all
    errors, lost, differs, other = [scene() for _ in range(4)]
    errors.fault("POST order", "refuse-2019", count=3)
    for _ in range(3):
        errors.enter()
    tripped(errors, "EXECUTION_ERRORS")
    lost.opened()
    lost.tell("autoclose", symbol=lost.symbol, quantity="1.00", by="LIQUIDATION")
    lost.flat()
    tripped(lost, "PROTECTION_LOST")
    differs.fault("ORDER_TRADE_UPDATE", "event-drop", count=2)
    differs.trade("BUY", "1.00")
    differs.must(lambda: bool(differs.said(topics.TRADE_POSITIONS)), "it is found out")
    differs.trade("SELL", "1.00")
    differs.flat()
    tripped(differs, "RECONCILIATION")
    Asked(street, other).approved()  # one symbol's breaker holds that symbol only
    other.must(lambda: bool(other.nets), "it opens")
    policy(street, **{"breaker.symbols": 3})
    other.must(lambda: "SYMBOLS_OPEN" in [b["reason"] for b in street.said(topics.BREAKER_STATES, "*")], "the breaker of all")
    asker.refused("BREAKER_OPEN", "of all symbols")
    other.close()
    other.flat()

    # a drawdown closes losers, then the worst until half is gone; a later one, all that loses: flat
    policy(street, **{"breaker.symbols": 1000, "emergency.daily_drawdown": AT_ONCE})
    loser.shock(-1.5)
    sounded("DAILY_DRAWDOWN")
    for each in (loser, winners[0]):
        each.flat()
        each.left_for("EMERGENCY_STOP")
    assert all(each.net and each.nets for each in winners[1:]), "half of it stays, protected"
    for each in winners[1:]:
        each.shock(-1)
    for each in winners[1:]:
        each.must(lambda e=each: e.mark < 100, "it loses")  # type: ignore[misc]
    policy(street, **{"emergency.daily_drawdown": NEVER, "emergency.weekly_drawdown": AT_ONCE})
    sounded("WEEKLY_DRAWDOWN")
    for each in winners[1:]:
        each.flat()
        each.left_for("EMERGENCY_STOP")
    policy(street, **{"emergency.weekly_drawdown": NEVER, "emergency.remedies": [], "emergency.brake": AT_ONCE})
    sounded("EMERGENCY_BRAKE")

    # orders that fail, a feed that is silent, a worker that hangs, a person
    policy(street, **{"emergency.brake": NEVER, "emergency.errors_in_a_row": 5})
    failing, held = [scene() for _ in range(2)], [scene() for _ in range(2)]
    for each in (*failing, *held):
        each.trade("BUY", "1.00")
        each.must(lambda e=each: bool(e.nets) and e.laddered == 1, "what another hand opens is protected, stopped or not", 60)  # type: ignore[misc]
    for each in failing:
        each.fault("POST order", "refuse-2019", for_s=60)
        each.close()
    sounded("EXECUTION_ERRORS")
    street.control("DELETE", "faults")
    for each in failing:
        each.flat(60)
    policy(street, **{"emergency.errors_in_a_row": 1000, "emergency.feed_silent_s": 2})
    street.control("POST", "pause")
    asker.scene.must(lambda: "FEED_SILENT" in alarms(street), "alarm FEED_SILENT", 60)
    street.control("POST", "resume")
    sounded("FEED_SILENT")
    policy(street, **{"emergency.feed_silent_s": 300, "emergency.health_silent_s": 10, "emergency.vital": ["positions"]})
    positions = street.worker("positions")
    positions.freeze()
    asker.scene.must(lambda: "SYSTEM_HEALTH" in alarms(street), "alarm SYSTEM_HEALTH", 60)
    positions.thaw()
    sounded("SYSTEM_HEALTH")
    policy(street, **{"emergency.health_silent_s": 120})
    assert stop(street.person, "a test")["log"] is True
    sounded("MANUAL")
    street.boss.stop_file.unlink()  # the log alone holds from here on

    street.fall()
    street.rise()
    asker.refused("EMERGENCY_STOP", *ALARMS)
    for each in held:
        each.close()
    for each in held:
        each.flat(60)
    assert not resume(street.person, "let me")["accepted"]
    assert not reset(street.person, "*", "let me", override=True)["accepted"]
    asker.refused("EMERGENCY_STOP", *ALARMS)
    back = resume(street.boss, "it was a test")
    assert (back["accepted"], back["stopped"]) == (True, False), back

    # the breakers have survived too; they end by the token, on trial
    asker.refused("BREAKER_OPEN", "of all symbols")
    phases = {row["scope"]: row["phase"] for row in status(street.person)["breakers"]}
    scopes = ("*", errors.instrument, lost.instrument, differs.instrument)
    assert [phases[scope] for scope in scopes] == ["OPEN"] * len(scopes), phases
    assert reset(street.boss, "*", "try", override=False)["accepted"]
    errors.fault("POST order", "refuse-2019")
    Asked(street, errors).approved()
    tripped(errors, "TRIAL_FAILED")
    Asked(street, lost).approved()
    lost.must(lambda: lost.said(topics.BREAKER_STATES)[-1]["reason"] == "TRIAL_PASSED", "the trial passes")
    say(f"{len(ALARMS)} alarms and 5 breakers: tripped, held, outlived everything, lifted by the token alone")
