"""From a worker's name to its process: `quantum worker NAME`, one module each, imported only when it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from infra import logs
from infra.broker.admin import TopicSpec
from infra.errors import UserError
from infra.settings import Settings
from schemas.topics import WORKERS

if TYPE_CHECKING:
    from streams.stage import Stage

MODULES = {name: f"streams.{name}" for name in WORKERS}
WITHOUT_STAGE = ("market", "guardian", "history")
"""Loops of their own: no state store, no stage."""


def run_worker(name: str, settings: Settings) -> None:
    """Runs until SIGTERM. Every worker's module has `main(settings)`. Raises UserError for an unknown name.

    Any other mistake goes to the log as one line of JSON like everything else of a worker; the process then ends with code 2.
    """
    if name not in MODULES:
        raise UserError(f"no worker {name!r}", "there is none of that name", f"one of: {', '.join(MODULES)}")
    logs.configure(name, settings.log_level, settings.secrets)
    try:
        importlib.import_module(MODULES[name]).main(settings)
    except UserError as e:
        logs.get(__name__).critical("this worker cannot run", what=e.what, why=e.why, do=e.do)
        raise SystemExit(2) from None


def stages() -> dict[str, Stage]:
    """The declarations of all stages; imports Faust."""
    return {name: importlib.import_module(module).STAGE for name, module in MODULES.items() if name not in WITHOUT_STAGE}


def state_topics() -> list[TopicSpec]:
    """The compacted topics where stages keep their state."""
    from streams.store import state_topic_spec

    return [state_topic_spec(name) for name in MODULES if name not in WITHOUT_STAGE]
