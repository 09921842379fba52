"""How this process gets onto Kafka: TLS and a user, for every client alike. Told once, by `infra.settings.load`.

use(Access(protocol="SASL_SSL", mechanism="SCRAM-SHA-512", username="desk", password="...", ca_file=Path("/etc/kafka/ca.crt")))
Consumer({**reach("broker:9093"), "group.id": "..."})
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import UserError


@dataclass(frozen=True)
class Access:
    """`protocol` and `mechanism` in Kafka's own words. `ca_file` None: the machine's own list of authorities."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None

    @property
    def encrypted(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def named(self) -> bool:
        return self.protocol.startswith("SASL")


_access = Access()


def use(access: Access) -> None:
    """For every client that is made from now on. Raises UserError for a user or a file that is missing."""
    if access.named and not (access.username and access.password):
        raise UserError(
            f"Kafka asks for a user ({access.protocol})",
            "QT_KAFKA_USERNAME or QT_KAFKA_PASSWORD is empty",
            "set both, or set QT_KAFKA_SECURITY to PLAINTEXT or SSL",
        )
    if access.encrypted and access.ca_file is not None and not access.ca_file.is_file():
        raise UserError(f"QT_KAFKA_CA_FILE names {access.ca_file}", "there is no such file", "name the broker's authority, in PEM")
    global _access
    _access = access


def current() -> Access:
    return _access


def reach(bootstrap: str) -> dict[str, str]:
    """The first settings of a client of librdkafka."""
    found = {"bootstrap.servers": bootstrap}
    if _access.protocol != "PLAINTEXT":
        found["security.protocol"] = _access.protocol
    if _access.named:
        found |= {
            "sasl.mechanism": _access.mechanism,
            "sasl.username": _access.username,
            "sasl.password": _access.password,
        }
    if _access.encrypted and _access.ca_file is not None:
        found["ssl.ca.location"] = str(_access.ca_file)
    return found


def tls() -> ssl.SSLContext | None:
    """For clients that are not librdkafka's; names of hosts are checked."""
    if not _access.encrypted:
        return None
    return ssl.create_default_context(cafile=str(_access.ca_file) if _access.ca_file is not None else None)
