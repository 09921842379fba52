"""What stops the broker before it starts: told in three lines, found before anything is downloaded."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.broker import embedded, java
from infra.broker.config import server_properties
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.ports import free_port, free_ports, is_taken


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port {taken} ") as caught:
            EmbeddedKafka(tmp_path / "kafka", free_port(), taken).start()
    assert "QT_KAFKA_BOOTSTRAP" in caught.value.do
    assert not (tmp_path / "kafka").exists(), "nothing is written before the ports are known to be free"


def test_a_data_directory_that_lives_in_another_broker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOCK_PATIENCE_S", 0.1)
    broker = EmbeddedKafka(tmp_path, *free_ports(2))
    lock = tmp_path / "topics" / ".lock"
    lock.parent.mkdir()
    lock.touch()
    hold = f"import fcntl,sys; f=open({str(lock)!r},'r+b'); fcntl.lockf(f, {fcntl.LOCK_EX}); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another broker uses"):
            broker.start()
        other.stdin.close()


def test_a_broker_that_was_never_started_is_not_running_and_stops_quietly(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, 1, 2)
    assert broker.poll() == -1
    assert broker.pid is None
    assert broker.stop()
    assert broker.bootstrap == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        ("java.io.IOException: No space left on device", "no space is left"),
        ("java.lang.OutOfMemoryError: Java heap space", "heap of 384 MB"),
        ("ERROR something else", "something else"),
    ],
)
def test_the_end_of_a_broker_is_explained_from_its_output(tmp_path: Path, sign: str, told: str) -> None:
    broker = EmbeddedKafka(tmp_path, 1, 2)
    broker.log_dir.mkdir()
    (broker.log_dir / "kafka.out").write_text(f"noise\n{sign}\nmore noise\n")
    assert told in broker.why_ended().why


def test_paths_in_any_script_survive_javas_property_files() -> None:
    assert "log.dirs=/d\\u00e4t\\u65e5/\\\\x" in server_properties("h", 1, 2, Path("/dät日/\\x"))


@pytest.mark.parametrize(("told", "major"), [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_392"', 8)])
def test_javas_version_is_read_old_and_new_style(told: str, major: int) -> None:
    assert java.java_major(told) == major


def test_an_old_java_is_named_when_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, 'openjdk version "11.0.2"')
    monkeypatch.setattr(java, "_candidates", lambda: iter([old]))
    with pytest.raises(UserError, match="is Java 11"):
        java.find_java()


def test_the_first_java_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = fake_java(tmp_path / "a", 'version "11"'), fake_java(tmp_path / "b", 'version "21.0.1"')
    monkeypatch.setattr(java, "_candidates", lambda: iter([tmp_path / "absent", old, new]))
    assert java.find_java() == java.Java(new, 21)


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(map(is_taken, ports))


def fake_java(folder: Path, told: str) -> Path:
    folder.mkdir(exist_ok=True)
    script = folder / "java"
    script.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    script.chmod(0o755)
    return script
