"""Which Kafka answers: the protocol tells features, not releases, so the release is read from the features.

Each Kafka minor release supports metadata up to a level of its own. `ApiVersions`, the one request that every broker
answers before anything else, carries that level; no client library shows it, so it is asked here in 60 bytes.
"""

from __future__ import annotations

import socket
import struct

UNKNOWN = "unknown"
API_VERSIONS, REQUEST_VERSION = 18, 3


def broker_version(bootstrap: str, timeout_s: float = 5.0) -> str:
    """`4.4` or the like; `unknown` for a broker that says nothing we know (TLS, not Apache Kafka, newer than we)."""
    try:
        level = supported_features(bootstrap, timeout_s).get("metadata.version", -1)
    except (OSError, struct.error, ValueError, IndexError):
        return UNKNOWN
    return next((release for top, release in RELEASES if level == top), UNKNOWN)


def supported_features(bootstrap: str, timeout_s: float) -> dict[str, int]:
    """`{feature: highest level}` of the first broker in `bootstrap`."""
    host, _, port = bootstrap.split(",")[0].strip().rpartition(":")
    name = b"quantum"
    header = struct.pack(">hhih", API_VERSIONS, REQUEST_VERSION, 1, len(name)) + name + b"\0"
    text = bytes([len(name) + 1]) + name
    request = header + text + b"\x02" + b"1" + b"\0"
    with socket.create_connection((host, int(port)), timeout_s) as sock:
        sock.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(sock, 4))
        if not 0 < size < 1 << 20:
            raise ValueError(f"not a Kafka answer: {size} bytes")
        return _features(_Cursor(_read(sock, size)))


class _Cursor:
    """Reads Kafka's compact encoding front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("answer too short")
        self.at += size
        return self.data[self.at - size : self.at]

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        return self.take(self.varint() - 1).decode()

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())


def _features(answer: _Cursor) -> dict[str, int]:
    answer.take(4)  # correlation id
    if answer.int16() != 0:
        raise ValueError("the broker refused")
    for _ in range(answer.varint() - 1):
        answer.take(6)  # request key, lowest and highest version
        answer.skip_tags()
    answer.take(4)  # throttle time
    found = {}
    for _ in range(answer.varint()):
        tag, size = answer.varint(), answer.varint()
        field = _Cursor(answer.take(size))
        if tag == 0:  # supported features: name, lowest, highest level
            for _ in range(field.varint() - 1):
                name = field.text()
                field.int16()
                found[name] = field.int16()
                field.skip_tags()
    return found


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ValueError("the connection was closed")
        data += chunk
    return data


# highest metadata level of each release line
RELEASES = (
    (7, "3.3"),
    (8, "3.4"),
    (11, "3.5"),
    (14, "3.6"),
    (19, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (25, "4.0"),
    (27, "4.1"),
    (29, "4.2"),
    (30, "4.3"),
    (33, "4.4"),
)
