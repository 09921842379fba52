"""A real Kubernetes control plane on free ports of this machine, with one node whose pods are simulated by kwok.

    with Cluster(folder) as cluster:
        cluster.post({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "desk"}})
        cluster.objects("desk")      # everything that lies in a namespace

Real: validation, defaults, admission, pod security, controllers, scheduling, garbage collection. Not real: a pod turns Running and
Ready though nothing of its image has run, and a Job's pod succeeds; what an image does is asked of
containers (`make image-test`).
"""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from infra import children
from infra.ports import free_ports
from tests.kube import built

TOKEN = "of-this-run-alone"
BUSY, BUSY_TIMES = 429, 30
DEFINITIONS = (
    ("github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_"),
    ("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_"),
)
DEFINED = (("podmonitors.yaml", "prometheusrules.yaml"), ("scaledobjects.yaml", "triggerauthentications.yaml"))
STAGES = (
    *("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml"),
    *("pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml"),
)
ONCE = {"key": ".spec.restartPolicy", "operator": "In", "values": ["Never"]}
"""A pod that runs once, as `helm test` makes one, completes like a Job's."""
SYSTEM = ("events", "componentstatuses", "endpoints", "endpointslices", "leases", "controllerrevisions", "pods/status")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "simulated",
        "labels": {"kubernetes.io/hostname": "simulated", "topology.kubernetes.io/zone": "a", "disk": "ssd"},
    },
    "status": {side: {"cpu": "64", "memory": "256Gi", "pods": "500"} for side in ("capacity", "allocatable")},
}


