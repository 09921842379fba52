"""Programs of others that Go builds once a machine: helm, and a control plane of Kubernetes. Kept in the cache.

    helm()             path of helm; QT_HELM and the PATH go first
    control_plane()    name -> path: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok
    files_of(...)      files that a Go module ships beside its code: kwok's stages, the resource definitions of operators

The first build of a control plane takes 10 to 40 minutes and 2 GB of memory: `python -m tests.kube.built` makes everything and
tells how far it is. Raises NotBuilt, with the reason in words.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.paths import cache_dir

HELM = "v4.3.1"
KUBERNETES = "v1.36.3"
ETCD = "v3.6.16"
KWOK = "v0.8.0"

COMMANDS = {
    "etcd": (ETCD, "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler"),
}
MODULE = """\
module quantum.test/kube

go 1.26.0

godebug default=go1.26

require k8s.io/kubernetes {kubernetes}
require go.etcd.io/etcd/server/v3 {etcd}

{replaced}
"""


class NotBuilt(Exception):
    """Why a program is not there."""


def helm() -> str:
    if found := os.environ.get("QT_HELM") or shutil.which("helm"):
        return found
    return str(_installed("helm", HELM, "helm.sh/helm/v4/cmd/helm"))


def control_plane() -> dict[str, Path]:
    found = {name: _place(name, version) for name, (version, _) in COMMANDS.items()}
    if missing := [name for name, path in found.items() if not path.exists()]:
        folder = _module()
        for name in missing:
            _build(folder, COMMANDS[name][1], found[name])
    return found | {"kwok": _installed("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok")}


def files_of(module: str, version: str, paths: Sequence[str]) -> list[Path]:
    """Copies in the cache of these files of a Go module."""
    folder = cache_dir() / "kube" / f"{module.replace('/', '+')}-{version}"
    kept = [folder / Path(path).name for path in paths]
    if not all(path.exists() for path in kept):
        source = Path(json.loads(_go("mod", "download", "-json", f"{module}@{version}"))["Dir"])
        folder.mkdir(parents=True, exist_ok=True)
        for path, copy in zip(paths, kept, strict=True):
            shutil.copyfile(source / path, copy)
    return kept


def _installed(name: str, version: str, package: str) -> Path:
    place = _place(name, version)
    if not place.exists():
        _go("install", "-trimpath", "-ldflags", "-s -w", f"{package}@{version}", GOBIN=str(place.parent))
        (place.parent / name).rename(place)
    return place


def _place(name: str, version: str) -> Path:
    return cache_dir() / "bin" / f"{name}-{version}"


def _module() -> Path:
    """A module that requires Kubernetes, with the parts that its own go.mod takes from its tree taken from their releases."""
    folder = cache_dir() / "kube-src"
    folder.mkdir(parents=True, exist_ok=True)
    released = KUBERNETES.replace("v1.", "v0.", 1)
    told = json.loads(_go("mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}"))
    staged = re.findall(r"^\s+(k8s\.io/\S+) => \./staging", Path(told["GoMod"]).read_text(), re.M)
    replaced = "\n".join(f"replace {name} => {name} {released}" for name in staged)
    (folder / "go.mod").write_text(MODULE.format(kubernetes=KUBERNETES, etcd=ETCD, replaced=replaced))
    imports = "\n".join(f'import _ "{package}"' for _, package in COMMANDS.values())
    (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}\n")
    _go("mod", "tidy", cwd=folder)
    return folder


def _build(folder: Path, package: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    version = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    said = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())
    part = place.with_name(f".{place.name}.part")
    _go("build", "-trimpath", "-ldflags", f"-s -w {said}", "-o", str(part), package, cwd=folder)
    part.rename(place)


def _go(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    if shutil.which("go") is None:
        raise NotBuilt("Go is not installed, and the cache does not have it")
    env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"} | environment
    sys.stderr.write(f"go {' '.join(arguments)[-100:]}\n")
    done = subprocess.run(["go", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotBuilt(f"go {' '.join(arguments)}: {done.stderr[-300:]}")
    return done.stdout


def main() -> None:
    try:
        made = [helm(), *map(str, control_plane().values())]
    except NotBuilt as why:
        made = [f"NOT BUILT: {why}"]
    sys.stderr.write("\n".join(made) + "\n")


if __name__ == "__main__":
    main()
