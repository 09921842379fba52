"""The Faust application of a worker, and the process around it: one worker, one process, one event loop.

    run_stage(STAGE, settings)          a stage, with its state
    setup(); app = make_app("history", settings); ...; run_app(app)      a worker of another shape

Signals: SIGTERM and SIGINT drain (outputs, state, commit) and end the process within 5 s; SIGUSR1 turns its heartbeats off,
so that the end of a run has no records that nobody will read. Exit code 0 after a drain, 2 for a UserError, 1 for a bug.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import faust
import uvloop

from infra import logs
from infra.broker.access import Access, tls
from infra.broker.admin import answers
from infra.errors import UserError
from infra.settings import Settings
from streams.driver import App, Silent
from streams.lag import group_of
from streams.sender import Undelivered

if TYPE_CHECKING:
    from streams.stage import Stage

log = logs.get(__name__)
DRAIN_S = 3.0
BROKER_S = 30.0
STOP_S = 3.0
SWITCH_S = 0.0005
"""Records go from the thread of Faust's consumer to the agent's: at Python's own 5 ms each hand-over may wait so long."""


GARBAGE = 200_000
"""New objects between two looks for cycles. A thousand states, or a batch of history, are a hundred thousand objects that live
until they are replaced, and no cycle: with Python's 700 every look at all of them held a worker of 1,000 positions for 130 ms."""


def make_app(worker: str, settings: Settings, *, one_active: bool = False, patience: float = 1.0) -> App:
    """Raw bytes in and out, at least once, no Tables, no web, no topics of Faust's own. Not started.

    `patience`: how many times the setting the group waits for a silent member.
    """
    session_s = settings.session_timeout_s * patience
    datadir = (settings.run_dir / "workers" / member_of(worker, settings)).absolute()
    datadir.mkdir(parents=True, exist_ok=True)  # Faust makes it, but not its parents
    app = App(
        group_of(worker),
        broker=f"kafka://{settings.bootstrap.replace(',', ';')}",
        broker_client_id=member_of(worker, settings),
        broker_credentials=credentials(settings.access),
        consumer_group_instance_id=member_of(worker, settings),
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 4,
        broker_request_timeout=session_s * 1.5,
        broker_rebalance_timeout=session_s * 1.5,
        # aiokafka's own idea of a stuck consumer: it would throw a member out that stands by. Ours is /livez
        broker_max_poll_interval=30 * 86_400.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        key_serializer="raw",
        value_serializer="raw",
        processing_guarantee="at_least_once",
        stream_wait_empty=False,
        stream_buffer_maxsize=1_024,  # batches
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        web_enabled=False,
        datadir=str(datadir),
        logging_config=None,
        Monitor=Silent,
    )
    app.one_active = one_active
    return app


def credentials(access: Access) -> Any:
    """Faust's word for it; None for an open Kafka."""
    if access.named:
        return faust.SASLCredentials(
            username=access.username, password=access.password, ssl_context=tls(), mechanism=access.mechanism
        )
    return faust.SSLCredentials(tls()) if access.encrypted else None


def raw_topic(app: App, *names: str) -> Any:
    """A channel over these topics: bytes, and Faust commits nothing of it (read it by `stream.noack().events()`)."""
    return app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False)


def member_of(worker: str, settings: Settings) -> str:
    return f"{worker}-{settings.worker_index}"


def run(worker: str, settings: Settings) -> None:
    """The stage of that worker, in this process, until SIGTERM."""
    run_stage(importlib.import_module(f"streams.{worker}").STAGE, settings)


def run_stage(stage: Stage, settings: Settings) -> None:
    """Returns after a drain. Raises UserError, or what ended it."""
    from streams.runner import Runner
    from streams.watch import watched

    setup()
    await_broker(settings.bootstrap)
    app = make_app(stage.name, settings, one_active=stage.single)
    runner = Runner(stage, app, settings)
    with watched(runner, app, settings):
        run_app(app)


