"""Pure: how long a soak takes, and how everything in it is sized. The ratios are those of a year in a small pod."""

from dataclasses import dataclass

RECORD_BYTES = 1000
"""Value of a record; random, so that nothing hides in compression."""


KEPT = "kept"
NEVER_TRIMMED = frozenset({KEPT, "__consumer_offsets"})


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic of the load."""

    name: str
    partitions: int
    records_per_s: int
    """Of all partitions together, in turn."""
    configs: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One soak."""

    seconds: int
    warm_s: int
    """Caches, arenas and every retention are full after that: what is looked at before does not count."""
    sample_s: float
    upload_ms: int
    short_ms: int
    long_ms: int
    """Two retentions; a third topic is never trimmed. Those of less than a minute are one class, and share objects."""
    partitions: int
    groups: int
    churn_s: float
    """A topic is made, written to and deleted that often."""
    memory_mb: int
    """Little: what is a cache is full before it is looked at."""

    @property
    def settings(self) -> dict[str, object]:
        """Of the broker."""
        return {
            "automq__upload__interval__ms": self.upload_ms,
            "automq__memory__bytes": self.memory_mb << 20,
            "log__retention__check__interval__ms": 1000,
            # Clients ask for topics that they once knew, and would make those anew that are deleted.
            "auto__create__topics__enable": "false",
            "offsets__topic__num__partitions": 4,
        }

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What is written all the time."""
        return (
            Topic(
                name="short",
                partitions=8,
                records_per_s=240,
                configs={"retention.ms": str(self.short_ms)},
            ),
            Topic(name="long", partitions=4, records_per_s=60, configs={"retention.ms": str(self.long_ms)}),
            Topic(
                name="trickle",
                partitions=self.partitions,
                records_per_s=100,
                configs={"retention.ms": str(self.short_ms)},
            ),
            Topic(name=KEPT, partitions=2, records_per_s=2, configs={"cleanup.policy": "compact"}),
        )


LONG = Plan(
    seconds=1200,
    warm_s=300,
    sample_s=5.0,
    upload_ms=3000,
    short_ms=30_000,
    long_ms=120_000,
    partitions=200,
    groups=10,
    churn_s=2.0,
    memory_mb=88,
)
SHORT = Plan(
    seconds=100,
    warm_s=40,
    sample_s=2.0,
    upload_ms=500,
    short_ms=6000,
    long_ms=6000,
    partitions=50,
    groups=5,
    churn_s=1.0,
    memory_mb=88,
)
