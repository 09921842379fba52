"""A user's mistake, or a world that is not as it must be: told in three lines, never as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """What went wrong, why, and what to do about it. Printed as it is; the process then exits with a code of its own.

    >>> print(UserError("Kafka cannot start", "port 19092 is in use", "stop what listens there"))
    what: Kafka cannot start
    why:  port 19092 is in use
    do:   stop what listens there
    """

    def __init__(self, what: str, why: str, do: str) -> None:
        super().__init__(what, why, do)
        self.what = what
        self.why = why
        self.do = do

    def __str__(self) -> str:
        return f"what: {self.what}\nwhy:  {self.why}\ndo:   {self.do}"
