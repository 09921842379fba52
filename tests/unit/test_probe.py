"""The probe answers from a thread of its own: what is wrong, one a line, and the metrics."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from infra.errors import UserError
from infra.ports import free_port
from infra.probe import Probe, Pulse


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


def test_problems_make_it_unready_and_an_unlive_process_is_unready_too() -> None:
    live: list[str] = []
    ready = ["state is loading"]
    registry = CollectorRegistry()
    Gauge("qt_test", "a test", registry=registry).set(3)
    probe = Probe(0, lambda: live, lambda: ready, status=lambda: {"worker": "w"}, registry=registry)
    probe.start()
    try:
        assert get(probe.port, "/livez") == (200, "ok\n")
        assert get(probe.port, "/readyz") == (503, "state is loading\n")
        ready.clear()
        assert get(probe.port, "/readyz") == (200, "ok\n")
        live.append("stuck")
        assert get(probe.port, "/livez") == (503, "stuck\n")
        assert get(probe.port, "/readyz")[0] == 503
        assert "qt_test 3.0" in get(probe.port, "/metrics")[1]
        assert get(probe.port, "/status") == (200, '{"worker": "w"}')
        assert get(probe.port, "/other")[0] == 404
    finally:
        probe.stop()


def test_who_does_not_wait_for_the_answer_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    gone, told = threading.Event(), threading.Event()

    def status() -> dict[str, str]:
        gone.wait(5)
        told.set()
        return {"long": "x" * 1_000_000}

    probe = Probe(0, list, list, status=status, registry=CollectorRegistry())
    probe.start()
    try:
        with socket.create_connection(("127.0.0.1", probe.port)) as asker:
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone with a reset
            asker.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        gone.set()
        assert told.wait(5)
        assert get(probe.port, "/livez") == (200, "ok\n")
    finally:
        probe.stop()
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_a_user_error() -> None:
    first = Probe(free_port(), list, list)
    first.start()
    try:
        with pytest.raises(UserError, match="QT_PROBE_PORT"):
            Probe(first.port, list, list).start()
    finally:
        first.stop()


def test_a_pulse_that_stops_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("infra.probe.time.monotonic", lambda: now[0])
    pulse = Pulse("the event loop", patience_s=10)
    assert pulse.problems() == []
    now[0] += 11
    assert pulse.problems() == ["the event loop gave no sign of life for 11.0 s"]
    pulse.beat()
    assert pulse.problems() == []
