"""From topic configs to rules."""

import pytest
from immutables import Map

from automq.ids import NodeId
from automq.metadata.configs import TopicConfig, effective_topic_config
from automq.metadata.image import TOPIC_RESOURCE, MetadataImage
from automq.partition.rules import rules_of
from automq.protocol.compression import Compression


def config(**overrides: str) -> TopicConfig:
    values = Map({name.replace("_", "."): value for name, value in overrides.items()})
    return effective_topic_config(MetadataImage(configs=Map({(TOPIC_RESOURCE, "t"): values})), "t", NodeId(1))


def test_defaults_are_kafkas() -> None:
    rules = rules_of(config(), batch_bytes_max=8_000_000, append_bytes_max=4_000_000)

    assert rules.append.batch_bytes_max == 1_048_588
    assert rules.append.compression is None
    assert rules.append.validates_records
    assert rules.append.after_ms_max == 3_600_000
    assert rules.retention.deletes
    assert rules.retention.age_ms_max == 7 * 86_400_000
    assert rules.retention.size_bytes_max is None
    assert not rules.is_compact_only


def test_engine_limits_what_the_topic_allows() -> None:
    rules = rules_of(config(max_message_bytes="10000000"), batch_bytes_max=8_000_000, append_bytes_max=4_000_000)

    assert rules.append.batch_bytes_max == 8_000_000
    assert rules.append.internal_bytes_max == 4_000_000


def test_compacted_topic_needs_keys_and_loses_nothing() -> None:
    rules = rules_of(config(cleanup_policy="compact"), batch_bytes_max=1, append_bytes_max=1)

    assert rules.append.is_compacted
    assert rules.append.reads_records
    assert not rules.retention.deletes
    assert rules.is_compact_only


@pytest.mark.parametrize(
    ("name", "kind", "level"),
    [
        ("uncompressed", Compression.NONE, None),
        ("gzip", Compression.GZIP, None),
        ("snappy", Compression.SNAPPY, None),
        ("lz4", Compression.LZ4, 9),
        ("zstd", Compression.ZSTD, 3),
    ],
)
def test_topics_compression(name: str, kind: Compression, level: int | None) -> None:
    rules = rules_of(config(compression_type=name), batch_bytes_max=1, append_bytes_max=1)

    assert (rules.append.compression, rules.append.compression_level) == (kind, level)
    assert rules.append.reads_records


def test_compression_level_of_gzip() -> None:
    rules = rules_of(config(compression_type="gzip", compression_gzip_level="5"), batch_bytes_max=1, append_bytes_max=1)

    assert rules.append.compression_level == 5
