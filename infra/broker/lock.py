"""Writes `kafka.lock` anew: `python -m infra.broker.lock` after editing ROOTS below. Needs `jgo` and the network.

The jars that the roots need at run time are resolved from their POMs, downloaded (jgo compares the repository's own
checksums) and pinned by SHA-256. Read the diff before committing: whoever writes this file chooses what code runs.

Traps that this file knows:
- Kafka's POM names `kafka-tools-api`, which is not published in that version; the server does not need it.
- Each root is resolved on its own. Together, one root's dependency management would override the versions of the
  others: log4j's would bring a kafka-clients of another major version. What two roots share, the first one decides.
- The slf4j binding must be the one for slf4j 1.7 (`log4j-slf4j-impl`, not `log4j-slf4j2-impl`), and of the same
  version as the log4j that Kafka brings.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from infra.broker.artifacts import LOCK_FILE, Pin

ROOTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5")
EXCLUDED = (("org.apache.kafka", "kafka-tools-api"),)
HEADER = """\
# The embedded Kafka broker: `group:artifact:version sha256` of every jar on its class path.
# Written by `python -m infra.broker.lock`; do not edit by hand.
"""


def resolve(repo_cache: Path) -> list[Pin]:
    """All jars that the roots need at run time, downloaded to `repo_cache` and hashed, sorted by coordinate."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repo_cache)
    excluded = [context.project(group, artifact) for group, artifact in EXCLUDED]
    pins: dict[tuple[str, str], Pin] = {}
    for root in ROOTS:
        inputs, transitive = context.resolver.resolve([context.create_dependency(root, excluded)])
        for dependency in [*inputs, *transitive]:
            key = (dependency.groupId, dependency.artifactId)
            if key not in pins:
                jar = dependency.artifact.resolve()
                sha256 = hashlib.sha256(jar.read_bytes()).hexdigest()
                pins[key] = Pin(*key, dependency.version, sha256)
    return [pins[key] for key in sorted(pins)]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        pins = resolve(Path(folder))
    target = Path(__file__).with_name(LOCK_FILE)
    target.write_text(HEADER + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    sys.stdout.write(f"{len(pins)} jars pinned in {target}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
