"""Pure: the table of docs/metrics.md, from what a broker declares."""

from collections.abc import Iterable, Mapping
from typing import Final

from automq.runtime.telemetry import Family
from automq.server.observability.face import markdown

SUBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Health": (
        "automq_build_info",
        "automq_ready",
        "automq_state",
        "automq_reason",
        "automq_controller",
        "automq_lease",
    ),
    "Requests": ("automq_request", "automq_data_request", "automq_connections", "automq_network"),
    "Topics and partitions": (
        "automq_topic",
        "automq_open_partitions",
        "automq_partition",
        "automq_quarantined",
        "automq_fetch",
        "automq_retention",
    ),
    "Groups": ("automq_group",),
    "Durability": ("automq_wal", "automq_not_uploaded", "automq_upload", "automq_damaged", "automq_metadata"),
    "Compaction of objects": ("automq_compaction", "automq_objects"),
    "Zones": ("automq_zone", "automq_replicas_named"),
    "Moves": ("automq_balancer", "automq_broker_", "automq_led_", "automq_contact"),
    "Object store": ("automq_store", "automq_orphans"),
    "Memory and caches": ("automq_memory", "automq_arena", "automq_block_cache"),
    "Event loop": ("automq_event_loop",),
}
"""Headings, and how the names begin that stand below them."""
OTHERS: Final = "Others"


def subject_of(name: str) -> str:
    """The heading that a metric stands below."""
    fitting = [
        (len(start), subject) for subject, starts in SUBJECTS.items() for start in starts if name.startswith(start)
    ]
    return max(fitting)[1] if fitting else OTHERS


def metrics_tables(families: Iterable[Family]) -> str:
    """A table below each heading."""
    by_subject: dict[str, list[Family]] = {subject: [] for subject in (*SUBJECTS, OTHERS)}
    for family in families:
        by_subject[subject_of(family.name)].append(family)
    parts: list[str] = []
    for subject, found in by_subject.items():
        if not found:
            continue
        rows = [
            (
                f"`{family.shown_name}`",
                family.kind,
                ", ".join(f"`{label}`" for label in family.labels),
                family.help_text,
            )
            for family in sorted(found, key=lambda family: family.name)
        ]
        parts += [f"## {subject}", markdown(("metric", "type", "labels", "meaning"), rows)]
    return "\n\n".join(parts)
