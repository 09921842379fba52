"""Dead letters: what a stage could not take, kept with its place and reason so that a person can look and replay."""

from __future__ import annotations

import base64
import time
from typing import Literal

from schemas.ids import event_id
from schemas.operations import DeadLetter

LONGEST = 200_000
"""Characters of the payload that are kept: the record itself still stands in its topic."""


def dead_letter(stage: str, topic: str, partition: int, offset: int, value: bytes | None, error: BaseException) -> DeadLetter:
    """The same record and stage give the same id, so that a replay adds nothing new."""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    try:
        payload = (value or b"").decode()
    except UnicodeDecodeError:
        payload, encoding = base64.b64encode(value or b"").decode(), "base64"
    return DeadLetter(
        event_id=event_id(DeadLetter.type_name(), stage, topic, partition, offset),
        at=int(time.time() * 1000),
        stage=stage,
        topic=topic,
        partition=partition,
        offset=offset,
        error=type(error).__name__,
        detail=str(error)[:2000],
        payload=payload[:LONGEST],
        encoding=encoding,
    )
