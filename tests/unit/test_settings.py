"""What a user may set wrongly is refused by name when the settings are read, not where it would be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.settings import load
from streams.commands import _iso, read_policy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QT_SPEED", "inf"),
        ("QT_SPEED", "nan"),
        ("QT_SYMBOLS", ""),
        ("QT_SYMBOLS", " , "),
        ("QT_CLICKHOUSE_URL", "http://127.0.0.1:99999"),
        ("QT_CLICKHOUSE_URL", "127.0.0.1"),
        ("QT_VENUE_URL", "http://:8000"),
        ("QT_SESSION_TIMEOUT_S", "inf"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        load()
    assert name.removeprefix("QT_").lower() in caught.value.what


def test_a_configuration_that_is_no_text_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path, binary, tmp_path / "nowhere"):
        monkeypatch.setenv("QT_CONFIG", str(path))
        with pytest.raises(UserError) as caught:
            load()
        assert caught.value.do


def test_a_policy_that_is_no_text_is_told(tmp_path: Path) -> None:
    binary = tmp_path / "policy.json"
    binary.write_bytes(b"\x7fELF\xff\xfe")
    for path in (binary, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_policy(path)


def test_a_time_that_is_no_date_is_shown_as_it_is() -> None:
    assert _iso(1_764_158_400_000) == "2025-11-26T12:00:00+00:00"
    assert "no date" in _iso(10**18)
    assert "no date" in _iso(10**30)
