"""How clients get onto Kafka: the same word for librdkafka and for Faust; mistakes are told; passwords are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.broker.access import Access, current, reach, use
from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.settings import load, shown
from streams.app import credentials


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = current()
    yield
    use(before)


def test_an_open_kafka_needs_nothing() -> None:
    load()
    assert reach("k:9092") == {"bootstrap.servers": "k:9092"}
    assert credentials(current()) is None


def test_settings_name_the_user_for_every_client(tmp_path: Path) -> None:
    (ca := tmp_path / "ca.crt").write_text("")
    found = load(kafka_security="SASL_SSL", kafka_username="desk", kafka_password="s3cret", kafka_ca_file=ca)
    assert reach("k:9093") == {
        "bootstrap.servers": "k:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "desk",
        "sasl.password": "s3cret",
        "ssl.ca.location": str(ca),
    }
    assert "s3cret" not in repr(found) + repr(found.access)
    use(Access("SASL_PLAINTEXT", "PLAIN", "desk", "s3cret"))
    told = credentials(current())
    assert (told.protocol.value, told.mechanism.value, told.username) == ("SASL_PLAINTEXT", "PLAIN", "desk")


def test_what_is_missing_is_told() -> None:
    with pytest.raises(UserError, match="asks for a user"):
        load(kafka_security="SASL_SSL", kafka_username="desk")
    with pytest.raises(UserError, match="QT_KAFKA_CA_FILE"):
        load(kafka_security="SSL", kafka_ca_file=Path("/nowhere/ca.crt"))


def test_every_client_of_a_worker_asks_how_kafka_is_reached() -> None:
    ours = [*(CHECKOUT / "infra").rglob("*.py"), *(CHECKOUT / "streams").glob("*.py")]  # benches bring a broker of their own
    assert {path.name for path in ours if '"bootstrap.servers"' in path.read_text()} == {"access.py"}


def test_an_address_is_printed_without_its_password() -> None:
    assert shown("https://me:p@ss@clickhouse:8443/x") == "https://clickhouse:8443/x"
    assert shown("http://clickhouse:8123") == "http://clickhouse:8123"
    assert shown("BTCUSDT") == "BTCUSDT"
