"""What stays when everything but the exchange is killed: the stops. The guardian alone finds nothing to do and brings back what is
taken away; who starts again doubles nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from schemas.ids import Purpose, purpose_of
from streams.bench.scenarios.scene import Scene
from streams.bench.scenarios.street import NAMES, LiveStreet

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]
HELD, TAKEN = 20, 7
WITH_STREAM_S, WITHOUT_S = 3.0, 12.0
SLOW = 1.5
"""What is granted to a machine that is busy with others; the printed line says how long it was."""


def test_stops_outlive_everything_and_the_guardian_alone_brings_back_what_is_taken(
    street: LiveStreet, say: Callable[[str], None]
) -> None:
    scenes = [Scene(street, name) for name in NAMES[:HELD]]
    for scene in scenes:
        scene.enter()
    for scene in scenes:
        scene.must(lambda s=scene: s.net == 1 and len(s.nets) == 1 and s.laddered == 1, "it stands, with stop and ladder", 60)  # type: ignore[misc]
        scene.settled()
    orders = {scene.symbol: everything(scene) for scene in scenes}

    street.fall()
    time.sleep(0.5)
    assert [len(scene.nets) for scene in scenes] == [1] * HELD
    guardian = street.worker("guardian")
    guardian.start()
    assert street.until(guardian.ready, 60)
    street.until(lambda: False, 6.0)  # longer than a position without a stop would have to wait
    assert {scene.symbol: everything(scene) for scene in scenes} == orders, "it has found something to do"

    first, second = scenes[:TAKEN], scenes[TAKEN : 2 * TAKEN]
    with_stream = brought_back(street, first)
    swept(street)  # the worst moment: nobody looks for as long as nobody looks
    street.control("POST", "faults", route="*", kind="event-drop", for_s=SLOW * WITHOUT_S + 2)
    without = brought_back(street, second)
    goals = f"goals {WITH_STREAM_S:g} and {WITHOUT_S:g}"
    say(f"{TAKEN} stops taken away: all back after {with_stream:.1f} s by the stream, {without:.1f} s with it cut ({goals})")
    for scene in (*first, *second):
        before, now = orders[scene.symbol], everything(scene)
        assert len(now) == len(before) + 1, "one stop each"
        assert purpose_of(scene.nets[0]["client_id"]) is Purpose.GUARDIAN
        orders[scene.symbol] = now

    street.rise()
    street.until(lambda: False, 5.0)
    for scene in scenes:
        scene.must(lambda s=scene: s.apart() == "" and len(s.nets) == 1 and s.laddered == 1, "all agree", 60)  # type: ignore[misc]
        assert everything(scene) == orders[scene.symbol], "nothing is doubled"
    assert with_stream < SLOW * WITH_STREAM_S
    assert without < SLOW * WITHOUT_S


def everything(scene: Scene) -> list[str]:
    """Client ids of all orders of both books that there are or were, children of conditional ones too."""
    rows = [*scene.orders(live=False), *scene.street.books[scene.symbol].algos.values()]
    return sorted(str(row["client_id"]) for row in rows)


def brought_back(street: LiveStreet, scenes: list[Scene]) -> float:
    """Seconds until each has a stop again after another hand has cancelled it; looks a while longer, for a second one."""
    had = {scene.symbol: scene.nets[0]["id"] for scene in scenes}
    began = time.monotonic()
    for scene in scenes:
        scene.tell("cancel", symbol=scene.symbol)
    back = street.until(lambda: all([net["id"] for net in s.nets] not in ([], [had[s.symbol]]) for s in scenes), 30)
    took = time.monotonic() - began
    assert back, [scene.picture() for scene in scenes]
    street.until(lambda: False, 2.0)
    return took


def swept(street: LiveStreet) -> None:
    """Returns just after the guardian's next look at everything."""
    guardian = street.worker("guardian")
    before = guardian.metric("qt_guardian_sweeps")
    assert not math.isnan(before)
    assert street.until(lambda: guardian.metric("qt_guardian_sweeps") > before, 30)
