"""Kafka's jars: the lock is read strictly, the bytes are checked, the cache is reused without a network."""

from __future__ import annotations

import errno
import hashlib
import re
from importlib import resources
from pathlib import Path

import pytest

from infra.broker import artifacts
from infra.broker.artifacts import Pin, ensure_jars, locked_kafka_version, locked_pins, missing_pins, parse_lock
from infra.errors import UserError

SHA = "a" * 64


def pin_of(content: bytes) -> Pin:
    return Pin("org.example", "thing", "1.0", hashlib.sha256(content).hexdigest())


def mirror_with(folder: Path, pin: Pin, content: bytes) -> str:
    jar = folder / pin.repository_path
    jar.parent.mkdir(parents=True, exist_ok=True)
    jar.write_bytes(content)
    return folder.as_uri()


def test_a_lock_line_names_a_coordinate_and_a_checksum() -> None:
    pins = parse_lock(f"# why\n\norg.apache.kafka:kafka-clients:4.4.0 {SHA}  # a comment\n")
    assert pins == (Pin("org.apache.kafka", "kafka-clients", "4.4.0", SHA),)
    assert pins[0].repository_path == "org/apache/kafka/kafka-clients/4.4.0/kafka-clients-4.4.0.jar"


@pytest.mark.parametrize(
    "text",
    [
        f"kafka-clients:4.4.0 {SHA}",
        "g:a:1 abc",
        f"g:a:1 {'z' * 64}",
        "g:a:1",
        f"g::1 {SHA}",
        f"g:a:1 {SHA}\nother:a:1 {SHA}",
        "",
    ],
)
def test_a_malformed_doubled_or_empty_lock_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"kafka\.lock"):
        parse_lock(text)


def test_the_shipped_lock_pins_one_kafka_and_names_no_host() -> None:
    text = resources.files("infra.broker").joinpath("kafka.lock").read_text()
    assert not re.search(r"https?:|www\.", text)
    kafka = {pin.version for pin in locked_pins() if pin.group == "org.apache.kafka"}
    assert kafka == {locked_kafka_version()}
    log4j = {pin.version for pin in locked_pins() if pin.group == "org.apache.logging.log4j"}
    assert len(log4j) == 1, "log4j's parts must be of one version"


def test_jars_are_fetched_once_and_then_need_no_repository(tmp_path: Path) -> None:
    pin = pin_of(b"jar")
    url = mirror_with(tmp_path / "mirror", pin, b"jar")
    cache = tmp_path / "cache"
    assert missing_pins([pin], cache) == [pin]
    (jar,) = ensure_jars([pin], cache, url)
    assert jar.read_bytes() == b"jar"
    assert ensure_jars([pin], cache, "file:///nowhere") == [jar]
    assert [path.name for path in cache.iterdir()] == [pin.filename]


def test_a_damaged_jar_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    pin = pin_of(b"jar")
    url = mirror_with(tmp_path / "mirror", pin, b"jar")
    (jar,) = ensure_jars([pin], tmp_path / "cache", url)
    jar.write_bytes(b"half")
    ensure_jars([pin], tmp_path / "cache", url)
    assert jar.read_bytes() == b"jar"


def test_other_bytes_than_pinned_are_refused_and_not_stored(tmp_path: Path) -> None:
    pin = pin_of(b"jar")
    url = mirror_with(tmp_path / "mirror", pin, b"something else")
    with pytest.raises(UserError, match="SHA-256") as caught:
        ensure_jars([pin], tmp_path / "cache", url)
    assert "nothing was stored" in caught.value.do
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_download_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thing-1\.0\.jar cannot be downloaded") as caught:
        ensure_jars([pin_of(b"jar")], tmp_path / "cache", (tmp_path / "empty").as_uri())
    assert "QT_MAVEN_URL" in caught.value.do


def test_the_mirror_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = pin_of(b"jar")
    monkeypatch.setenv("QT_MAVEN_URL", mirror_with(tmp_path / "mirror", pin, b"jar"))
    monkeypatch.setenv("QT_CACHE_DIR", str(tmp_path / "cache"))
    (jar,) = ensure_jars([pin])
    assert jar == tmp_path / "cache" / "jars" / pin.filename


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pin = pin_of(b"jar")
    url = mirror_with(tmp_path / "mirror", pin, b"jar")
    monkeypatch.setattr(artifacts.os, "fsync", full)
    with pytest.raises(UserError, match="no space is left"):
        ensure_jars([pin], tmp_path / "cache", url)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be stored"):
        ensure_jars([pin_of(b"jar")], tmp_path / "file" / "cache", "file:///nowhere")
