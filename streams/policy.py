"""The policy as every stage reads it: a thread follows policy.versions to its end and stays there.

The first read to the end makes it ready; an empty topic means the default policy, version 0.
"""

from __future__ import annotations

from infra import logs
from schemas import topics
from schemas.operations import PolicyVersion
from schemas.policy import Policy
from streams.follower import Follower
from streams.versions import Chain

log = logs.get(__name__)


class PolicyReader(Follower):
    """`current()` is a plain read, safe from any thread."""

    def __init__(self, bootstrap: str, topic: str = topics.POLICY_VERSIONS.name) -> None:
        super().__init__(bootstrap, {topic: 1}, "policy")
        self._chain = Chain(PolicyVersion)
        self._current: tuple[int, Policy] = (0, Policy())

    def current(self) -> tuple[int, Policy]:
        return self._current

    def take(self, topic: str, value: bytes, key: bytes | None = None) -> None:
        found = self._chain.take(key, value)
        if found is not None:
            self._current = (found.version, found.policy)
            log.info("policy", version=found.version, changed=found.changed)
