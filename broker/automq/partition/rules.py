"""Pure: from a topic's config to what its partitions check and keep."""

from dataclasses import dataclass
from typing import Final

from automq.metadata.configs import TopicConfig
from automq.partition.retention import RetentionRules
from automq.partition.validation import AppendRules
from automq.protocol.compression import Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRules:
    """What the topic's config says about one partition."""

    append: AppendRules = AppendRules()
    retention: RetentionRules = RetentionRules()
    is_compact_only: bool = False


# `producer` is not here: batches stay as they came.
_COMPRESSIONS: Final = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


def rules_of(
    config: TopicConfig,
    *,
    batch_bytes_max: int,
    append_bytes_max: int,
    is_internal: bool = False,
    validates_records: bool = True,
) -> PartitionRules:
    """`batch_bytes_max` is what the engine takes, whatever the topic allows; `append_bytes_max` in a shared slot."""
    return PartitionRules(
        append=AppendRules(
            batch_bytes_max=min(config.max_message_bytes, batch_bytes_max),
            internal_bytes_max=append_bytes_max,
            is_log_append_time=config.message_timestamp_type == "LogAppendTime",
            before_ms_max=config.message_timestamp_before_max_ms,
            after_ms_max=config.message_timestamp_after_max_ms,
            compression=_COMPRESSIONS.get(config.compression_type),
            compression_level=_level(config),
            is_compacted=config.is_compacted,
            is_internal_only=is_internal,
            validates_records=validates_records,
        ),
        retention=RetentionRules(
            deletes=config.is_deleted, age_ms_max=config.retention_ms, size_bytes_max=config.retention_bytes
        ),
        is_compact_only=config.is_compacted and not config.is_deleted,
    )


def _level(config: TopicConfig) -> int | None:
    """The level for the topic's own compression; None is the library's."""
    if config.compression_type == "gzip":
        return config.compression_gzip_level if config.compression_gzip_level > 0 else None
    if config.compression_type == "lz4":
        return config.compression_lz4_level
    if config.compression_type == "zstd":
        return config.compression_zstd_level
    return None
