"""The local exchange as the settings describe it: a child of the launcher, or a container of its own."""

from __future__ import annotations

import os

from infra.settings import Settings


def options(settings: Settings) -> list[str]:
    """Its command line, without the program."""
    s = settings
    return [
        *("--port", str(s.exchange_port), "--control-port", str(s.exchange_control_port)),
        *("--market", s.market, "--speed", str(s.speed), "--seed", str(s.seed)),
        *("--data-dir", str(s.run_dir / "exchange"), "--symbols", s.symbols),
    ]


def keys(settings: Settings) -> dict[str, str]:
    """The key that it takes orders from, as it reads it from its environment."""
    return {"QT_LOCAL_API_KEY": settings.api_key.get_secret_value(), "QT_LOCAL_API_SECRET": settings.api_secret.get_secret_value()}


def run(settings: Settings) -> int:
    """In this process until SIGTERM; its REST and sockets on QT_HOST, its control on this machine alone. Returns the exit code."""
    from infra.venue.local.server import main

    os.environ.update(keys(settings))
    return main([*options(settings), "--host", settings.host])
