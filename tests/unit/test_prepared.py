"""What is kept in the cache for brokers is used only while it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.broker import prepared


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "cache_dir", lambda: tmp_path)


def test_an_archive_that_was_cut_or_never_finished_is_not_used() -> None:
    archive, made = prepared.home() / "classes-x.jsa", prepared.home() / "made"
    assert not prepared.is_whole(archive)
    made.write_bytes(b"x" * 100)
    prepared.keep(made, archive)
    assert prepared.is_whole(archive)
    archive.write_bytes(b"x" * 50)
    assert not prepared.is_whole(archive)
    archive.unlink()
    assert not prepared.is_whole(archive)


def test_a_java_that_makes_no_archive_is_not_asked_again() -> None:
    archive, made = prepared.home() / "classes-y.jsa", prepared.home() / "made"
    made.touch()
    prepared.keep(made, archive)
    assert prepared.is_whole(archive)
    assert archive.stat().st_size == 0


@pytest.mark.parametrize("told", [None, b"", b"node.id=1\n", b"\xff\xfe"])
def test_a_template_without_its_identity_is_not_copied(told: bytes | None) -> None:
    prepared.formatted().mkdir()
    if told is not None:
        (prepared.formatted() / "meta.properties").write_bytes(told)
    assert not prepared.is_formatted()
    (prepared.formatted() / "meta.properties").write_text("version=1\ncluster.id=Qabc\nnode.id=1\n")
    assert prepared.is_formatted()
    first, second = (prepared.copy_formatted(prepared.home() / name) for name in ("one", "two"))
    assert first != second
    assert f"cluster.id={first}\n" in (prepared.home() / "one" / "meta.properties").read_text()
