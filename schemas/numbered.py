"""Versions that control numbers one after the other, of the policy and of the model pointers: which record is the next one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.events import Event

Number = Annotated[int, Field(ge=0, lt=2**63)]


class Numbered(Event):
    """A version. Whoever reads asks `follows` before he takes one."""

    @property
    def place(self) -> int:
        """Its number."""
        raise NotImplementedError

    @property
    def own_id(self) -> str:
        """The event id that control gives to this number with this content."""
        raise NotImplementedError


def follows(standing: int, version: Numbered) -> bool:
    """Whether it is the successor of number `standing`, 0: none is known.

    A compacted log may begin with any number: that one must bear its own id, so that no mistaken number begins a chain.
    """
    return version.place == standing + 1 or (standing == 0 and version.place > 0 and version.event_id == version.own_id)
