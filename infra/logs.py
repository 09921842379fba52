"""Logs: one JSON object a line on stderr, of our code and of the libraries alike.

{"event": "state loaded", "worker": "positions", "partitions": 12, "level": "info", "logger": "streams.runner", "time": "..."}
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

QUIET = ("faust", "mode", "aiokafka", "asyncio", "urllib3", "websockets", "binance", "aiohttp")
"""Libraries that tell their life at INFO: only what worries them is kept."""
AGAIN_S = 5.0

librdkafka = logging.getLogger("librdkafka")
"""For `"logger"` of confluent clients, which tell every refused connection. What fails is told by whoever asked."""
librdkafka.addHandler(logging.NullHandler())
librdkafka.propagate = False


def configure(worker: str, level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Once a process, before anything logs. `secrets`: strings that no line may hold; short ones are left alone."""
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        number = logging.INFO
    hide = _Hide(secrets)

    def name_worker(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    shared: list[Any] = [
        name_worker,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Calm())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
                hide,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


class _Calm(logging.Filter):
    """A library that says the same again and again (a broker that is away, fifty times a second) is heard once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(QUIET):
            return True
        now, what = time.monotonic(), (record.name, str(record.msg))
        if now - self._said.get(what, float("-inf")) < AGAIN_S:
            return False
        self._said[what] = now
        return True


class _Hide:
    """Masks secrets in the finished line: the last step, so that no path around it exists."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if len(secret) >= 8]

    def __call__(self, _logger: WrappedLogger, _method: str, line: Any) -> Any:
        text = str(line)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def get(name: str) -> structlog.stdlib.BoundLogger:
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return found
