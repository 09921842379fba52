"""Which version decides: what is refused and why, from which candle on another decides, and what is left when nothing verifies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from infra.errors import UserError
from infra.settings import Settings
from processors import serving, signals
from processors.features.catalogue import FEATURE_SET, NAMES, feature_hash
from processors.serving import Drift, Refusal, Serving
from processors.signals import MODEL, Heard, State
from processors.step import Context
from schemas import hot
from schemas.ids import partition_of
from schemas.models import BUILT_IN, ModelSwitch, ModelVersion
from schemas.policy import Policy
from schemas.signals import DecisionReason, Wish
from streams import model_commands
from streams.served import warm
from streams.serving import Server, verify

KEY = "local-model-key"
BAR = 300_000
BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
MakeVersion = Callable[..., Path]


def pointers(number: int, active: str, shadow: str | None = None, previous: str | None = None) -> ModelVersion:
    return ModelVersion(
        event_id=f"v{number}", at=1, number=number, active=active, previous=previous, shadow=shadow, reason="", actor="anna"
    )


class Desk:
    """A signals worker without its log: states by key, and the server."""

    def __init__(self, settings: Settings) -> None:
        self.server = Server(settings)
        self.states: dict[str, State] = {}
        self.said: list[Any] = []

    async def take(self, event: Any, keys: Sequence[str]) -> list[Any]:
        await self.server.prepare(event, self.states)
        out: list[Any] = []
        changed = {}
        for key in keys:
            ctx = Context("", 0, 0, Policy(), 0, "sim", dict(self.states), "", key)
            state, events = signals.step(self.states.get(key), event, ctx, self.server.heard)
            if state is not None:
                changed[key] = msgspec.json.decode(msgspec.json.encode(state), type=State)
            out += events
        self.states |= changed
        self.said += out
        return out

    async def point(self, version: ModelVersion) -> list[ModelSwitch]:
        return await self.take(version, (MODEL,))

    async def candle(self, n: int, *instruments: str) -> list[Wish]:
        found: list[Any] = []
        for instrument in instruments or (BTC, ETH):
            await self.take(vector(n, instrument), (instrument,))
            barrier = hot.Barrier(f"b{n}", "market.barrier", (n + 1) * BAR, partition_of(instrument), "5m")
            found += await self.take(barrier, (instrument,))
        return [event for event in found if isinstance(event, Wish)]


def vector(n: int, instrument: str) -> hot.Features:
    return hot.Features(
        event_id=f"{instrument}-{n}",
        type="market.features",
        at=(n + 1) * BAR,
        instrument=instrument,
        interval="5m",
        candle_id="c",
        open_at=n * BAR,
        o=1.0,
        h=1.0,
        l=1.0,
        c=1.0,
        v=1.0,
        feature_set=FEATURE_SET,
        feature_hash=feature_hash(),
        ready=True,
        bars=700,
        values=[0.0] * len(NAMES),
        source="synthetic",
    )


def by(decisions: Sequence[Wish]) -> set[str | None]:
    return {decision.model_version for decision in decisions}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_registry=tmp_path)


@pytest.fixture
def desk(settings: Settings) -> Desk:
    return Desk(settings)


def flip(path: Path, at: int = -1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(bytes(raw))


def spoil_graph(where: Path) -> None:
    flip(where / "ensemble.onnx")


def spoil_golden(where: Path) -> None:
    flip(where / "golden.npz", 100)


def spoil_manifest(where: Path) -> None:
    text = (where / "manifest.json").read_text()
    (where / "manifest.json").write_text(text.replace('"horizon_bars": 12', '"horizon_bars": 13'))


def lose(where: Path) -> None:
    (where / "fast.onnx").unlink()


SPOILT: list[tuple[str, dict[str, Any], Callable[[Path], None] | None, str]] = [
    ("tampered bytes", {}, spoil_graph, "WRONG_HASH"),
    ("tampered golden rows", {}, spoil_golden, "WRONG_HASH"),
    ("a changed manifest", {}, spoil_manifest, "UNSIGNED"),
    ("another key", {"key": "another key"}, None, "UNSIGNED"),
    ("other features", {"feature_hash": "0123456789abcdef"}, None, "OTHER_FEATURES"),
    ("failed golden rows", {"forged": True}, None, "OTHER_ANSWERS"),
    ("a lost file", {}, lose, "MISSING"),
    ("weights that are not its members'", {"calibration": {"ensemble": {"members": ["a"], "weights": []}}}, None, "UNREADABLE"),
]


@pytest.mark.parametrize(("made", "spoil", "reason"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
async def test_what_is_not_what_it_claims_is_refused_and_the_old_one_serves(
    desk: Desk,
    settings: Settings,
    make_version: MakeVersion,
    made: dict[str, Any],
    spoil: Callable[[Path], None] | None,
    reason: str,
) -> None:
    make_version(settings.model_registry, "m-good", p_up=0.9, key=KEY)
    where = make_version(settings.model_registry, "m-bad", **({"p_up": 0.1, "key": KEY} | made))
    if spoil is not None:
        spoil(where)
    assert verify("m-good", settings) is None
    refusal = verify("m-bad", settings)
    assert refusal is not None
    assert refusal.reason == reason

    await desk.point(pointers(1, "m-good"))
    (switch,) = await desk.point(pointers(2, "m-bad"))
    assert (switch.outcome, switch.version, switch.active, switch.reason) == ("REFUSED", "m-bad", "m-good", reason)
    assert switch.detail
    assert by(await desk.candle(1)) == {"m-good"}


@pytest.mark.parametrize("name", ["m-none", "../m-good", "", "a/b"])
def test_a_name_that_is_no_version_is_refused(settings: Settings, name: str) -> None:
    refusal = verify(name, settings)
    assert refusal is not None
    assert refusal.reason == "MISSING"


async def test_a_version_under_another_name_is_refused(settings: Settings, make_version: MakeVersion) -> None:
    make_version(settings.model_registry, "m-good", p_up=0.9, key=KEY).rename(settings.model_registry / "m-better")
    refusal = verify("m-better", settings)
    assert refusal is not None
    assert "holds version m-good" in refusal.detail


def test_people_are_told_what_is_there_and_what_is_wrong(settings: Settings, make_version: MakeVersion) -> None:
    here = Settings(model_registry=settings.model_registry, kafka_bootstrap="127.0.0.1:9")
    where = make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    found = model_commands.versions(here)
    assert [(row["version"], row["roles"]) for row in found["versions"]] == [(BUILT_IN, ["serving", "active"]), ("m-a", [])]
    assert model_commands.verified(here, "m-a")["verified"]
    assert model_commands.told(here, "m-a")["version"] == "m-a"
    flip(where / "fast.onnx")
    for ask, word in ((model_commands.verified, "WRONG_HASH"), (model_commands.told, "no version")):
        with pytest.raises(UserError, match=word) as caught:
            ask(here, "m-a" if ask is model_commands.verified else "m-b")
        assert caught.value.why
        assert caught.value.do


async def test_a_version_is_compared_with_the_one_before_it_and_keeps_what_was_said_of_it(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    shares = {"m-a": {"ret_12": 0.7, "hv_50": 0.3}, "m-b": {"ret_12": 0.2, "vpt_20": 0.8}, "m-c": {"ret_12": 0.2, "vpt_20": 0.8}}
    for name in shares:
        make_version(settings.model_registry, name, p_up=0.9, key=KEY, importance=shares[name])
    make_version(settings.model_registry, "m-old", p_up=0.9, key=KEY)
    told = []
    for number, name in enumerate(["m-a", "m-b", "m-a", "m-b", "m-c", "m-old", "m-a", BUILT_IN], 1):
        (switch,) = await desk.point(pointers(number, name))
        wishes = await desk.candle(number)
        if name != BUILT_IN:
            assert {wish.importance_drift for wish in wishes} == {switch.importance_drift}, (
                "every decision carries what may block it"
            )
        told.append((name, switch.importance_drift))
        metrics = CollectorRegistry(auto_describe=False)
        metrics.register(desk.server)
        said = metrics.get_sample_value("qt_model_importance_drift", {"version": name})
        assert said == switch.importance_drift, "absent where nothing was judged"
        if name == "m-b":
            assert switch.importance_detail == "0.800 against m-a: vpt_20 +0.800, ret_12 -0.500, hv_50 -0.300"
        if switch.importance_drift is None:
            assert "not judged" in switch.importance_detail
    assert told == [
        ("m-a", None),  # the built-in version tells no importance
        ("m-b", 0.8),
        ("m-a", None),  # a rollback is no news about what one goes back to
        ("m-b", 0.8),
        ("m-c", 0.0),  # two in a row that agree
        ("m-old", None),
        ("m-a", None),
        (BUILT_IN, None),
    ]


async def test_a_replay_without_the_registry_takes_the_drift_that_was_told(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    for name, share in (("m-a", 1.0), ("m-b", 0.4)):
        make_version(settings.model_registry, name, p_up=0.9, key=KEY, importance={"ret_12": share, "hv_50": 1 - share})
    versions = [pointers(1, "m-a"), pointers(2, "m-b"), pointers(3, "m-a"), pointers(4, "m-b")]
    said = [(await desk.point(version))[0] for version in versions]
    state: State | None = None
    for version, switch in zip(versions, said, strict=True):
        heard = Heard({}, {}, {switch.active: Drift(switch.importance_drift, switch.importance_detail)})
        ctx = Context("", 0, 0, Policy(), 0, "sim", {}, "", MODEL)
        state, (again,) = signals.step(state, version, ctx, heard)
        assert again.encode() == switch.encode()
    assert state == desk.states[MODEL]


def test_people_are_told_the_drift_before_they_promote(settings: Settings, make_version: MakeVersion) -> None:
    make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY, importance={"ret_12": 1.0})
    found = model_commands.told(Settings(model_registry=settings.model_registry, kafka_bootstrap="127.0.0.1:9"), "m-a")
    assert found["importance"] == {"ret_12": 1.0}
    detail = "not judged: built-in tells no importance of features"
    assert found["importance_drift"] == {"share": None, "detail": detail, "serving_from": None}


SHARES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1).map(
    lambda parts: {name: part / sum(parts.values()) for name, part in parts.items()}
)


@given(SHARES, SHARES, SHARES)
def test_drift_is_a_distance_from_nought_to_one(a: dict[str, float], b: dict[str, float], c: dict[str, float]) -> None:
    def apart(x: dict[str, float], y: dict[str, float]) -> float:
        share = serving.drift("x", x, "y", y).share
        assert share is not None
        return share

    assert apart(a, a) == 0.0
    assert 0.0 <= apart(a, b) == apart(b, a) <= 1.0
    assert apart(a, c) <= apart(a, b) + apart(b, c) + 1e-5
    assert apart(a, {"z": 1.0}) == 1.0


async def test_a_mended_version_is_looked_at_again(desk: Desk, settings: Settings, make_version: MakeVersion) -> None:
    where = make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    flip(where / "ensemble.onnx")
    (switch,) = await desk.point(pointers(1, "m-a"))
    assert switch.outcome == "REFUSED"
    flip(where / "ensemble.onnx")
    (switch,) = await desk.point(pointers(2, "m-a"))
    assert (switch.outcome, switch.active) == ("SERVING", "m-a")


async def test_without_anything_that_verifies_nobody_decides(tmp_path: Path) -> None:
    desk = Desk(Settings(model_registry=tmp_path, model_dir=tmp_path / "nowhere"))
    for number in range(2):
        (decision, _) = await desk.candle(number)
        assert decision.reason is DecisionReason.MODEL_UNAVAILABLE
        assert "MISSING" in decision.detail
        await desk.point(pointers(number + 1, "m-none"))
    assert not any(isinstance(event, hot.Prediction) for event in desk.said)


async def test_a_candle_is_decided_by_one_version_though_partitions_are_not_equally_far(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    for name, p_up in (("m-a", 0.9), ("m-b", 0.1)):
        make_version(settings.model_registry, name, p_up=p_up, key=KEY)
    await desk.point(pointers(1, "m-a"))
    assert by(await desk.candle(1)) == {"m-a"}
    early = await desk.candle(2, BTC)
    (switch,) = await desk.point(pointers(2, "m-b", previous="m-a"))
    assert (switch.before, switch.active, switch.from_at) == ("m-a", "m-b", 3 * BAR + 1)
    late = await desk.candle(2, ETH)
    assert by(early) == by(late) == {"m-a"}
    assert by(await desk.candle(3)) == {"m-b"}


async def test_a_rollback_loads_nothing(desk: Desk, settings: Settings, make_version: MakeVersion) -> None:
    for name, p_up in (("m-a", 0.9), ("m-b", 0.1)):
        make_version(settings.model_registry, name, p_up=p_up, key=KEY)
    await desk.point(pointers(1, "m-a"))
    await desk.point(pointers(2, "m-b", previous="m-a"))
    for name in ("m-a", "m-b"):
        (settings.model_registry / name / "manifest.json").unlink()
    for number, name, other in ((3, "m-a", "m-b"), (4, "m-b", "m-a")):
        await desk.point(pointers(number, name, previous=other))
        assert by(await desk.candle(number)) == {name}


async def test_after_a_restart_the_version_of_the_log_serves_and_a_spoilt_one_gives_way(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    for name, p_up in (("m-a", 0.9), ("m-b", 0.1)):
        make_version(settings.model_registry, name, p_up=p_up, key=KEY)
    await desk.point(pointers(1, "m-a"))
    await desk.point(pointers(2, "m-b", previous="m-a"))
    await desk.candle(1)
    for spoilt, name in ((False, "m-b"), (True, "m-a")):
        again = Desk(settings)
        again.states = dict(desk.states)
        if spoilt:
            flip(settings.model_registry / "m-b" / "ensemble.onnx")
        assert by(await again.candle(2)) == {name}


class Log:
    """What the server says beside its stage."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def send_now(self, event: Any, cause: Any = None) -> None:
        self.said.append(event)

    async def prove_ownership(self, partition: int) -> None: ...

    def policy(self) -> tuple[int, Policy]:
        return 0, Policy()


