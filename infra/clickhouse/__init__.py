"""ClickHouse: the embedded engine behind its HTTP interface, the tables of the registry, migrations and the audit of history."""
