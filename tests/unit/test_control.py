"""Commands of people and what becomes of them."""

from __future__ import annotations

import json
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from processors import control
from processors.serving import Refusal
from processors.step import Context
from schemas.models import BUILT_IN, ModelVersion
from schemas.operations import Audit, Command, CommandKind, PolicyVersion
from schemas.policy import Policy
from schemas.signals import Strategy
from schemas.signing import canonical, holds, signed
from streams.control import signature_check

CTX = Context("control.commands", 0, 0, Policy(), 0, "sim", {})


class Office:
    def __init__(self) -> None:
        self.state: control.State | None = None
        self.count = 0

    def take(self, command: Command, token: str = "") -> list[Any]:
        result = control.step(self.state, command, CTX, signed=signature_check(token))
        self.state = msgspec.json.decode(msgspec.json.encode(result.state), type=control.State)
        return list(result.events)

    def set(self, expected: int | None = None, **fields: Any) -> list[Any]:
        wanted = {name.replace("__", "."): value for name, value in fields.items()}
        return self.ask(CommandKind.POLICY_SET, {"set": wanted}, expected)

    def ask(self, kind: CommandKind, body: Any, expected: int | None = None) -> list[Any]:
        self.count += 1
        text = body if isinstance(body, str) else json.dumps(body)
        command = Command(
            event_id=f"c{self.count}", at=5, kind=kind, actor="anna", reason="why not", body=text, expected_version=expected
        )
        return self.take(command)


def refusal(events: list[Any]) -> str:
    (audit,) = events
    assert isinstance(audit, Audit)
    assert not audit.accepted
    return audit.detail


def test_a_change_becomes_the_next_version_and_is_audited() -> None:
    version, audit = Office().set(risk__leverage=2, exits__stop_distance="0.02")
    assert isinstance(version, PolicyVersion)
    assert (version.version, version.changed) == (1, ["exits.stop_distance", "risk.leverage"])
    assert (version.policy.risk.leverage, version.policy.exits.stop_distance) == (2, D("0.02"))
    assert version.policy.risk.margin_min == Policy().risk.margin_min, "the rest stays"
    assert version.digest == version.policy.digest
    assert (audit.accepted, audit.policy_version, audit.actor) == (True, 1, "anna")


def test_numbers_may_come_as_text_and_lists_as_lists() -> None:
    version, _ = Office().set(risk__confidence_min="0.65", models__strategies=["model", "scripted"])
    assert version.policy.risk.confidence_min == 0.65
    assert version.policy.models.strategies == [Strategy.MODEL, Strategy.SCRIPTED]


def test_whole_sections_can_be_set_at_once() -> None:
    office = Office()
    events = office.ask(CommandKind.POLICY_SET, {"set": Policy(name="tests").model_dump(mode="json")})
    assert events[0].changed == ["name"]


