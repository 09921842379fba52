"""The models that a signals worker holds: loaded and verified off the event loop, asked once a barrier, swapped between records.

`prepare` is awaited before each record's step (streams/stage.py). Before pointers it loads what they name, so that the step finds
versions that answer or reasons why they do not; before a barrier it asks the models for all vectors that wait. What serves stays
loaded together with what a rollback needs and the shadow. Of a candle that still forms the trees are asked, every now and then.

A version that is gone at a restart gives way to the one before it. That is told on `model.switches` as soon as that one decides,
and again when the other is back: it is looked for every RETRY_S, with a new close, so that no candle is decided by two versions.

qt_model_info{version,role}           1 for what serves (`active`), is kept warm (`previous`), or scores beside it (`shadow`)
qt_model_predictions_total{version}   vectors answered
qt_model_latency_seconds_{count,sum}  runs of a model, one a barrier and version
qt_model_importance_drift{version}    of what serves, against the version before it; absent: not judged
qt_model_refused_total{reason}        versions that did not verify
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from pydantic import ValidationError

from infra import logs
from infra.broker.admin import offsets
from infra.broker.reading import read_all
from infra.onnx import RUNTIME_ERRORS, ModelUnavailable, Unavailable
from infra.settings import Settings
from processors import serving as pointers
from processors.serving import Drift, Refusal, Serving
from processors.signals import MODEL, UNASKED, Answer, Answers, Asked, Heard, State, asked
from schemas import hot, topics
from schemas.ids import event_id
from schemas.models import ModelSwitch, ModelVersion, SwitchOutcome
from schemas.numbered import follows
from streams.hands import Hands
from streams.served import Served, load, warm
from streams.stage import Outbox, home_of

log = logs.get(__name__)
FORMING_MS = 10_000
"""Of market time: an instrument is predicted on while its candle forms at most so often."""
RETRY_S = 10.0


class Server:
    """One a worker. `heard` is what the step is given; it holds the answers for the record that is about to be decided."""

    def __init__(self, settings: Settings, last_told: Callable[[str], str | None] | None = None) -> None:
        """`last_told`: (bootstrap) -> what model.switches says serves; blocks."""
        self._settings = settings
        self._last_told = last_told or last_active
        self._outbox: Outbox | None = None
        self._told: str | None = None
        self._deciding: str | None = None
        self._missed: str = ""
        self._asked_to = -1
        self._tried: dict[str, float] = {}
        self._since: dict[str, int] = {}
        self._loaded: dict[str, Served] = {}
        self._refused: dict[str, Refusal] = {}
        self._answers: dict[str, Answers] = {}
        self._drifts: dict[str, Drift] = {}
        self.heard = Heard(self._answers, self._refused, self._drifts)
        self._serving = Serving()
        self._hands = Hands(1, "models")
        self._peeked: dict[str, int] = {}
        self._predictions: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._runs, self._run_s = 0, 0.0

    def preload(self, name: str) -> None:
        """Before the worker begins, and blocking."""
        self._take(name, _loaded(name, self._settings))

    async def prepare(self, event: Any, states: Mapping[str, Any]) -> None:
        if isinstance(event, hot.Barrier):
            await self._ask(event, states)
        elif isinstance(event, ModelVersion):
            await self._point(event, states)
        elif isinstance(event, hot.Peek):
            self._peek(event, states)

    def _peek(self, peek: hot.Peek, states: Mapping[str, Any]) -> None:
        """By what would decide the candle, if it is loaded: a peek loads nothing and waits for nobody."""
        self._answers.clear()
        turn = peek.at // FORMING_MS
        if self._peeked.get(peek.instrument) == turn:
            return
        self._peeked[peek.instrument] = turn
        served = next((self._loaded[name] for name in _serving(states).deciding(peek.at) if name in self._loaded), None)
        if served is None:
            return
        try:
            answer = served.peek(np.asarray(peek.values, dtype=np.float32))
        except RUNTIME_ERRORS as e:
            log.error("a model has not answered", version=served.version, vectors=1, error=str(e))
            return
        self._predictions[served.version] += 1
        self._answers[peek.event_id] = Answers(answer)

    def attach(self, outbox: Outbox) -> None:
        """Where it says what serves."""
        self._outbox = outbox

    def notes(self) -> list[str]:
        """What a person should know though it works."""
        return [self._missed] if self._missed else []

    async def _point(self, version: ModelVersion, states: Mapping[str, Any]) -> None:
        """A version that was refused before is looked at again: it may have been mended."""
        before = _serving(states)
        if not follows(before.number, version):
            if version.number != before.number:
                log.warning("pointers of another number than the next are passed over", number=version.number, stands=before.number)
            return
        for name in dict.fromkeys(filter(None, (version.active, version.shadow))):
            await self._again(name, self._asked_to + 1)
        self._told = version.active if version.active in self._loaded else before.active
        self._drifts.clear()
        if version.active in self._loaded:
            self._drifts[version.active] = self._drift(version.active, before.active)
        kept = {version.active, version.shadow, version.previous, *before.wanted}
        self._loaded = {name: served for name, served in self._loaded.items() if name in kept}

    def _drift(self, name: str, before: str) -> Drift:
        now, reference = (self._loaded[one].importance if one in self._loaded else None for one in (name, before))
        return pointers.drift(name, now, before, reference)

    async def _ask(self, barrier: hot.Barrier, states: Mapping[str, Any]) -> None:
        self._answers.clear()
        self._serving = serving = _serving(states)
        waiting = [
            one
            for key, state in states.items()
            if key != MODEL and state.seen and home_of(key) == barrier.partition
            for one in asked(state)
        ]
        if not waiting:
            return
        await self._look_again(serving, barrier.at, states)
        by_version: dict[str, list[Asked]] = {}
        missing: dict[str, str] = {}
        for one in waiting:
            name, why = await self._first(serving.deciding(one.at), one.at)
            if name is None:
                missing[one.features_id] = why
            else:
                by_version.setdefault(name, []).append(one)
        shadows: dict[str, Answer] = {}
        if serving.shadow is not None and await self._get(serving.shadow) is not None:
            shadows = await self._run(serving.shadow, waiting)
        for name, mine in by_version.items():
            said = await self._run(name, mine)
            for one in mine:
                answer, shadow = said.get(one.features_id), shadows.get(one.features_id)
                self._answers[one.features_id] = Answers(answer, "" if answer else f"{name} has not answered", shadow)
        for features_id, why in missing.items():
            self._answers[features_id] = UNASKED._replace(missing=why, shadow=shadows.get(features_id))
        await self._tell(serving, max(one.at for one in waiting))

    async def _look_again(self, serving: Serving, at: int, states: Mapping[str, Any]) -> None:
        """With a new close: whether what was refused is back. It decides from this close on, in all partitions."""
        decided_to = max((state.decided_at for state in states.values()), default=-1)
        if at <= max(self._asked_to, decided_to):
            return
        self._asked_to = at
        for name in serving.wanted:
            if name in self._refused and time.monotonic() - self._tried.get(name, 0.0) > RETRY_S:
                await self._again(name, at)

    async def _tell(self, serving: Serving, at: int) -> None:
        """On model.switches, where another version than was told there decides the newest close."""
        names = serving.deciding(at)
        name, why = await self._first(names, at)
        if name is None or (serving.switches and at < serving.switches[-1].from_at):
            return
        self._deciding, self._missed = name, "" if name == names[0] else f"{name} decides instead of {why}"
        if self._outbox is None or not serving.number:
            return
        if self._told is None:
            self._told = await self._hands.do(self._last_told, self._settings.bootstrap) or names[0]
        if name == self._told:
            return
        refusal = self._refused.get(names[0], Refusal("", "it is back"))
        outcome = SwitchOutcome.SERVING if name == names[0] else SwitchOutcome.REFUSED
        switch = ModelSwitch(
            event_id=event_id("model.switch", "served", serving.number, names[0], name, at),
            at=at,
            number=serving.number,
            outcome=outcome,
            version=names[0],
            active=name,
            before=self._told,
            shadow=serving.shadow,
            from_at=at,
            reason=refusal.reason,
            detail=refusal.detail,
            **pointers.told(serving.drift(name)),
        )
        await self._outbox.send_now(switch)
        self._told = name

    async def _run(self, name: str, wanted: list[Asked]) -> dict[str, Answer]:
        """One run for all of them. Answers by id of the features; none when the run fails."""
        served, windows = self._loaded[name], [one.window for one in wanted]
        began = time.perf_counter()
        try:
            said = await self._hands.do(served.answer, windows) if served.heavy else served.answer(windows)
        except RUNTIME_ERRORS as e:
            log.error("a model has not answered", version=name, vectors=len(windows), error=str(e))
            return {}
        self._runs += 1
        self._run_s += time.perf_counter() - began
        self._predictions[served.version] += len(said)
        return {one.features_id: answer for one, answer in zip(wanted, said, strict=True)}

    async def _first(self, names: tuple[str, ...], at: int) -> tuple[str | None, str]:
        """(the first of them that is what it claims to be for a candle that closes at `at`, why the ones before it are not)."""
        why: list[str] = []
        for name in names:
            if await self._get(name) is not None:
                if at >= self._since.get(name, -1):
                    return name, "; ".join(why)
                why.append(f"{name}: back for the next candle")
            else:
                refusal = self._refused[name]
                why.append(f"{name}: {refusal.reason}: {refusal.detail}")
        return None, "; ".join(why)

    async def _again(self, name: str, from_at: int) -> None:
        """Looks at a version anew. One that was refused and is not any more decides candles from `from_at` on."""
        before = self._refused.pop(name, None)
        self._tried[name] = time.monotonic()
        if name in self._loaded:
            return
        found = await self._hands.do(_loaded, name, self._settings)
        if isinstance(found, Refusal) and found == before:
            self._refused[name] = found  # no news
            return
        self._take(name, found)
        if before is not None and name in self._loaded:
            self._since[name] = from_at

    async def _get(self, name: str) -> Served | None:
        """Loaded when it is not yet; a refused one is not tried again."""
        if name not in self._loaded and name not in self._refused:
            self._take(name, await self._hands.do(_loaded, name, self._settings))
        return self._loaded.get(name)

    def _take(self, name: str, found: Served | Refusal) -> None:
        if isinstance(found, Refusal):
            self._refused[name] = found
            self._tried[name] = time.monotonic()
            self._refusals[found.reason] += 1
            log.error("a model version is refused: what served before goes on", version=name, **found._asdict())
        else:
            self._loaded[name] = found
            log.info("a model version is loaded and verified", version=name, model_version=found.version)

    def collect(self) -> Iterator[Metric]:
        """Prometheus; from any thread."""
        serving, loaded = self._serving, dict(self._loaded)
        info = GaugeMetricFamily("qt_model_info", "Model versions held", labels=["version", "role"])
        for name, served in loaded.items():
            role = "active" if name == (self._deciding or serving.active) else "shadow" if name == serving.shadow else "previous"
            info.add_metric([served.version, role], 1)
        yield info
        predictions = CounterMetricFamily("qt_model_predictions", "Vectors answered", labels=["version"])
        for version, n in list(self._predictions.items()):
            predictions.add_metric([version], n)
        yield predictions
        yield SummaryMetricFamily("qt_model_latency_seconds", "Runs of a model", self._runs, self._run_s)
        drift = GaugeMetricFamily("qt_model_importance_drift", "Against the version before it", labels=["version"])
        name = self._deciding or serving.active
        if (judged := serving.drift(name)) is not None and judged.share is not None:
            drift.add_metric([name], judged.share)
        yield drift
        refused = CounterMetricFamily("qt_model_refused", "Versions that did not verify", labels=["reason"])
        for reason, n in list(self._refusals.items()):
            refused.add_metric([reason], n)
        yield refused


def last_active(bootstrap: str) -> str | None:
    """What the last word on model.switches says serves. Blocks."""
    name, found = topics.MODEL_SWITCHES.name, None
    for message in read_all(bootstrap, name, offsets(bootstrap, [name])[name]):
        with suppress(ValidationError):
            found = ModelSwitch.model_validate_json(message.value() or b"").active
    return found


def verify(name: str, settings: Settings) -> Refusal | None:
    """None: it is what it claims to be. Blocks."""
    found = _loaded(name, settings)
    return found if isinstance(found, Refusal) else None


def _loaded(name: str, settings: Settings) -> Served | Refusal:
    try:
        return warm(load(name, settings))
    except ModelUnavailable as e:
        return Refusal(e.reason, e.detail)
    except (LookupError, TypeError, ValueError, *RUNTIME_ERRORS) as e:  # it verifies, and cannot be asked all the same
        return Refusal(Unavailable.UNREADABLE, f"it does not answer a window: {type(e).__name__}: {e}")


def _serving(states: Mapping[str, Any]) -> Serving:
    state: State | None = states.get(MODEL)
    return (state.serving if state else None) or Serving()
