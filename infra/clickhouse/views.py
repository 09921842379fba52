"""The desk's views, from views/*.sql: SQL as any editor reads it, the declaration in the comment above each.

-- Every closed position with its profit.              the comment of the view in ClickHouse
--   SELECT * FROM round_trips LIMIT 10                the example in docs/sql.md, indented
CREATE OR REPLACE VIEW round_trips AS
SELECT ...;
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "views"
_DECLARED = re.compile(r"((?:^--[^\n]*\n)+)(CREATE OR REPLACE VIEW (\w+) AS\n.*?);$", re.M | re.S)
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")


@dataclass(frozen=True, slots=True)
class View:
    """`about`: what a row is. `example`: a query that answers something."""

    name: str
    about: str
    example: str
    select: str
    group: str

    @property
    def statement(self) -> str:
        told = self.about.replace("\\", "\\\\").replace("'", "\\'")
        return f"{self.select}\nCOMMENT '{told}'"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(_READ.findall(self.select))


def declared(folder: Path = FOLDER) -> tuple[View, ...]:
    """In the order of the files."""
    return tuple(view for path in sorted(folder.glob("*.sql")) for view in _views(path.read_text(), path.stem))


def _views(text: str, group: str) -> Iterable[View]:
    for said, select, name in _DECLARED.findall(text):
        lines = [line.removeprefix("--").removeprefix(" ") for line in said.splitlines()]
        about = " ".join(line.strip() for line in lines if not line.startswith("  "))
        example = "\n".join(line.strip() for line in lines if line.startswith("  "))
        yield View(name, about, example, select, group)


def in_order(views: Iterable[View]) -> tuple[View, ...]:
    """Each behind those that it reads. Raises graphlib.CycleError."""
    by_name = {view.name: view for view in views}
    order = TopologicalSorter({view.name: sorted(view.reads & set(by_name)) for view in by_name.values()}).static_order()
    return tuple(by_name[name] for name in order)
