"""Rounds: who waits for whom, who comes first, what the model's own record forbids, and that the sequence alone decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from processors import supervisor
from processors.supervisor import State
from schemas import ids
from schemas.policy import Supervisor
from schemas.signals import (
    Action,
    Block,
    Decision,
    DecisionReason,
    Matured,
    Proposal,
    ProposalBarrier,
    Strategy,
    Supervision,
    SupervisorMode,
)
from schemas.units import Side, Source

BAR = 300_000
NAMES = [f"binance.usdm.{name}USDT" for name in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "BNB")]
HOMES = sorted({ids.partition_of(name) for name in NAMES})
BY_HOME = {home: [name for name in NAMES if ids.partition_of(name) == home] for home in HOMES}
POLICY = Supervisor()
LONG, SHORT = Action.LONG, Action.SHORT
Event = Proposal | ProposalBarrier


def wish(n: int, name: str, action: Action = LONG, edge: float | None = 0.002, confidence: float = 0.8, **more: Any) -> Proposal:
    return Proposal(
        **{
            "event_id": f"p-{name}-{n}",
            "at": n * BAR,
            "instrument": name,
            "strategy": Strategy.MODEL,
            "action": action,
            "reason": DecisionReason.CONFIDENT,
            "detail": "",
            "confidence": confidence,
            "reference_price": D(1),
            "features_id": f"f-{name}-{n}",
            "prediction_id": None,
            "model_version": "m-a",
            "candle_at": n * BAR,
            "policy_version": 0,
            "source": Source.SYNTHETIC,
            "edge": None if edge is None else edge * action.side.sign,
            "cost": None if edge is None else 0.001,
        }
        | more
    )


def barrier(n: int, home: int, *matured: Matured) -> ProposalBarrier:
    return ProposalBarrier(event_id=f"b-{home}-{n}", at=n * BAR, source_partition=home, matured=list(matured))


def candle(n: int, wishes: Sequence[Proposal], homes: Sequence[int] = HOMES) -> list[Event]:
    """Of all partitions: their proposals, and a barrier behind them."""
    return [
        event
        for home in homes
        for event in (*(one for one in wishes if ids.partition_of(one.instrument) == home), barrier(n, home))
    ]


def play(events: Sequence[Event], policy: Supervisor = POLICY, state: State | None = None) -> tuple[State, list[Any]]:
    """Through bytes at every step, as the store keeps it."""
    said: list[Any] = []
    for event in events:
        after, out = supervisor.step(state, event, policy)
        assert after is not None
        state = msgspec.json.decode(msgspec.json.encode(after), type=State)
        said += out
    assert state is not None
    return state, said


def decisions(said: Sequence[Any]) -> list[Decision]:
    return [event for event in said if isinstance(event, Decision)]


def supervisions(said: Sequence[Any]) -> list[Supervision]:
    return [event for event in said if isinstance(event, Supervision)]


WARM = [barrier(0, home) for home in HOMES]
"""After it every partition is known."""


def test_the_best_of_all_partitions_comes_first() -> None:
    edges = {name: 0.002 + 0.001 * (n * 3 % 8) for n, name in enumerate(NAMES)}
    wishes = [wish(1, name, SHORT if n % 2 else LONG, edges[name]) for n, name in enumerate(NAMES)]
    found = decisions(play([*WARM, *candle(1, wishes)])[1])
    assert [one.instrument for one in found] == sorted(NAMES, key=lambda name: -edges[name])
    assert [(one.rank, one.ranked) for one in found] == [(n, 8) for n in range(1, 9)]
    assert found[0].score == pytest.approx((0.009 - 0.001) * 0.8)
    assert {one.action for one in found} == {LONG, SHORT}


def test_without_an_edge_confidence_ranks_and_then_the_name() -> None:
    sure = wish(1, NAMES[5], edge=None, confidence=0.9)
    wishes = [*(wish(1, name, edge=None) for name in reversed(NAMES[:4])), sure, wish(1, NAMES[7], edge=0.0011, confidence=0.7)]
    found = decisions(play([*WARM, *candle(1, wishes)])[1])
    assert [one.instrument for one in found] == [NAMES[7], NAMES[5], *sorted(NAMES[:4])]


def test_a_round_waits_for_every_partition_of_the_round_before() -> None:
    first, *others = candle(1, [wish(1, name) for name in NAMES], HOMES[:1])
    state, said = play([*WARM, first, *others])
    assert decisions(said) == []
    for home in HOMES[1:-1]:
        state, said = play([barrier(1, home)], state=state)
        assert said == []
    state, said = play([barrier(1, HOMES[-1])], state=state)
    assert [one.instrument for one in decisions(said)] == BY_HOME[HOMES[0]]


def test_who_is_silent_holds_up_one_round_once() -> None:
    *speaking, silent = HOMES
    name, late = BY_HOME[speaking[0]][0], BY_HOME[silent][0]
    state, said = play([*WARM, *candle(1, [wish(1, name)], speaking)])
    assert decisions(said) == []
    state, said = play(candle(2, [wish(2, name)], speaking), state=state)
    assert [one.candle_at for one in decisions(said)] == [BAR, 2 * BAR], "the next candle ends the round, and waits for the living"
    state, said = play(candle(1, [wish(1, late)], [silent]), state=state)
    assert [(one.instrument, one.rank, one.ranked) for one in decisions(said)] == [(late, 1, 1)], "what comes late is not lost"
    state, said = play(candle(2, [wish(2, late)], [silent]), state=state)
    assert [one.instrument for one in decisions(said)] == [late]
    assert decisions(play(candle(3, [wish(3, late)], HOMES[:-1]), state=state)[1]) == [], "and then it is waited for again"


@pytest.mark.parametrize("side", [LONG, SHORT])
def test_fifteen_of_twenty_on_one_side_block_the_sixteenth(side: Action) -> None:
    other = SHORT if side is LONG else LONG
    rounds: list[Event] = list(WARM)
    for n, action in enumerate([other] * 5 + [side] * 15, 1):
        rounds += candle(n, [wish(n, NAMES[0], action)])
    state, said = play(rounds)
    assert not any(one.blocked for one in decisions(said))
    assert supervisions(said)[-2].biased is None, "14 of 20 are 70 %, not more"
    assert supervisions(said)[-1].biased == side.side
    both = candle(21, [wish(21, NAMES[0], side, 0.004), wish(21, NAMES[1], other, 0.003), wish(21, NAMES[2], side, 0.002)])
    state, said = play(both, state=state)
    first, second, third = decisions(said)
    assert (first.blocked, second.blocked, third.blocked) == (Block.BIAS, None, Block.BIAS)
    assert first.action is side, "it may close what stands against it"
    assert "16 of the last 20" not in first.detail
    assert "15 of the last 20" in first.detail
    assert state.blocked == {f"BIAS/{side}": 2}
    monitored = decisions(play(both, Supervisor(mode=SupervisorMode.MONITOR), play(rounds)[0])[1])
    assert [one.blocked for one in monitored] == [None] * 3


def test_a_window_that_is_not_full_or_another_versions_blocks_nobody() -> None:
    rounds = [*WARM, *(event for n in range(1, 20) for event in candle(n, [wish(n, NAMES[0])]))]
    state, said = play(rounds)
    assert not any(one.blocked for one in decisions(said))
    state, said = play(candle(20, [wish(20, NAMES[0])]), state=state)
    assert decisions(said)[0].blocked is None, "the twentieth is judged by nineteen"
    state, said = play(candle(21, [wish(21, NAMES[0], model_version="m-b"), wish(21, NAMES[1])]), state=state)
    assert {one.model_version: one.blocked for one in decisions(said)} == {"m-b": None, "m-a": None}
    scripted = wish(22, NAMES[0], strategy=Strategy.SCRIPTED, model_version=None)
    before = state.window
    state, said = play(candle(22, [scripted]), state=state)
    assert (decisions(said)[0].blocked, state.window) == (None, before), "the script is no model"


@pytest.mark.parametrize(("skill", "poor"), [(-1.0, True), (0.0, False), (1.0, False)])
def test_a_model_that_is_wrong_by_more_than_chance_opens_nothing(skill: float, poor: bool) -> None:
    policy, chance = Supervisor(quality_closes=96), random.Random(5)
    state, said = play(WARM)
    for n in range(1, 97):
        p_up, noise = chance.random(), chance.gauss(0, 0.3)
        matured = Matured(
            instrument=NAMES[0], model_version="m-a", made_at=0, bars=12, p_up=p_up, deviations=skill * (p_up - 0.5) + noise
        )
        state, said = play([barrier(n, HOMES[0], matured), *(barrier(n, home) for home in HOMES[1:])], policy, state)
        if n < 48:
            assert supervisions(said)[0].information_coefficient is None, "not enough to judge"
    seen = supervisions(said)[0]
    assert (seen.poor, seen.closes, seen.matured) == (poor, 96, 96)
    assert seen.information_coefficient == pytest.approx(skill * 0.69, abs=0.15)
    (entry,) = decisions(play(candle(97, [wish(97, NAMES[0])]), policy, state)[1])
    assert entry.blocked is (Block.QUALITY if poor else None)
    (other,) = decisions(play(candle(97, [wish(97, NAMES[0], model_version="m-b")]), policy, state)[1])
    assert other.blocked is None


def test_a_version_that_looks_elsewhere_than_the_one_before_it_opens_nothing_until_somebody_decides() -> None:
    moved = [wish(1, NAMES[0], LONG, 0.004, importance_drift=0.5), wish(1, NAMES[1], SHORT, 0.003, importance_drift=0.5)]
    scripted = wish(1, NAMES[2], strategy=Strategy.SCRIPTED, model_version=None)
    events = [*WARM, *candle(1, [*moved, scripted])]
    state, said = play(events)
    assert {one.strategy: one.blocked for one in decisions(said)} == {
        Strategy.MODEL: Block.IMPORTANCE_DRIFT,
        Strategy.SCRIPTED: None,
    }
    assert "0.500" in decisions(said)[0].detail
    assert state.blocked == {"IMPORTANCE_DRIFT/LONG": 1, "IMPORTANCE_DRIFT/SHORT": 1}
    (seen,) = [one for one in supervisions(said) if one.wishes]
    assert (seen.importance_drift, seen.drifted, seen.blocked) == (0.5, True, 2)
    for policy in (Supervisor(mode=SupervisorMode.MONITOR), Supervisor(max_importance_drift=0.5)):
        assert not any(one.blocked for one in decisions(play(events, policy)[1]))
    for name, drift in (("m-b", 0.1), ("m-a", None)):
        (other,) = decisions(play(candle(2, [wish(2, NAMES[0], model_version=name, importance_drift=drift)]), state=state)[1])
        assert other.blocked is None, "another version, or one of which nothing was judged"


def test_the_sequence_alone_decides_and_what_is_told_twice_counts_once() -> None:
    """Partitions interleave, a worker dies and tells again what it was about: each sequence gives the same as its clean copy."""
    chance = random.Random(7)
    for _ in range(12):
        told: list[list[Event]] = []
        for n in range(1, 9):
            wishes = [wish(n, name, chance.choice([LONG, LONG, SHORT]), chance.uniform(0.001, 0.01)) for name in NAMES]
            chance.shuffle(homes := list(HOMES))
            told += [candle(n, wishes, [home]) for home in homes]
        clean = [*WARM, *(event for part in told for event in part)]
        broken: list[Event] = list(WARM)
        for part in told:
            if chance.random() < 0.3:
                broken += part[: chance.randrange(len(part) + 1)]
            broken += part
        state, said = play(clean)
        assert play(broken) == (state, said)
        found = decisions(said)
        assert len({one.event_id for one in found}) == len(found) == 8 * len(NAMES)
        assert {one.side for one in state.window} <= {Side.LONG, Side.SHORT}
