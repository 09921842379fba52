"""The numbered versions of a topic as control wrote them, one after the other; what is none of them is passed over, and told."""

from __future__ import annotations

import logging
from typing import Generic, TypeVar

from pydantic import ValidationError

from schemas import topics
from schemas.numbered import Numbered, follows

log = logging.getLogger(__name__)
N = TypeVar("N", bound=Numbered)


class Chain(Generic[N]):
    """Feed it the records of the topic from its beginning. `newest` is what stands."""

    def __init__(self, event: type[N]) -> None:
        self.newest: N | None = None
        self._event = event

    def take(self, key: bytes | str | None, value: bytes | None) -> N | None:
        """The version, where the record is the next one; None for anything else. A repetition is not worth a word."""
        if value is None:
            return None
        try:
            found = self._event.model_validate_json(value)
        except ValidationError as e:
            self._pass_over(str(e)[:300])
            return None
        standing = self.newest.place if self.newest else 0
        wanted = topics.route(found)[1]
        if (key.encode() if isinstance(key, str) else key) != wanted:
            self._pass_over(f"its key is {key!r}, not {wanted!r}")
            return None
        if self.newest is not None and found.place == standing:
            return None
        if not follows(standing, found):
            self._pass_over(f"its number is {found.place}, {standing} stands")
            return None
        self.newest = found
        return found

    def _pass_over(self, why: str) -> None:
        log.warning("a record on %s is no next version and is passed over: %s", topics.BY_TYPE[self._event.type_name()].name, why)
