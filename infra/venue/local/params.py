"""A request's parameters with their types: what is missing or malformed is refused in the exchange's own words."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from infra.venue.local.refusals import illegal, missing, refuse

_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{0,20})?|-?\.[0-9]{1,20}")


class Params:
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        value = self._values.get(name, "")
        if not value:
            raise missing(name)
        return value

    def maybe(self, name: str) -> str | None:
        """None when not sent; sent but empty is refused, as on the exchange."""
        value = self._values.get(name)
        if value is None:
            return None
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.maybe(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value):
            raise illegal(name)
        return int(value)

    def limit(self, default: int, most: int) -> int:
        value = self.integer("limit", default)
        return max(1, min(value if value is not None else default, most))

    def number(self, name: str) -> Decimal | None:
        value = self.maybe(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value):
            raise illegal(name)
        return Decimal(value)

    def flag(self, name: str) -> bool:
        value = self.maybe(name)
        if value is None or value.lower() == "false":
            return False
        if value.lower() == "true":
            return True
        raise missing(name)

    def choice(self, name: str, allowed: tuple[str, ...], code: int, default: str | None = None) -> str:
        value = self._values.get(name) or default
        if value is None:
            raise missing(name)
        if value not in allowed:
            raise refuse(code)
        return value