def test_who_saw_another_version_is_refused() -> None:
    office = Office()
    office.set(expected=0, risk__leverage=2)
    assert "at version 1, you saw 0" in refusal(office.set(expected=0, risk__leverage=5))
    assert office.set(expected=1, risk__leverage=5)[0].version == 2


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"set": {"risk.lever": 2}}, "no field 'risk.lever'"),
        ({"set": {"risk.lever": 2}}, "risk has margin_share, "),
        ({"set": {"unheard.lever": 2}}, "it has name, universe, "),
        ({"set": {"stop_distance": 2}}, "did you mean exits.stop_distance?"),
        ({"set": {"exits.stop_distance.deep": 2}}, "no field"),
        ({"set": {"risk.leverage": 25}}, "liquidates before the stop"),
        ({"set": {"risk.leverage": "many"}}, "risk.leverage"),
        ({"set": {"exits": {"unheard": 1}}}, "exits.unheard"),
        ({"set": {}}, "nothing to set"),
        ("{", "no JSON"),
        ("[]", "no JSON object"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused_with_the_reason(body: Any, word: str) -> None:
    office = Office()
    assert word in refusal(office.ask(CommandKind.POLICY_SET, body))
    assert control.current(office.state or control.State()) == (0, Policy())


def test_a_change_that_changes_nothing_makes_no_version() -> None:
    (audit,) = Office().set(risk__leverage=3)
    assert audit.accepted


def test_a_command_that_comes_twice_counts_once() -> None:
    office = Office()
    office.set(risk__leverage=2)
    office.count -= 1
    assert office.set(risk__leverage=2) == []


def test_rolling_back_is_a_new_version_of_an_old_policy() -> None:
    office = Office()
    office.set(risk__leverage=2)
    office.set(risk__leverage=4)
    version, _ = office.ask(CommandKind.POLICY_ROLLBACK, {"version": 1})
    assert (version.version, version.policy.risk.leverage) == (3, 2)
    default, _ = office.ask(CommandKind.POLICY_ROLLBACK, {"version": 0})
    assert (default.version, default.policy) == (4, Policy())
    assert "version 99" in refusal(office.ask(CommandKind.POLICY_ROLLBACK, {"version": 99}))


def test_closing_is_audited_and_left_to_exits() -> None:
    office = Office()
    for name in ("binance.usdm.BTCUSDT", "*"):
        (audit,) = office.ask(CommandKind.CLOSE, {"instrument": name})
        assert audit.accepted
    assert "BTCUSDT" in refusal(office.ask(CommandKind.CLOSE, {"instrument": "BTCUSDT"}))


def test_history_is_bounded() -> None:
    office = Office()
    for n in range(control.HISTORY + 5):
        office.set(risk__cool_down_s=1000 + n)
    assert office.state is not None
    assert len(office.state.versions) == control.HISTORY
    assert control.current(office.state)[0] == control.HISTORY + 5


class Registry(Office):
    """`bad`: versions that do not verify."""

    def __init__(self, *bad: str) -> None:
        super().__init__()
        self.refused = {name: Refusal("WRONG_HASH", "other bytes") for name in bad}

    def take(self, command: Command) -> list[Any]:
        result = control.step(self.state, command, CTX, self.refused)
        self.state = msgspec.json.decode(msgspec.json.encode(result.state), type=control.State)
        return list(result.events)

    def move(self, kind: str, version: str | None = None, expected: int | None = None) -> list[Any]:
        return self.ask(CommandKind(f"MODEL_{kind}"), {"version": version}, expected)


def where(events: list[Any]) -> tuple[int, str, str | None, str | None]:
    version, audit = events
    assert isinstance(version, ModelVersion)
    assert audit.accepted
    return version.number, version.active, version.previous, version.shadow


def test_pointers_go_forward_and_back() -> None:
    registry = Registry()
    assert where(registry.move("PROMOTE", "a")) == (1, "a", BUILT_IN, None)
    assert where(registry.move("SHADOW", "b")) == (2, "a", BUILT_IN, "b")
    assert where(registry.move("PROMOTE", "b")) == (3, "b", "a", None)
    assert where(registry.move("ROLLBACK")) == (4, "a", "b", None)
    assert where(registry.move("ROLLBACK")) == (5, "b", "a", None)
    assert where(registry.move("SHADOW", "c")) == (6, "b", "a", "c")
    assert where(registry.move("SHADOW", None)) == (7, "b", "a", None)
    (audit,) = registry.move("SHADOW", None)
    assert audit.accepted
    assert audit.detail == control.ALREADY


def test_a_version_that_is_pointed_at_again_is_looked_at_again() -> None:
    registry = Registry()
    registry.move("PROMOTE", "a")
    assert where(registry.move("PROMOTE", "a")) == (2, "a", BUILT_IN, None), "it was refused where it serves, and is mended"
    registry.move("SHADOW", "b")
    assert where(registry.move("SHADOW", "b")) == (4, "a", BUILT_IN, "b")


def test_a_rollback_onto_the_shadow_leaves_no_shadow() -> None:
    registry = Registry()
    for kind, name in (("PROMOTE", "a"), ("PROMOTE", "b"), ("SHADOW", "a")):
        registry.move(kind, name)
    assert where(registry.move("ROLLBACK")) == (4, "a", "b", None)


def test_pointers_that_cannot_move_stay_with_the_reason() -> None:
    registry = Registry("spoilt")
    assert "nothing served before built-in" in refusal(registry.move("ROLLBACK"))
    assert "spoilt does not verify: WRONG_HASH: other bytes; built-in goes on" in refusal(registry.move("PROMOTE", "spoilt"))
    assert "does not verify" in refusal(registry.move("SHADOW", "spoilt"))
    assert "serves already" in refusal(registry.move("SHADOW", BUILT_IN))
    assert "no version" in refusal(registry.move("PROMOTE", None))
    assert "at version 0, you saw 3" in refusal(registry.move("PROMOTE", "a", expected=3))
    assert registry.state is not None
    assert registry.state.models.number == 0


TOKEN = "a-token-of-enough-characters"
SIGNED = [CommandKind.RESUME, CommandKind.BREAKER_RESET, CommandKind.BREAKER_OVERRIDE]


def wish(kind: CommandKind, n: int = 1, at: int = 5, reason: str = "mended", scope: str = "*") -> Command:
    return Command(event_id=f"w{n}", at=at, kind=kind, actor="anna", reason=reason, body=json.dumps({"scope": scope}))


def test_anyone_may_stop() -> None:
    (audit,) = Office().take(wish(CommandKind.STOP, reason=""))
    assert audit.accepted


@pytest.mark.parametrize("kind", SIGNED)
def test_what_opens_entries_again_wants_the_administrators_signature_and_is_audited_either_way(kind: CommandKind) -> None:
    office = Office()
    (audit,) = office.take(signed(wish(kind), TOKEN), TOKEN)
    assert (audit.accepted, audit.detail, json.loads(audit.body)) == (True, "mended", {"scope": "*"})
    assert "set QT_ADMIN_TOKEN and" in refusal(office.take(wish(kind, 2), TOKEN))
    assert "not of the administrator's token" in refusal(office.take(signed(wish(kind, 3), TOKEN + "!"), TOKEN))
    assert "no administrator's token is set" in refusal(office.take(signed(wish(kind, 4), TOKEN)))
    assert "say why" in refusal(office.take(signed(wish(kind, 5, reason=" "), TOKEN), TOKEN))


def test_a_signature_is_good_for_its_command_alone_and_holds_no_token() -> None:
    one = signed(wish(CommandKind.BREAKER_RESET, scope="binance.usdm.BTCUSDT"), TOKEN)
    assert holds(one, TOKEN)
    assert TOKEN.encode() not in one.encode() + canonical(one)
    for change in ({"event_id": "other"}, {"at": 6}, {"body": "{}"}, {"kind": CommandKind.RESUME}, {"actor": "b"}, {"reason": "x"}):
        assert not holds(one.model_copy(update=change), TOKEN), change
    assert not holds(one.model_copy(update={"signature": ""}), "")
    with pytest.raises(ValueError, match="at least 16"):
        signed(one, "short")


def test_a_signed_command_that_is_written_again_much_later_is_refused() -> None:
    office = Office()
    old = signed(wish(CommandKind.RESUME), TOKEN)
    office.take(old, TOKEN)
    for n in range(2, 80):
        (audit,) = office.take(signed(wish(CommandKind.RESUME, n, at=5 + n), TOKEN), TOKEN)
        assert audit.accepted
    assert "an old one" in refusal(office.take(old, TOKEN))
    one_that_never_came = signed(wish(CommandKind.RESUME, 999, at=4), TOKEN)
    assert "an old one" in refusal(office.take(one_that_never_came, TOKEN))


def test_a_breaker_without_a_name_is_refused() -> None:
    nameless = signed(wish(CommandKind.BREAKER_RESET, scope="BTC"), TOKEN)
    assert "is no instrument" in refusal(Office().take(nameless, TOKEN))