class Refused(Exception):
    """What the API server answered, in its own words."""


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._running: list[tuple[str, children.Child]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    # -- the API

    def get(self, path: str) -> dict[str, Any]:
        return self._ask("GET", path)

    def post(self, told: dict[str, Any]) -> dict[str, Any]:
        """Makes an object. Raises Refused."""
        return self._ask("POST", self._place(told), told)

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    def objects(self, namespace: str) -> dict[str, dict[str, Any]]:
        """`Kind/name` -> object, of all that somebody has put into a namespace; not what Kubernetes itself keeps in each."""
        found = {}
        for kind, path in self._listed(namespaced=True):
            for each in self.get(path.format(namespace=namespace)).get("items") or []:
                found[f"{kind}/{each['metadata']['name']}"] = {"kind": kind} | each  # items of a list do not tell theirs
        for name in ("ServiceAccount/default", "ConfigMap/kube-root-ca.crt"):
            found.pop(name, None)
        return found

    def cluster_wide(self, release: str) -> set[str]:
        """`Kind/name` of what a release has put outside of namespaces."""
        label = f"?labelSelector=app.kubernetes.io/instance%3D{release}"
        return {
            f"{kind}/{each['metadata']['name']}"
            for kind, path in self._listed(namespaced=False)
            for each in self.get(path + label).get("items") or []
        }

    def wait(self, what: str, until: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {timeout_s:.0f} s: {what}")
            for name, child in self._running:
                assert child.poll() is None, f"{name} has ended, see {self.folder / name}.log"
            time.sleep(0.5)

    def _listed(self, namespaced: bool) -> list[tuple[str, str]]:
        """(kind, path of its list) of all kinds that can be listed."""
        if not hasattr(self, "_kinds"):
            groups = ["/api/v1"] + [f"/apis/{g['preferredVersion']['groupVersion']}" for g in self.get("/apis")["groups"]]
            self._kinds = [(group, each) for group in groups for each in self.get(group)["resources"] if "list" in each["verbs"]]
        return [
            (each["kind"], f"{group}/namespaces/{{namespace}}/{each['name']}" if namespaced else f"{group}/{each['name']}")
            for group, each in self._kinds
            if each["namespaced"] == namespaced and each["name"] not in SYSTEM
        ]

    def _place(self, told: dict[str, Any]) -> str:
        group = "/api/v1" if told["apiVersion"] == "v1" else f"/apis/{told['apiVersion']}"
        plural = told["kind"].lower() + ("es" if told["kind"].endswith("s") else "s")
        namespace = told["metadata"].get("namespace")
        return f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"

    def _ask(self, method: str, path: str, told: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        body = json.dumps(told).encode() if told is not None else None
        asked = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        for left in range(BUSY_TIMES, -1, -1):
            try:
                with urllib.request.urlopen(asked, timeout=30, context=self._trusted) as answer:
                    found: dict[str, Any] = json.loads(answer.read())
                    return found
            except urllib.error.HTTPError as e:
                if e.code != BUSY or not left:
                    raise Refused(e.read().decode()) from e
                time.sleep(1.0)  # the storage of a definition that has just been made is on its way
        raise AssertionError("unreachable")

    # -- the processes

    def _start(self) -> None:
        binaries = built.control_plane()
        self.folder.mkdir(parents=True, exist_ok=True)
        etcd, peer, api = free_ports(3)
        self.url = f"https://127.0.0.1:{api}"
        key, certificate = self._certificate()
        self._trusted = ssl.create_default_context(cafile=str(certificate))
        (self.folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        self.kubeconfig.write_text(json.dumps(self._access(certificate)))
        clients, peers = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        self._run(
            *("etcd", binaries["etcd"], f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}"),
            *(f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}"),
        )
        self._run(
            *("kube-apiserver", binaries["kube-apiserver"], f"--etcd-servers={clients}", f"--secure-port={api}"),
            *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"),
            *(f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--cert-dir={self.folder}"),
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-signing-key-file={key}"),
            *(f"--service-account-key-file={key}", "--service-cluster-ip-range=10.96.0.0/24"),
            *("--authorization-mode=Node,RBAC", "--allow-privileged=true", f"--token-auth-file={self.folder / 'tokens.csv'}"),
        )
        self.wait("the API server answers", self._answers, 180)
        who = (f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")
        self._run(
            *("kube-controller-manager", binaries["kube-controller-manager"], *who, "--use-service-account-credentials=false"),
            *(f"--service-account-private-key-file={key}", f"--root-ca-file={certificate}"),
        )
        self._run("kube-scheduler", binaries["kube-scheduler"], *who)
        for (module, version, where), names in zip(DEFINITIONS, DEFINED, strict=True):
            for file in built.files_of(module, version, [where + name for name in names]):
                defined = self.post(yaml.safe_load(file.read_text()))["metadata"]["name"]
                self.wait(f"{defined} is served", lambda name=defined: self._is_served(name))
        stages = [f"--config={path}" for path in self._stages()]
        simulated = ("--manage-all-nodes=true", "--node-lease-duration-seconds=40", "--cidr=10.244.0.0/16")
        self._run("kwok", binaries["kwok"], f"--kubeconfig={self.kubeconfig}", *simulated, *stages)
        self.post(NODE)
        self.wait("the node is ready", self._node_is_ready)

    def _stages(self) -> list[Path]:
        found = built.files_of("sigs.k8s.io/kwok", built.KWOK, [f"kustomize/stage/{path}" for path in STAGES])
        complete = yaml.safe_load(next(path for path in found if path.name == "pod-complete.yaml").read_text())
        complete["metadata"]["name"] = "pod-once"
        complete["spec"]["selector"]["matchExpressions"][-1] = ONCE
        (once := self.folder / "pod-once.yaml").write_text(yaml.safe_dump(complete))
        return [*found, once]

    def _certificate(self) -> tuple[Path, Path]:
        """(key, certificate) of this run: the server's, its own authority, and the signer of service accounts."""
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        about = ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), *about]
        subprocess.run(made, check=True, capture_output=True)
        return key, certificate

    def _access(self, certificate: Path) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url, "certificate-authority": str(certificate)}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
            "current-context": "here",
        }

    def _run(self, name: str, *argv: Any) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running.append((name, children.spawn(list(map(str, argv)), stdout=log, stderr=log)))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=self._trusted) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _is_served(self, definition: str) -> bool:
        found = self.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition}")["status"].get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in found)

    def _node_is_ready(self) -> bool:
        conditions = self.get("/api/v1/nodes/simulated")["status"].get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _stop(self) -> None:
        """Last in, first out: an API server that has lost its etcd hangs."""
        while self._running:
            children.stop(self._running.pop()[1], 10)
