"""Pure: what `automq fsck` found, for a person: how bad it is, which key, what it means to whom, what to do."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from automq.ids import Offset, StreamId
from automq.metadata.image import MetadataImage


class Severity(enum.Enum):
    """How bad a finding is."""

    NOTE = "note"
    """Nothing is wrong: somebody may want to know."""
    WARNING = "warning"
    """Something that is derived, or that nobody needs, is damaged or missing: nothing is lost by it."""
    DAMAGE = "damage"
    """Records, or what says which there are, are damaged or missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """Offsets [start, end) of a partition that are affected; None is up to the partition's end, which is not known."""

    topic: str
    partition: int
    start: Offset
    end: Offset | None

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} [{self.start}, {'?' if self.end is None else self.end})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found."""

    severity: Severity
    key: str
    what: str
    remedy: str = ""
    affected: Sequence[Affected] = ()


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that was looked at."""

    store: str
    cluster_id: str | None = None
    keys: dict[str, int] = field(default_factory=dict)
    """How many keys of each kind."""
    bytes: int = 0
    """Of all of them."""
    findings: list[Finding] = field(default_factory=list)
    is_deep: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether anything of the worst kind was found."""
        return any(finding.severity is Severity.DAMAGE for finding in self.findings)

    def add(self, findings: Iterable[Finding]) -> None:
        """More of them."""
        self.findings.extend(findings)

    def to_dict(self) -> Mapping[str, Any]:
        """For JSON."""
        return {
            "store": self.store,
            "clusterId": self.cluster_id,
            "deep": self.is_deep,
            "keys": self.keys,
            "bytes": self.bytes,
            "findings": [
                {
                    "severity": finding.severity.value,
                    "key": finding.key,
                    "what": finding.what,
                    "remedy": finding.remedy,
                    "affected": [
                        {"topic": part.topic, "partition": part.partition, "start": part.start, "end": part.end}
                        for part in finding.affected
                    ],
                }
                for finding in self.findings
            ],
        }


def affected(image: MetadataImage, stream: StreamId, start: Offset, end: Offset | None) -> Affected:
    """`stream`'s offsets, by the partition's name."""
    found = image.stream(stream)
    topic = None if found is None else image.topic_by_id(found.topic_id)
    if found is None or topic is None:
        return Affected(topic=f"stream {stream}", partition=-1, start=start, end=end)
    return Affected(topic=topic.name, partition=found.partition, start=start, end=end)