def setup() -> None:
    """The event loop and a first answer to SIGTERM, before anything of Faust's is made."""
    signal.signal(signal.SIGTERM, end_at_once)
    logging.getLogger("streams.driver").setLevel(logging.WARNING)  # Faust's services log under their class's module
    sys.setswitchinterval(SWITCH_S)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)


def await_broker(bootstrap: str, patience_s: float = BROKER_S) -> None:
    """Returns when an admin call is answered: a broker that is just restarting is no reason to end. Raises UserError."""
    deadline = time.monotonic() + patience_s
    while not answers(bootstrap, 2.0):
        if time.monotonic() > deadline:
            raise UserError(
                f"Kafka at {bootstrap} does not answer",
                f"no admin call was answered for {patience_s:.0f} s",
                "start it (`make run` brings its own), or correct QT_KAFKA_BOOTSTRAP",
            )
        time.sleep(0.2)


def end_at_once(number: int, frame: object) -> None:
    """Nothing has begun yet."""
    raise SystemExit(0)


def run_app(app: App) -> None:
    """Runs until a signal or a failure. `app.drain` comes before the end, `app.on_quiet` at SIGUSR1."""
    gc.freeze()  # what is loaded stays
    gc.set_threshold(GARBAGE)
    app.process = Process(app, asyncio.get_event_loop())
    app.process.run()


class Process(faust.Worker):
    """Faust's worker without its own logging, banner, debugger and pauses."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        self.spinner = None
        self._street = app
        self._failure: BaseException | None = None

    def run(self) -> None:
        beside = [self.loop.create_task(self._guard(work())) for work in self._street.background]
        starting = self.loop.create_task(self.start())
        self._starting_fut = starting
        try:
            self.loop.run_until_complete(starting)
        except asyncio.CancelledError:
            pass
        finally:
            self._finish()
            for task in beside:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*beside, return_exceptions=True))
        failure = self._failure or self.crash_reason
        if failure is not None:
            raise failure

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as e:  # the outermost loop of a background task: its failure is the worker's
            self.fail(e)

    def fail(self, error: BaseException) -> None:
        """Ends the process: a bug or a world that is not as it must be. What was not written is done again at the next start."""
        if self._failure is None:
            self._told(error)
            self._schedule_shutdown(signal.SIGABRT)

    def _told(self, error: BaseException) -> None:
        self._failure = error
        if isinstance(error, Undelivered):
            log.error("the log does not take what this worker writes; it ends, and its successor does it again", why=str(error))
        elif not isinstance(error, UserError):
            log.critical("this worker ends", exc_info=error)

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """Who started us has named us."""

    def _install_signal_handlers_unix(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._schedule_shutdown, number)
        self.loop.add_signal_handler(signal.SIGUSR1, self._quiet)

    def _quiet(self) -> None:
        if self._street.on_quiet is not None:
            self._street.on_quiet()

    async def _stop_on_signal(self, number: signal.Signals) -> None:
        log.info("ending", signal=number.name)
        if self._street.drain is not None and self._failure is None:
            try:
                await asyncio.wait_for(self._street.drain(), DRAIN_S)
            except TimeoutError:
                log.error("not drained in time; the rest is done again at the next start", seconds=DRAIN_S)
            except Exception as e:  # the end of the process must not hang on it
                self._told(e)
        stopping = asyncio.ensure_future(self.stop())
        await asyncio.wait({stopping}, timeout=STOP_S)  # wait_for would wait on for a cancellation that Faust may swallow
        if not stopping.done():
            log.warning("not stopped in time, ending anyway", seconds=STOP_S)
            if self._failure is None:
                sys.stderr.flush()
                os._exit(0)  # what was done is written; a thread of Faust's would hold the process
        if self._starting_fut is not None:
            self._starting_fut.cancel()

    def _finish(self) -> None:
        if self._signal_stop_future is not None and not self._signal_stop_future.done():
            self.loop.run_until_complete(self._signal_stop_future)
        elif not self._stopped.is_set():
            self.loop.run_until_complete(asyncio.wait_for(self.stop(), STOP_S))
        sys.stderr.flush()
