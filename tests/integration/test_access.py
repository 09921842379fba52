"""A worker on a Kafka with TLS and a user: a broker that lets nobody else in, and `control` answering over it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import children
from infra.broker.access import Access, use
from infra.broker.admin import answers, ensure_topics
from infra.broker.embedded import EmbeddedKafka
from infra.ports import free_port, free_ports
from infra.probe import ask
from infra.settings import load
from schemas import topics
from streams.commands import set_policy
from streams.launcher import all_topics, environment, python

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
USER, PASSWORD = "desk", "s3cret-of-the-desk"


class Guarded(EmbeddedKafka):
    """TLS and a user on the one listener for clients and for itself."""

    pem = ("", "")

    def _write_files(self) -> None:
        super()._write_files()
        certificate, key = (text.strip().replace("\n", "\\n") for text in self.pem)
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        told = self._properties.read_text().replace("PLAINTEXT://", "DOOR://")
        told = told.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=DOOR")
        told = told.replace("map=PLAINTEXT\\:PLAINTEXT", "map=DOOR:SASL_SSL").replace(
            "map=PLAINTEXT:PLAINTEXT", "map=DOOR:SASL_SSL"
        )
        self._properties.write_text(
            told
            + "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n"
            + f'listener.name.door.plain.sasl.jaas.config={module} required username="{USER}" '
            + f'password="{PASSWORD}" user_{USER}="{PASSWORD}";\n'
            + f"ssl.keystore.type=PEM\nssl.keystore.certificate.chain={certificate}\nssl.keystore.key={key}\n"
            + f"ssl.truststore.type=PEM\nssl.truststore.certificates={certificate}\n"
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Guarded]:
    files = (tmp_path / "ca.crt", tmp_path / "key.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(made, check=True, capture_output=True)
    port, controller_port = free_ports(2)
    found = Guarded(tmp_path / "kafka", port, controller_port)
    found.pem = (files[0].read_text(), files[1].read_text())
    use(Access("SASL_SSL", "PLAIN", USER, PASSWORD, files[0]))
    found.start()
    try:
        found.wait_ready(120)
        yield found
    finally:
        found.stop()
        use(Access())


def test_control_answers_over_tls_and_nobody_else_gets_in(broker: Guarded, tmp_path: Path) -> None:
    settings = load(
        run_dir=tmp_path / "run",
        kafka_bootstrap=broker.bootstrap,
        kafka_security="SASL_SSL",
        kafka_mechanism="PLAIN",
        kafka_username=USER,
        kafka_password=PASSWORD,
        kafka_ca_file=tmp_path / "ca.crt",
        probe_port=free_port(),
        session_timeout_s=30.0,
    )
    wanted = {t.name for t in topics.ALL if {"control", "*"} & {*t.produced_by, *t.consumed_by}} | {"state.control"}
    ensure_topics(broker.bootstrap, [spec for spec in all_topics() if spec.name in wanted], 120.0)
    with (tmp_path / "control.jsonl").open("ab") as log:
        worker = children.spawn(
            [*python("streams.cli"), "worker", "control"], stdout=log, stderr=log, env=os.environ | environment(settings)
        )
    try:
        deadline = time.monotonic() + 120
        while why := ask(f"http://127.0.0.1:{settings.probe_port}/readyz", 2.0):
            assert time.monotonic() < deadline, why
            time.sleep(0.3)
        assert set_policy(settings, ["risk.leverage=2"], "over TLS", None)["accepted"]
        assert PASSWORD not in (tmp_path / "control.jsonl").read_text()
        use(Access("SASL_SSL", "PLAIN", USER, "another", tmp_path / "ca.crt"))
        assert not answers(broker.bootstrap, 3.0)
        use(Access())
        assert not answers(broker.bootstrap, 3.0)
    finally:
        assert children.stop(worker, 30)
