"""Pure: from the settings tree to what each component wants to know of it."""

from collections.abc import Mapping
from typing import Final

from automq.controller.compaction_plan import CompactionSettings
from automq.controller.model import ControllerSettings
from automq.coordinators.group.model import GroupSettings
from automq.handlers.broker_configs import BrokerConfig, BrokerConfigs, ConfigSource
from automq.handlers.fetch import FetchSettings
from automq.ids import NodeId
from automq.metadata.claim import ClaimantAddress
from automq.metadata.config_types import ConfigType
from automq.metadata.records import INTERNAL_LISTENER, Endpoint
from automq.partition.manager import PartitionSettings
from automq.runtime.ledger import Account
from automq.s3stream.settings import StorageSettings
from automq.s3stream.store.uri import StoreKind, parse_store_uri
from automq.server.config.memory import NAMES
from automq.server.config.message_limit import message_limit
from automq.server.config.setting import Kind
from automq.server.config.settings import Settings, declared_settings
from automq.server.network.admission import connection_limits
from automq.server.network.host import ListenerSettings

# A PUT to S3 takes tens of milliseconds and costs money, one to a folder neither.
WAL_INTERVAL_MS: Final[Mapping[StoreKind, int]] = {StoreKind.S3: 250, StoreKind.FILE: 2, StoreKind.MEMORY: 2}

COMPACTED_BYTES_MAX: Final = 64 * 1024 * 1024
COMPACTION_READ_BYTES_MAX: Final = 8 * 1024 * 1024
# Smaller ones would be turns without end; with very many sources a job takes more memory than its account says.
COMPACTION_READ_BYTES_MIN: Final = 256 * 1024

CONFIG_TYPES: Final[Mapping[Kind, ConfigType]] = {
    Kind.BOOLEAN: ConfigType.BOOLEAN,
    Kind.STRING: ConfigType.STRING,
    Kind.INT: ConfigType.INT,
    Kind.LONG: ConfigType.LONG,
    Kind.DOUBLE: ConfigType.DOUBLE,
    Kind.LIST: ConfigType.LIST,
}


def storage_settings(settings: Settings) -> StorageSettings:
    """The engine's."""
    engine = settings.engine
    kind = parse_store_uri(settings.cluster.storage_uri).kind
    return StorageSettings(
        arena_bytes=settings.memory[Account.ARENAS],
        upload_bytes=settings.upload_bytes,
        block_cache_bytes=settings.memory[Account.BLOCK_CACHE],
        cold_read_bytes=settings.memory[Account.COLD_READS],
        index_cache_bytes=settings.memory[Account.INDEX_CACHE],
        log_cache_index_bytes=settings.memory[Account.LOG_CACHE_INDEX],
        checkpoint_bytes=settings.memory[Account.CHECKPOINTS],
        upload_memory_bytes=settings.memory[Account.UPLOADS],
        recovery_bytes=settings.memory[Account.RECOVERY],
        upload_interval_ms=engine.upload_interval_ms,
        wal_interval_ms=WAL_INTERVAL_MS[kind] if engine.wal_interval_ms is None else engine.wal_interval_ms,
        wal_batch_bytes=engine.wal_batch_bytes,
        batch_bytes_max=message_limit(settings.memory, settings.server.request_bytes_max).bytes_max,
        wal_inflight=engine.wal_in_flight,
    )


def controller_settings(settings: Settings) -> ControllerSettings:
    """The controller's."""
    return ControllerSettings(
        partitions_default=settings.topics.partitions_default,
        replication_factor_default=settings.topics.replication_factor_default,
        message_limit=message_limit(settings.memory, settings.server.request_bytes_max),
        orphan_sweep_interval_s=settings.engine.orphan_sweep_interval_ms / 1000,
        session_timeout_ms=settings.membership.session_timeout_ms,
        balances=settings.balancer.enabled,
        balance_interval_s=settings.balancer.interval_ms / 1000,
    )


