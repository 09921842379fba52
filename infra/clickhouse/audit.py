"""Whether the history holds every Kafka record once: rows against offsets, topic by topic."""

from __future__ import annotations

from collections.abc import Mapping

from clickhouse_connect.driver.client import Client

from schemas.topics import BY_NAME

Ends = Mapping[str, Mapping[int, tuple[int, int]]]
"""{topic: {partition: (first offset kept, next offset)}}, as infra.broker.admin.offsets tells them."""


def history_equality(client: Client, ends: Ends) -> dict[str, dict[str, int]]:
    """{topic: {records, rows, holes, doubles}}. `records`: what Kafka holds between the ends, ticks and tombstones too;
    `rows`: distinct offsets in ClickHouse between the same ends; `holes`: offsets without a row before the last that has
    one (what is behind that is not written yet); `doubles`: rows beyond the first of an offset.

    A topic whose records Kafka has thinned (compaction, aborted transactions) has fewer records than its ends say: holes then
    name what only Kafka has dropped as well. Compaction waits for hours here, so a run of minutes shows none.
    """
    found = {}
    for name, partitions in ends.items():
        table = BY_NAME[name].table
        records = sum(high - low for low, high in partitions.values())
        rows = doubles = reached = 0
        between = " OR ".join(
            f"(k_partition = {p} AND k_offset >= {low} AND k_offset < {high})" for p, (low, high) in sorted(partitions.items())
        )
        if between:
            query = (
                "SELECT k_partition, uniqExact(k_offset), count() - uniqExact(k_offset), max(k_offset) + 1 "
                f"FROM {table} WHERE {between} GROUP BY k_partition"
            )
            for partition, distinct, more, end in client.query(query).result_rows:
                rows, doubles, reached = rows + distinct, doubles + more, reached + end - partitions[partition][0]
        found[name] = {"records": records, "rows": rows, "holes": reached - rows, "doubles": doubles}
    return found
