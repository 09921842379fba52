"""Alerts and dashboards: each alert is tested, has its section in the runbook, and every query can be read by Prometheus.

That each metric named is exported by a running worker is asked of a running stack (tests/e2e/test_one_stack.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.paths import CHECKOUT
from streams.chart import CHART
from streams.dashboards import dashboards, queries

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
TESTS: dict[str, Any] = yaml.safe_load((CHECKOUT / "tests" / "prometheus" / "alerts.yaml").read_text())


def test_each_alert_fires_once_and_keeps_silent_once_in_its_test() -> None:
    cases = [case for block in TESTS["tests"] for case in block["alert_rule_test"]]
    for rule in RULES:
        mine = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        assert set(mine) == {True, False}, rule["alert"]


def test_each_alert_has_its_section_in_the_runbook() -> None:
    page = (CHECKOUT / "docs" / "runbook.md").read_text()
    sections = {anchor(title): body for title, body in re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", page, re.M)}
    for rule in RULES:
        where = rule["annotations"]["runbook"].removeprefix("docs/runbook.md#")
        assert f"`{rule['alert']}`" in sections[where], f"{where} does not name {rule['alert']}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def test_boards_have_panels_side_by_side_and_one_data_source() -> None:
    for board in dashboards().values():
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)
        assert json.dumps(board).count('"uid": "${datasource}"') == 2 * len(places)


def test_prometheus_agrees(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED: alerts are not fired and queries not read, because there is no promtool (package prometheus)")
    cases = CHECKOUT / "tests" / "prometheus" / "alerts.yaml"
    fired = subprocess.run([promtool, "test", "rules", str(cases)], capture_output=True, text=True, check=False)
    assert fired.returncode == 0, fired.stdout + fired.stderr
    rules = [{"record": f"panel:{n}", "expr": query.replace("$__rate_interval", "1m")} for n, query in enumerate(queries())]
    (file := tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    read = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stdout + read.stderr