def compaction_settings(settings: Settings) -> CompactionSettings:
    """Object compaction's. Half of its memory is for the object in the making, half for what is read."""
    memory = settings.memory[Account.COMPACTION]
    return CompactionSettings(
        sources=settings.compaction.sources,
        object_bytes=min(COMPACTED_BYTES_MAX, memory // 2),
    )


def compaction_read_bytes(settings: Settings) -> int:
    """What a job holds of one source: its sources share what is for reading."""
    share = settings.memory[Account.COMPACTION] // 2 // settings.compaction.sources
    return min(COMPACTION_READ_BYTES_MAX, max(COMPACTION_READ_BYTES_MIN, share))


def partition_settings(settings: Settings) -> PartitionSettings:
    """The partitions'."""
    return PartitionSettings(
        retention_check_interval_ms=settings.topics.retention_check_interval_ms,
        producer_id_expiration_ms=settings.topics.producer_id_expiration_ms,
        topic_defaults=settings.topic_defaults,
        metric_topics_max=settings.server.metric_topics_max,
        validates_records=settings.topics.produce_validation == "records",
    )


def group_settings(settings: Settings) -> GroupSettings:
    """The group coordinator's."""
    groups = settings.groups
    return GroupSettings(
        offsets_topic_partitions=groups.offsets_partitions,
        offsets_topic_replication_factor=groups.offsets_replication_factor,
        initial_rebalance_delay_ms=groups.initial_rebalance_delay_ms,
        session_timeout_ms_min=groups.session_timeout_ms_min,
        session_timeout_ms_max=groups.session_timeout_ms_max,
        members_max=groups.members_max,
        metric_groups_max=settings.server.metric_groups_max,
        offset_metadata_length_max=groups.offset_metadata_bytes_max,
        offsets_retention_ms=groups.offsets_retention_minutes * 60_000,
        offsets_retention_check_interval_ms=groups.offsets_retention_check_interval_ms,
    )


def listener_settings(settings: Settings, *, descriptors: int | None) -> ListenerSettings:
    """The connections'. `descriptors` is how many the process may open; None where nothing says."""
    server = settings.server
    return ListenerSettings(
        request_bytes_max=server.request_bytes_max,
        connections=connection_limits(
            asked=server.connections_max_asked,
            descriptors=descriptors,
            memory_bytes=settings.memory[Account.CONNECTIONS],
            per_host_max=server.connections_per_host_max,
            per_host_overrides=server.connections_per_host_overrides,
        ),
        idle_ms_max=None if server.idle_ms_max < 0 else server.idle_ms_max,
        fetch=FetchSettings(request_bytes_max=server.fetch_bytes_max),
    )


def broker_configs(settings: Settings) -> BrokerConfigs:
    """What handlers see."""
    return BrokerConfigs(
        entries={name: _entry(settings, name) for name in declared_settings()},
        topic_defaults=settings.topic_defaults,
        auto_create_topics=settings.topics.auto_create,
        delete_topics=settings.topics.delete_enabled,
        partitions_default=settings.topics.partitions_default,
        replication_factor_default=settings.topics.replication_factor_default,
    )


def _entry(settings: Settings, name: str) -> BrokerConfig:
    declared = declared_settings()[name]
    text = settings.texts.get(name)
    value = text if text is not None else default_value(settings, name)
    return BrokerConfig(
        name=name,
        value=value,
        source=ConfigSource.DEFAULT if text is None else ConfigSource.STATIC_BROKER,
        type=CONFIG_TYPES[declared.kind],
        doc=declared.doc,
    )


def default_value(settings: Settings, name: str) -> str | None:
    """A setting's default on this machine, as text; the declaration's words where it is no simple value."""
    computed = {
        "automq.memory.bytes": sum(settings.memory.values()),
        "automq.upload.bytes": settings.upload_bytes,
        **{NAMES[account]: settings.memory[account] for account in (Account.ARENAS, Account.BLOCK_CACHE)},
    }
    if name in computed:
        return str(computed[name])
    declared = declared_settings()[name]
    value = None if declared.default is None else declared.default(settings.machine)
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case _:
            return declared.default_text


def endpoints(settings: Settings, ports: Mapping[str, int]) -> list[Endpoint]:
    """What the broker registers: its advertised listeners, port 0 replaced by the real one."""
    return [
        Endpoint(listener.name, listener.address.host, listener.address.port or ports[listener.name])
        for listener in settings.advertised()
    ]


def internal_address(settings: Settings, port: int) -> ClaimantAddress:
    """Where other brokers reach this one, which listens for them on `port`."""
    address = settings.internal_advertised()
    return ClaimantAddress(address.host, address.port or port)


def internal_endpoint(where: ClaimantAddress) -> Endpoint:
    """The same, as it is registered."""
    return Endpoint(INTERNAL_LISTENER, where.host, where.port)


def node_of(settings: Settings) -> NodeId:
    """Who we are."""
    return NodeId(settings.node.node_id)
