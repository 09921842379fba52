"""A Faust agent as the manual writes it, with all its defaults, one trade a message: what the frames are measured against.

python -m streams.bench.stock TOPIC BOOTSTRAP N FOLDER      prints trades a second
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import faust
import msgspec


class Trade(msgspec.Struct):
    """One trade as its own message."""

    id: int
    instrument: str
    t: int
    p: float
    q: float
    m: int


def main(topic_name: str, bootstrap: str, n: int, folder: str) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = faust.App(
        "bench-stock",
        broker=f"kafka://{bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=folder,
    )
    channel = app.topic(topic_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    read = msgspec.json.Decoder(Trade).decode
    began, done = 0.0, 0

    async def count(stream: Any) -> None:
        nonlocal began, done
        async for value in stream:
            read(value)
            began = began or time.monotonic()
            done += 1
            if done == n:
                sys.stdout.write(f"{n / (time.monotonic() - began)}\n")
                sys.stdout.flush()
                os._exit(0)

    app.agent(channel)(count)
    worker = faust.Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
