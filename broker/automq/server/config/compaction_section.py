"""Pure: the settings of object compaction, a section of the settings tree of its own."""

from dataclasses import dataclass

from automq.server.config.setting import INT64_MAX, MIB, boolean, integer, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSection:
    """How objects are merged and rewritten."""

    enabled: bool = setting(
        "automq.compaction.enable",
        boolean(),
        default=True,
        doc="Whether small objects are merged and half-empty ones rewritten. Without it the number of objects, the "
        "metadata and what a cold read costs grow with time.",
        used_by="controller/compactor",
    )
    interval_ms: int = setting(
        "automq.compaction.interval.ms",
        integer(least=100, most=INT64_MAX),
        default=30_000,
        doc="How often the active controller looks for objects to compact; as long as there are any, one job follows "
        "another.",
        used_by="controller/compactor",
    )
    sources: int = setting(
        "automq.compaction.objects",
        integer(least=2, most=1000),
        default=16,
        doc="So many objects are merged at once. More of them mean fewer rewrites of each byte, and more objects.",
        used_by="controller/compactor",
    )
    bytes_per_second: int = setting(
        "automq.compaction.bytes.per.second",
        integer(least=0, most=INT64_MAX),
        default=64 * MIB,
        doc="How fast compaction reads; 0 is as fast as it can. Below the rate of produced bytes it falls behind.",
        used_by="s3stream/compaction",
    )
