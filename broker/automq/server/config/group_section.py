"""Pure: the settings of groups, a section of the settings tree of its own."""

from dataclasses import dataclass

from automq.server.config.setting import INT64_MAX, integer, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupServerSettings:
    """Consumer groups; Kafka's names and defaults."""

    initial_rebalance_delay_ms: int = setting(
        "group.initial.rebalance.delay.ms",
        integer(),
        default=3_000,
        doc="How long the first rebalance of an empty group waits for more members.",
        used_by="coordinators/group",
    )
    session_timeout_ms_min: int = setting(
        "group.min.session.timeout.ms",
        integer(),
        default=6_000,
        doc="Shortest session time-out that a member may ask for.",
        used_by="coordinators/group",
    )
    session_timeout_ms_max: int = setting(
        "group.max.session.timeout.ms",
        integer(),
        default=1_800_000,
        doc="Longest session time-out that a member may ask for.",
        used_by="coordinators/group",
    )
    members_max: int = setting(
        "group.max.size",
        integer(least=1),
        default=2**31 - 1,
        doc="Most members of a group.",
        used_by="coordinators/group",
    )
    offsets_partitions: int = setting(
        "offsets.topic.num.partitions",
        integer(least=1, most=1_000),
        default=50,
        doc="Partitions of `__consumer_offsets`, when it is made.",
        used_by="coordinators/group",
    )
    offsets_replication_factor: int = setting(
        "offsets.topic.replication.factor",
        integer(least=1, most=16),
        default=3,
        doc="Replication factor that `__consumer_offsets` shows. Nominal, as every replication factor here.",
        used_by="coordinators/group",
    )
    offsets_retention_minutes: int = setting(
        "offsets.retention.minutes",
        integer(least=1),
        default=10_080,
        doc="How long committed offsets outlive their group's last member.",
        used_by="coordinators/group",
    )
    offsets_retention_check_interval_ms: int = setting(
        "offsets.retention.check.interval.ms",
        integer(least=1, most=INT64_MAX),
        default=600_000,
        doc="How often expired offsets are looked for.",
        used_by="coordinators/group",
    )
    offset_metadata_bytes_max: int = setting(
        "offset.metadata.max.bytes",
        integer(),
        default=4_096,
        doc="Longest text that a commit may carry.",
        used_by="coordinators/group",
    )
