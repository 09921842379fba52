"""Free loopback ports, and the question who may have one.

Ports are drawn from below the range that the kernel uses for outgoing connections. A server that is killed and comes
back would otherwise find its port taken now and then: by a client that reconnects, even by one that met itself.
"""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
_draw = random.SystemRandom()


def free_port() -> int:
    """A port that nobody used a moment ago."""
    return free_ports(1)[0]


def free_ports(n: int) -> list[int]:
    """`n` different free ports."""
    found: list[int] = []
    while len(found) < n:
        port = _draw.randrange(LOWEST, HIGHEST)
        if port not in found and not is_taken(port):
            found.append(port)
    return found


def free_row(n: int) -> int:
    """The first of `n` ports in a row that are free."""
    while True:
        first = _draw.randrange(LOWEST, HIGHEST - n)
        if not any(map(is_taken, range(first, first + n))):
            return first


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could not bind this port now. Connections that linger after a close do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return True
    return False
