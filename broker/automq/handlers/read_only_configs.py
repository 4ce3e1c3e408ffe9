"""Broker configs that Kafka reads when it starts and that are no settings here: refused as Kafka refuses them.

Others that are no settings here are refused as unknown: what would have no effect is not kept.
"""

from typing import Final


def _names(prefix: str, words: str) -> set[str]:
    return {f"{prefix}.{word}" for word in words.split()}


READ_ONLY_CONFIGS: Final = frozenset(
    {
        "alter.config.policy.class.name",
        "authorizer.class.name",
        "auto.create.topics.enable",
        "auto.leader.rebalance.enable",
        "broker.heartbeat.interval.ms",
        "broker.rack",
        "broker.session.timeout.ms",
        "client.quota.callback.class",
        "connection.failed.authentication.delay.ms",
        "connections.max.idle.ms",
        "controlled.shutdown.enable",
        "controller.listener.names",
        "create.topic.policy.class.name",
        "default.replication.factor",
        "delete.records.purgatory.purge.interval.requests",
        "delete.topic.enable",
        "early.start.listeners",
        "fetch.max.bytes",
        "fetch.purgatory.purge.interval.requests",
        "initial.broker.registration.timeout.ms",
        "inter.broker.listener.name",
        "leader.imbalance.check.interval.seconds",
        "max.incremental.fetch.session.cache.slots",
        "max.request.partition.size.limit",
        "node.id",
        "num.partitions",
        "offset.metadata.max.bytes",
        "process.roles",
        "producer.id.expiration.check.interval.ms",
        "producer.purgatory.purge.interval.requests",
        "queued.max.request.bytes",
        "queued.max.requests",
        "replica.high.watermark.checkpoint.interval.ms",
        "replica.lag.time.max.ms",
        "replica.selector.class",
        "request.timeout.ms",
        "security.inter.broker.protocol",
        "server.max.startup.time.ms",
        "telemetry.max.bytes",
    }
    | _names("controller.performance", "always.log.threshold.ms sample.period.ms")
    | _names("controller.quorum", "append.linger.ms bootstrap.servers election.backoff.max.ms election.timeout.ms")
    | _names("controller.quorum", "fetch.timeout.ms request.timeout.ms retry.backoff.ms voters")
    | _names("controller.quota", "window.num window.size.seconds")
    | _names("delegation.token", "expiry.check.interval.ms expiry.time.ms max.lifetime.ms secret.key")
    | _names("group", "initial.rebalance.delay.ms max.session.timeout.ms max.size min.session.timeout.ms")
    | _names("group.coordinator", "append.linger.ms rebalance.protocols threads")
    | _names("log", "dir dir.failure.timeout.ms dirs flush.offset.checkpoint.interval.ms")
    | _names("log", "flush.start.offset.checkpoint.interval.ms initial.task.delay.ms retention.check.interval.ms")
    | _names("log", "retention.hours retention.minutes roll.hours roll.jitter.hours")
    | _names("metadata", "max.idle.interval.ms max.retention.bytes max.retention.ms")
    | _names("metadata.log", "dir max.record.bytes.between.snapshots max.snapshot.interval.ms segment.bytes segment.ms")
    | _names("metrics", "num.samples recording.level sample.window.ms")
    | _names("offsets", "commit.timeout.ms load.buffer.size retention.check.interval.ms retention.minutes")
    | _names("offsets.topic", "compression.codec num.partitions replication.factor segment.bytes")
    | _names("quota", "window.num window.size.seconds")
    | _names("replica.fetch", "backoff.ms max.bytes min.bytes response.max.bytes wait.max.ms")
    | _names("replica.socket", "receive.buffer.bytes timeout.ms")
    | _names("replication.quota", "window.num window.size.seconds")
    | _names("socket", "connection.setup.timeout.max.ms connection.setup.timeout.ms listen.backlog.size")
    | _names("socket", "receive.buffer.bytes request.max.bytes send.buffer.bytes")
    | _names("transaction", "abort.timed.out.transaction.cleanup.interval.ms max.timeout.ms")
    | _names("transaction", "remove.expired.transaction.cleanup.interval.ms")
    | _names("transaction.state.log", "load.buffer.size min.isr num.partitions replication.factor segment.bytes")
    | {"transactional.id.expiration.ms"}
)
