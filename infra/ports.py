"""Free loopback ports, and the question who may have one."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    return free_ports(1)[0]


def free_ports(n: int) -> list[int]:
    """`n` different free ports: all are held open until the last is known, so that none is handed out twice."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(n)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could not bind this port now. Connections that linger after a close do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return True
    return False
