"""`quantum bench scenarios`: every scenario once, most of them side by side, and the property over all of them.

The property: a position that has been open for more than PATIENCE_S without a live, correctly sized stop has an alarm on the log.
It is read from the exchange's own log, over everything that happened, not from what a scenario looked at.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from streams.bench.scenarios.scene import Missed, Scene
from streams.bench.scenarios.street import NAMES, LiveStreet
from streams.bench.scenarios.table import SCENARIOS, Scenario

PATIENCE_S = 6.0
PLAYED_S = 240.0
STAGGER_S = 0.25
"""A street of scenarios, not one burst of orders."""


def run(chosen: Sequence[Scenario] | None = None, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """{"passed", "of", "failed": {name: why}, "unprotected_worst_s", "seconds"} on a street of its own."""
    with tempfile.TemporaryDirectory(prefix="quantum-scenarios-") as directory, LiveStreet(Path(directory)) as street:
        return play(street, chosen, say)


def play(
    street: LiveStreet, chosen: Sequence[Scenario] | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    began = time.monotonic()
    scenarios = SCENARIOS if chosen is None else list(chosen)
    scenes = {each.name: Scene(street, NAMES[n]) for n, each in enumerate(scenarios)}
    failed: dict[str, str] = {}

    def one(each: Scenario, after_s: float = 0.0) -> None:
        time.sleep(after_s)
        started = time.monotonic()
        scene = scenes[each.name]
        try:
            each.play(scene)
            scene.settled()
        except Missed as e:
            failed[each.name] = str(e)
        except Exception as e:  # whatever a scenario's own code meets belongs to that scenario
            failed[each.name] = repr(e)
        say(f"{'FAILED' if each.name in failed else 'passed'}  {time.monotonic() - started:5.1f} s  {each.name}")

    together = [each for each in scenarios if not each.alone]
    apart = [each for each in scenarios if each.alone]
    done = threading.Event()

    def all_of_them() -> None:
        try:
            with ThreadPoolExecutor(max(1, len(together))) as threads:
                list(threads.map(one, together, [n * STAGGER_S for n in range(len(together))]))
            for each in apart:
                one(each)
        finally:
            done.set()

    threading.Thread(target=all_of_them, daemon=True).start()
    street.until(done.is_set, PLAYED_S)
    worst = _uncovered(street, scenes, failed)
    street.control("DELETE", "faults")
    return {
        "passed": len(scenarios) - len(failed),
        "of": len(scenarios),
        "failed": failed,
        "unprotected_worst_s": worst,
        "seconds": round(time.monotonic() - began, 1),
    }


def _uncovered(street: LiveStreet, scenes: dict[str, Scene], failed: dict[str, str]) -> float:
    """The property. Adds to `failed`; gives the longest time without a stop."""
    found = street.control("GET", "audit")["episodes"]
    worst = 0.0
    for name, scene in scenes.items():
        bare = max((e["unprotected_s"] for e in found if e["symbol"].split("/")[0] == scene.symbol), default=0.0)
        worst = max(worst, bare)
        if bare > PATIENCE_S and not scene.alarms and name not in failed:
            failed[name] = f"{bare:.1f} s without a stop, and no alarm"
    return worst


def table(found: dict[str, Any]) -> str:
    """For people: a line a scenario, and how many held."""
    rows = [f"{'FAILED' if each.name in found['failed'] else 'held  '}  {each.name}: {each.holds}" for each in SCENARIOS]
    took, worst = found["seconds"], found["unprotected_worst_s"]
    rows.append(f"{found['passed']} of {found['of']} scenarios ({took:.0f} s, longest without a stop {worst:.1f} s)")
    return "\n".join(rows)


def markdown() -> str:
    """The same for docs/scenarios.md."""
    rows = [f"| {each.name} | {each.what} | {each.holds} |" for each in SCENARIOS]
    return "\n".join(["| scenario | what happens | what holds |", "|---|---|---|", *rows]) + "\n"
