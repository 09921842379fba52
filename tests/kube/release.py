"""One release of the chart in one namespace, by helm as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streams.chart import CHART
from tests.kube.cluster import Cluster

WAIT = ("--wait", "--timeout", "240s")


@dataclass
class Release:
    """`street` in a namespace of its own."""

    cluster: Cluster
    namespace: str
    folder: Path
    helm: str
    name: str = "street"

    def install(self, values: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("install", self.name, str(CHART), "-f", str(self._file(values)), *WAIT, *more)

    def upgrade(self, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return self.run("upgrade", self.name, str(CHART), "-f", str(self._file(values)), *WAIT)

    def rollback(self, revision: int) -> subprocess.CompletedProcess[str]:
        return self.run("rollback", self.name, str(revision), *WAIT)

    def uninstall(self) -> subprocess.CompletedProcess[str]:
        return self.run("uninstall", self.name, *WAIT)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [self.helm, *arguments, "-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig)]
        home = {f"HELM_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(argv, env=os.environ | home, capture_output=True, text=True, check=False, timeout=300)

    def objects(self) -> dict[str, dict[str, Any]]:
        return self.cluster.objects(self.namespace)

    def _file(self, values: dict[str, Any]) -> Path:
        (file := self.folder / "values.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(values))))
        return file
