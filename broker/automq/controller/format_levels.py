"""Pure: which kinds of records may be written yet, so that a cluster can be rolled to the next release and back.

A program reads every format level up to its own (`FORMAT_LEVEL`). It writes the kinds of records of a level only once
the cluster was raised to it: before that, brokers of the release before read everything, and may take over at any time.
What a release cannot do without (`WRITTEN_LEVEL`) was readable one release earlier; a claim raises the cluster to that.
The rest a person raises, when there is no way back any more that somebody wants to keep. Levels never fall.
"""

from collections.abc import Iterable
from typing import Final

from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.metadata.records import FORMAT_LEVEL, RECORD_LEVELS, FormatLevelRaised, MetadataRecord
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision

WRITTEN_LEVEL: Final = 3
"""What this program writes whether or not anybody has raised the cluster to it."""


def level_at_claim(image: MetadataImage) -> int:
    """What whoever claims the cluster raises it to: a new one, to everything."""
    return FORMAT_LEVEL if image.record_number == 0 else max(image.format_level, WRITTEN_LEVEL)


def check_writable(level: int, records: Iterable[MetadataRecord]) -> None:
    """Rule: no record is written that a program of the cluster's level cannot read. Raises ApiError.

    `level` is the cluster's; what the records themselves raise counts for those behind.
    """
    for record in records:
        needed = RECORD_LEVELS[type(record)]
        if isinstance(record, FormatLevelRaised):
            level = max(level, record.level)
        elif needed > level:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"{type(record).__name__} is of format level {needed}, and the cluster is at {level}: raise it first",
            )


def check_reads(image: MetadataImage, node: NodeId, level: int) -> None:
    """Rule: no broker serves beside others what it cannot read. Raises ApiError."""
    if level < image.format_level:
        raise ApiError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"broker {node} reads format levels up to {level}, and the cluster is at {image.format_level}: start a "
            "newer release",
        )


def raise_level(image: MetadataImage, level: int) -> Decision[MetadataRecord, None]:
    """Raise the cluster to `level`, for good. Repeated it records nothing. Raises ApiError when that cannot be."""
    if level == image.format_level:
        return Decision((), None)
    if not image.format_level < level <= FORMAT_LEVEL:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION,
            f"the cluster is at format level {image.format_level}, which never falls, and this controller knows "
            f"levels up to {FORMAT_LEVEL}",
        )
    behind = sorted(broker.node for broker in image.brokers() if not broker.fenced and broker.format_level < level)
    if behind:
        raise ApiError(
            ErrorCode.FEATURE_UPDATE_FAILED,
            f"brokers {', '.join(map(str, behind))} do not read format level {level}: start a newer release there",
        )
    return Decision((FormatLevelRaised(level=level),), None)
