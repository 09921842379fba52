"""/livez, /readyz and /metrics of a process, answered by a thread of their own: a stuck event loop cannot hide.

    probe = Probe(port=settings.probe_port, live=lambda: [], ready=lambda: ["state is loading"])
    probe.start()       # probe.port is the port, also when 0 was asked for
    probe.stop()

200 when the list of problems is empty, else 503 with the problems, one a line. `notes` stand behind the "ok" of /readyz.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from infra.errors import UserError

Problems = Callable[[], Sequence[str]]
"""Called on the probe's threads: must not block. Empty: all is well."""


def ask(url: str, timeout_s: float) -> str:
    """What a probe's /livez or /readyz says against its process; empty when all is well."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return "" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as e:
        return e.read().decode(errors="replace").strip().replace("\n", "; ") or f"status {e.code}"
    except OSError:
        return "does not answer"


def told_metrics(port: int, timeout_s: float = 2.0) -> list[str]:
    """The lines of /metrics of a process on this machine; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer:
            text: str = answer.read().decode()
    except OSError:
        return []
    return text.splitlines()


class Probe:
    """`status`: more to tell in /status, as JSON (nothing secret)."""

    def __init__(
        self,
        port: int,
        live: Problems,
        ready: Problems,
        host: str = "127.0.0.1",
        status: Callable[[], dict[str, Any]] = dict,
        registry: CollectorRegistry = REGISTRY,
        notes: Problems = tuple,
    ) -> None:
        self._wanted, self._notes = (host, port), notes
        self._live, self._ready, self._status, self._registry = live, ready, status, registry
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        assert self._server is not None, "the probe is not started"
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Raises UserError when the port is taken."""
        try:
            self._server = _Server(self._wanted, self._handler())
        except OSError as e:
            host, port = self._wanted
            raise UserError(
                f"the probe cannot listen on {host}:{port}",
                e.strerror or str(e),
                "set QT_PROBE_PORT to a free port, or to 0 for any",
            ) from e
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="probe", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        probe = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/livez":
                        self._tell(probe._live())
                    case "/readyz":
                        self._tell([*probe._live(), *probe._ready()], probe._notes())
                    case "/metrics":
                        self._answer(200, generate_latest(probe._registry), CONTENT_TYPE_LATEST)
                    case "/status":
                        self._answer(200, json.dumps(probe._status(), default=str).encode(), "application/json")
                    case _:
                        self._answer(404, b"one of /livez /readyz /metrics /status\n", "text/plain")

            def _tell(self, problems: Sequence[str], notes: Sequence[str] = ()) -> None:
                lines = [*(problems or ["ok"]), *notes]
                self._answer(503 if problems else 200, "\n".join(lines).encode() + b"\n", "text/plain")

            def _answer(self, code: int, body: bytes, kind: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """A probe every second is no news."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked may have gone before the answer: no news either."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Pulse:
    """A sign of life that a loop gives: `beat()` in the loop, `problems()` in /livez."""

    def __init__(self, what: str, patience_s: float = 10.0) -> None:
        self._what, self._patience_s = what, patience_s
        self._at = time.monotonic()

    def beat(self) -> None:
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._at

    def problems(self) -> list[str]:
        age = self.age_s
        return [f"{self._what} gave no sign of life for {age:.1f} s"] if age > self._patience_s else []