async def test_a_version_that_is_gone_at_a_restart_is_told_and_decides_again_when_it_is_back(
    desk: Desk, settings: Settings, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, p_up in (("m-a", 0.9), ("m-b", 0.1)):
        make_version(settings.model_registry, name, p_up=p_up, key=KEY)
    await desk.point(pointers(1, "m-a"))
    await desk.point(pointers(2, "m-b", previous="m-a"))
    await desk.candle(1)
    home, away = settings.model_registry / "m-b", settings.model_registry / ".away"
    home.rename(away)
    monkeypatch.setattr("streams.serving.RETRY_S", -1.0)

    again, log = Desk(settings), Log()
    again.server = Server(settings, last_told=lambda bootstrap: "m-b")
    again.server.attach(log)
    again.states = dict(desk.states)
    assert by(await again.candle(2)) == by(await again.candle(3)) == {"m-a"}
    (gone,) = log.said
    assert (gone.outcome, gone.version, gone.active, gone.from_at, gone.reason) == ("REFUSED", "m-b", "m-a", 3 * BAR, "MISSING")
    assert "m-a decides instead of m-b" in again.server.notes()[0]

    early = await again.candle(4, BTC)
    away.rename(home)
    late = await again.candle(4, ETH)
    assert by(early) == by(late) == {"m-a"}, "a candle is decided by one version"
    assert by(await again.candle(5)) == {"m-b"}
    back = log.said[-1]
    assert (len(log.said), back.outcome, back.version, back.active, back.from_at) == (2, "SERVING", "m-b", "m-b", 6 * BAR)
    assert again.server.notes() == []

    third, log = Desk(settings), Log()
    third.server = Server(settings, last_told=lambda bootstrap: "m-b")
    third.server.attach(log)
    third.states = dict(again.states)
    await third.candle(6)
    assert log.said == [], "a restart that changes nothing says nothing"


async def test_a_refused_version_serves_when_it_is_promoted_again(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    where = make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    other = where.rename(settings.model_registry / ".away")
    refused, _ = await desk.point(pointers(1, "m-a")), await desk.candle(1)
    assert refused[0].outcome == "REFUSED"
    other.rename(where)
    (switch,) = await desk.point(pointers(2, "m-a"))
    assert (switch.outcome, switch.active) == ("SERVING", "m-a")
    assert by(await desk.candle(2)) == {"m-a"}


async def test_a_shadow_scores_beside_what_serves(desk: Desk, settings: Settings, make_version: MakeVersion) -> None:
    make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    make_version(settings.model_registry, "m-b", p_up=0.1, key="another key")
    (switch,) = await desk.point(pointers(1, BUILT_IN, shadow="m-a"))
    assert (switch.active, switch.shadow) == (BUILT_IN, "m-a")
    await desk.candle(1, BTC)
    served, shadow = [event for event in desk.said if isinstance(event, hot.Prediction)]
    assert (served.shadow, shadow.shadow, shadow.model_version, shadow.trees_only) == (False, True, "m-a", True)
    assert shadow.latency_us > 0
    refused, switch = await desk.point(pointers(2, BUILT_IN, shadow="m-b"))
    assert (refused.outcome, refused.version, switch.shadow) == ("REFUSED", "m-b", None)


async def test_metrics_tell_what_is_held_what_answered_and_what_was_refused(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    for name in ("m-a", "m-b"):
        make_version(settings.model_registry, name, p_up=0.9, key=KEY)
    await desk.point(pointers(1, "m-a", shadow="m-b"))
    await desk.point(pointers(2, "m-none", shadow="m-b", previous="m-a"))
    await desk.candle(1)
    metrics = CollectorRegistry()
    metrics.register(desk.server)
    text = generate_latest(metrics).decode()
    for line in (
        'qt_model_info{role="active",version="m-a"} 1.0',
        'qt_model_info{role="shadow",version="m-b"} 1.0',
        'qt_model_predictions_total{version="m-a"} 2.0',
        'qt_model_refused_total{reason="MISSING"} 1.0',
        "qt_model_latency_seconds_count 4.0",
    ):
        assert line in text, text


async def test_the_event_loop_lives_while_versions_load(
    desk: Desk, settings: Settings, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    monkeypatch.setattr("streams.serving.warm", lambda served: (time.sleep(0.2), warm(served))[1])  # a large one
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.0)

    beating = asyncio.create_task(beat())
    await desk.point(pointers(1, "m-a"))
    beating.cancel()
    assert beats > 10


def test_the_pure_fold_of_pointers() -> None:
    state = Serving()
    assert state.deciding(0) == (BUILT_IN,)
    state, events = serving.point(state, pointers(1, "a"), 10, {})
    assert [event.outcome for event in events] == ["SERVING"]
    assert (state.deciding(10), state.deciding(11)) == ((BUILT_IN,), ("a", BUILT_IN))
    assert serving.point(state, pointers(1, "b"), 20, {}) == (state, ())
    state, _ = serving.point(state, pointers(2, "b"), 20, {})
    state, _ = serving.point(state, pointers(3, "c"), 20, {})
    assert [state.deciding(at)[0] for at in (10, 20, 21)] == [BUILT_IN, "a", "c"], "what never decided a candle never does"
    state, events = serving.point(state, pointers(4, "d"), 30, {"d": Refusal("UNSIGNED", "by nobody")})
    assert (state.active, state.number, events[0].reason) == ("c", 4, "UNSIGNED")
    for number in range(5, 40):
        state, _ = serving.point(state, pointers(number, f"v{number}"), number * 10, {})
    assert len(state.switches) == serving.KEPT
    assert state.wanted == ("v39", "v38")


async def test_trees_speak_of_a_candle_that_forms_now_and_then_and_decide_nothing(
    desk: Desk, settings: Settings, make_version: MakeVersion
) -> None:
    """Whatever is loaded is asked, every ten seconds of market time and instrument."""

    async def peeks(n: int) -> list[hot.Prediction]:
        found: list[Any] = []
        for at in range(0, 40_000, 2_500):
            before = dict(desk.states)
            found += await desk.take(peek(n, BTC, at), (BTC,))
            assert desk.states == before
        return found

    assert await desk.take(peek(1, BTC, 0), (BTC,)) == [], "nothing is loaded, and a peek loads nothing"
    desk.server.preload(BUILT_IN)
    await desk.candle(1)
    (seed,) = {said.model_version for said in await peeks(2)}
    make_version(settings.model_registry, "m-a", p_up=0.9, key=KEY)
    await desk.point(pointers(1, "m-a"))
    said = await peeks(3)
    assert [one.at - 4 * BAR for one in said] == [0, 10_000, 20_000, 30_000]
    assert {(one.model_version, one.forming, one.trees_only, round(one.p_up, 4)) for one in said} == {("m-a", True, True, 0.9)}
    assert seed != "m-a"
    (decision,) = await desk.candle(3, BTC)
    assert decision.candle_at == 4 * BAR


def peek(n: int, instrument: str, ms: int) -> hot.Peek:
    at, prices = (n + 1) * BAR + ms, (1.0,) * 5
    hash_, values = feature_hash(), [0.0] * len(NAMES)
    return hot.Peek(
        f"peek-{n}-{ms}", "market.peek", at, instrument, "5m", (n + 1) * BAR, *prices, FEATURE_SET, hash_, 700, values, "synthetic"
    )
