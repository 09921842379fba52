"""How a worker ends when a task of its own fails that nobody awaits."""

from __future__ import annotations

import asyncio
import os

from infra import logs

log = logs.get(__name__)


def end_if_failed(task: asyncio.Task[None]) -> None:
    """A done-callback. Half a worker is worse than none: its successor recovers from the log and the exchange."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("this worker ends", exc_info=error)
        os._exit(1)
