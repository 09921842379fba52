"""How far each consumer is, from the broker's own books: end offsets against committed ones."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from infra.broker.admin import committed, offsets
from schemas import topics


def group_of(worker: str) -> str:
    """The consumer group of a worker."""
    return f"quantum-{worker}"


def inputs_of(worker: str) -> list[str]:
    return [topic.name for topic in topics.ALL if worker in topic.consumed_by]


def lags(bootstrap: str, workers: Iterable[str]) -> dict[str, dict[str, int]]:
    """{worker: {topic: records not yet applied}}; a partition that was never committed counts whole.

    What is followed without a group (history apart) is no lag of a stage.
    """
    chosen = list(workers)
    wanted = {
        worker: [t for t in inputs_of(worker) if topics.BY_NAME[t] not in topics.FOLLOWED or worker == "history"]
        for worker in chosen
    }
    ends = offsets(bootstrap, {name for names in wanted.values() for name in names})

    def left(worker: str) -> dict[str, int]:
        done = committed(bootstrap, group_of(worker), [(name, p) for name in wanted[worker] for p in ends[name]])
        return {
            name: sum(max(0, high - max(low, done.get((name, p), low))) for p, (low, high) in ends[name].items())
            for name in wanted[worker]
        }

    with ThreadPoolExecutor(max_workers=8) as pool:  # each group is asked by a client of its own
        return dict(zip(chosen, pool.map(left, chosen), strict=True))
