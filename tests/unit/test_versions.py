"""Releases are read from the features that a broker tells; whatever is not Kafka is `unknown`."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.broker.versions import broker_version


def answer(level: int) -> bytes:
    """An ApiVersions answer (version 3): one request key, one supported feature."""
    keys = b"\x02" + struct.pack(">hhh", 18, 0, 4) + b"\0"
    name = b"metadata.version"
    feature = b"\x02" + bytes([len(name) + 1]) + name + struct.pack(">hh", 7, level) + b"\0"
    body = struct.pack(">ih", 1, 0) + keys + struct.pack(">i", 0) + b"\x01" + b"\0" + bytes([len(feature)]) + feature
    return struct.pack(">i", len(body)) + body


@contextmanager
def server(reply: bytes) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(("level", "release"), [(33, "4.4"), (25, "4.0"), (21, "3.9"), (9999, "unknown")])
def test_the_metadata_level_names_the_release(level: int, release: str) -> None:
    with server(answer(level)) as bootstrap:
        assert broker_version(bootstrap, 2) == release


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", struct.pack(">i", 6) + bytes(4) + b"\0\x23"])
def test_what_is_not_kafka_is_unknown(reply: bytes) -> None:
    with server(reply) as bootstrap:
        assert broker_version(bootstrap, 2) == "unknown"


def test_nobody_is_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert broker_version(f"127.0.0.1:{port}", 1) == "unknown"
