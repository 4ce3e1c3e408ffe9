"""Questions of the differential test to brokers that apply retention all the time: what goes by age and by size."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.compat.questions import Ask, Pause, Step, Until, alter, create, fetch, list_offsets, produce

OLD_MS, HOUR_MS = 1_600_000_000_000, 3_600_000
EARLIEST = "topics.0.partitions.0.offset"
LARGE = "x" * 600_000
"""Two of them do not fit one segment of Kafka's least size."""
PAUSE_S = 2.5
"""Longer than an upload is put off here: each batch is in an object, as it is in a segment there."""


def config(**values: object) -> list[Mapping[str, Any]]:
    return [{"name": name.replace("_", "."), "value": str(value)} for name, value in values.items()]


def becomes_start(offset: int) -> Until:
    return Until(list_offsets(-2), EARLIEST, offset)


def what_is_left(*offsets: int) -> list[Step]:
    """Special offsets, lookups by time, and reading at each of these offsets."""
    return [
        *(list_offsets(timestamp) for timestamp in (-1, -2, -3, -4, 0, OLD_MS, OLD_MS + 1)),
        *(fetch(offset) for offset in offsets),
        Ask(
            "OFFSET_FOR_LEADER_EPOCH",
            4,
            {
                "replica_id": -1,
                "topics": [
                    {
                        "topic": "$topic",
                        "partitions": [{"partition": 0, "leader_epoch": 0, "current_leader_epoch": -1}],
                    }
                ],
            },
        ),
    ]


RETENTION_QUESTIONS: Mapping[str, Sequence[Step]] = {
    "retention-by-time": [
        create(configs=config(retention_ms=-1)),
        produce({"values": ["a", "b"], "timestamp_ms": OLD_MS}),
        produce({"values": ["c"], "timestamp_ms": OLD_MS + 1}),
        Pause(PAUSE_S),
        # Without a limit everything stays, however old it is.
        list_offsets(-2),
        alter("retention.ms", str(HOUR_MS)),
        becomes_start(3),
        *what_is_left(0, 3),
        produce({"values": ["d"], "timestamp_ms": "$now"}),
        list_offsets(-2),
        list_offsets(OLD_MS),
        # What is old again goes although it was appended later.
        produce({"values": ["e"], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        list_offsets(-2),
        list_offsets(-1),
    ],
    "retention-by-time-of-compact-and-delete": [
        create(configs=config(retention_ms=HOUR_MS, cleanup_policy="compact,delete")),
        produce({"values": ["a"], "timestamp_ms": OLD_MS}),
        becomes_start(1),
        *what_is_left(0, 1),
    ],
    "retention-by-time-of-compact": [
        create(configs=config(retention_ms=HOUR_MS, cleanup_policy="compact")),
        produce({"values": ["a"], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        list_offsets(-2),
        list_offsets(-1),
    ],
    "retention-without-timestamps": [
        create(configs=config(retention_ms=HOUR_MS)),
        produce({"values": ["a"], "timestamp_ms": -1}),
        Pause(PAUSE_S),
        # They are as old as their append.
        list_offsets(-2),
        list_offsets(-3),
        list_offsets(0),
        alter("retention.ms", "1"),
        becomes_start(1),
        fetch(1),
    ],
    "retention-by-size": [
        create(configs=config(retention_ms=-1, retention_bytes=-1, segment_bytes=1_048_576)),
        produce({"values": [LARGE], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        produce({"values": [LARGE], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        produce({"values": [LARGE], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        produce({"values": ["last"], "timestamp_ms": OLD_MS + 1}),
        Pause(PAUSE_S),
        list_offsets(-2),
        # What is left without a whole segment would be less than that: it stays.
        alter("retention.bytes", "1700000"),
        Pause(PAUSE_S),
        list_offsets(-2),
        alter("retention.bytes", "700000"),
        becomes_start(1),
        fetch(0),
        list_offsets(OLD_MS),
        list_offsets(-1),
    ],
    "retention-by-size-of-compact": [
        create(configs=config(retention_bytes=1, segment_bytes=1_048_576, cleanup_policy="compact")),
        produce({"values": [LARGE], "timestamp_ms": OLD_MS}),
        produce({"values": [LARGE], "timestamp_ms": OLD_MS}),
        Pause(PAUSE_S),
        list_offsets(-2),
        list_offsets(-1),
    ],
}
