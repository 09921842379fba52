"""Candles from several symbols stand side by side in time, gaps are told apart from candles, and bad ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from streams.candle_data import STEP_MS, Series, aligned, from_file

START = 1_767_225_600_000


def series(n: int = 200, first: int = 0, without: tuple[int, ...] = ()) -> Series:
    at = np.array([i for i in range(first, first + n) if i not in without])
    close = 100.0 + at
    return START + at * STEP_MS, np.stack([close, close + 1, close - 1, close, np.full(len(at), 5.0)], axis=1)


def test_symbols_meet_where_all_of_them_trade() -> None:
    found = aligned("x", {"A": series(), "B": series(first=50)})
    assert (found.symbols, found.c.shape, found.traded) == (["A", "B"], (150, 2), None)
    assert found.open_at is not None
    assert found.open_at[0] == START + 50 * STEP_MS
    np.testing.assert_array_equal(found.c[:, 0], found.c[:, 1])


def test_a_missing_candle_is_flat_and_known_as_such() -> None:
    found = aligned("x", {"A": series(), "B": series(without=(7,))})
    assert found.traded is not None
    assert np.argwhere(~found.traded).tolist() == [[7, 1]]
    assert [float(column[7, 1]) for column in (found.o, found.h, found.l, found.c, found.v)] == [106.0] * 4 + [0.0]


def test_what_cannot_be_learnt_from_is_named() -> None:
    with pytest.raises(UserError, match="too few candles"):
        aligned("x", {"A": series(), "B": series(without=tuple(range(20, 40)))})
    opened, values = series()
    with pytest.raises(UserError, match="not in order of time"):
        aligned("x", {"A": (opened[::-1], values)})
    with pytest.raises(UserError, match="whole 5 minutes"):
        aligned("x", {"A": (opened + 1, values)})
    wrong = values.copy()
    wrong[3, 1] = 1.0  # a high below the low
    with pytest.raises(UserError, match=str(int(opened[3]))):
        aligned("x", {"A": (opened, wrong)})
    with pytest.raises(UserError, match="no candles"):
        aligned("x", {})


def test_a_file_gives_the_symbols_that_are_asked_for(tmp_path: Path) -> None:
    opened, values = series(30)
    lines = [f"{name},{t},{','.join(map(str, row))}" for name in "BA" for t, row in zip(opened, values.tolist(), strict=True)]
    file = tmp_path / "candles.csv"
    file.write_text("\n".join(["symbol,open_time,open,high,low,close,volume", *lines, ""]))
    assert from_file(file).symbols == ["A", "B"]
    assert from_file(file, ["B"]).symbols == ["B"]
    with pytest.raises(UserError, match="it has A, B"):
        from_file(file, ["C"])
