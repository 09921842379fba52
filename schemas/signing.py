"""Signed commands: an HMAC of the administrator's token over a command's canonical bytes.

Canonical is the whole command but its signature, as JSON with sorted keys: id and time stand in it, so a signature is good for this
one command and for no other. The token is in no event and no log; it must be long, for who reads the log could try short ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.operations import Command

SHORTEST = 16
"""Characters of a token."""


def canonical(command: Command) -> bytes:
    """What is signed: everything but the signature."""
    fields = command.model_dump(mode="json", exclude={"signature"})
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def signed(command: Command, token: str) -> Command:
    """The command with its signature. `token`: at least SHORTEST characters, else ValueError."""
    if len(token) < SHORTEST:
        raise ValueError(f"a token has at least {SHORTEST} characters")
    return command.model_copy(update={"signature": _hmac(command, token)})


def holds(command: Command, token: str) -> bool:
    """Whether its signature was made with this token. No token: nothing holds."""
    return len(token) >= SHORTEST and hmac.compare_digest(_hmac(command, token).encode(), command.signature.encode())


def _hmac(command: Command, token: str) -> str:
    return hmac.new(token.encode(), canonical(command), hashlib.sha256).hexdigest()
