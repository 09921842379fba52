"""The broker's settings: one node, little memory, many small partitions.

What differs from Kafka's defaults does so for one of three reasons: a single node (replication 1), a small machine
(few threads and buffers; about 300 partitions, each with files preallocated per segment), or a quick start and restart.
"""

from __future__ import annotations

from pathlib import Path


def server_properties(host: str, port: int, controller_port: int, log_dirs: Path) -> str:
    """The text of `server.properties`."""
    settings = {
        # one node that is broker and controller
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{host}:{controller_port}",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log_dirs,
        # topics come from the registry, never from a typing mistake
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.num.partitions": 4,
        # a group that was away for longer than Kafka's week would find its place gone, and history write everything twice
        "offsets.retention.minutes": 5 * 366 * 24 * 60,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # a small machine
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
        "log.segment.bytes": 64 * 1024 * 1024,
        # two index files a segment are preallocated in this size; 1 MB indexes far more than a segment holds
        "log.index.size.max.bytes": 1024 * 1024,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.cleaner.threads": 1,
        "metrics.num.samples": 1,
        # after kill -9 the controller refuses the new broker until the old one's session has passed
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # groups form at once: our workers start together and are few
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 2000,
    }
    return "".join(f"{key}={_escaped(str(value))}\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """Java reads property files as Latin-1: a path in any other script is written in `\\uXXXX` units."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)


LOG4J2 = """\
status=warn
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=${sys:quantum.log}
appender.file.filePattern=${sys:quantum.log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
rootLogger.appenderRef.console.ref=console
rootLogger.appenderRef.console.level=error
# `Kafka Server started`: the console's output begins anew with each start, so the line means this start
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=info
logger.started.appenderRef.console.ref=console
# one line per partition and start is noise among 300 partitions
logger.log.name=org.apache.kafka.storage.internals.log
logger.log.level=warn
logger.partition.name=kafka.cluster.Partition
logger.partition.level=warn
logger.state.name=state.change.logger
logger.state.level=warn
logger.kafkalog.name=kafka.log
logger.kafkalog.level=warn
"""
