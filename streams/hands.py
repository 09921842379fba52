"""Blocking calls off the event loop, by threads that never hold the process: what still waits for an answer dies with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Hands:
    """`n` threads, calls in order of arrival. `do` may be cancelled; its call then runs on and its outcome is dropped."""

    def __init__(self, n: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]] = SimpleQueue()
        for number in range(n):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    async def do(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put((loop, future, lambda: call(*args)))
        return await future

    def _work(self) -> None:
        while True:
            loop, future, call = self._calls.get()
            if future.cancelled():
                continue
            found: Any = None
            error: BaseException | None = None
            try:
                found = call()
            except BaseException as caught:  # whatever it is belongs to who asked
                error = caught
            try:
                loop.call_soon_threadsafe(_tell, future, found, error)
            except RuntimeError:
                return  # the loop is closed: nobody asks any more


def _tell(future: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(found)
