"""More questions of the differential test: trimmed logs, limits, and one request in many versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.compat.questions import Ask, Step, create, fetch, find, list_offsets, produce

SPECIAL = (-1, -2, -3, -4, -5, -6, -7, 0, 1_700_000_000_060, 1_700_000_000_200)
NAMES = ("$group", "$other")
BOTH = [{"name": "$topic"}, {"name": "a/b"}]
NO_MAKING = {"allow_auto_topic_creation": False}


def deletion(group: str, *partitions: int) -> Mapping[str, Any]:
    parts = [{"partition_index": index} for index in partitions]
    return {"group_id": group, "topics": [{"name": "$topic", "partitions": parts}]}


def delete_records(offset: int) -> Ask:
    partition = {"partition_index": 0, "offset": offset}
    return Ask("DELETE_RECORDS", 2, {"topics": [{"name": "$topic", "partitions": [partition]}], "timeout": 5000})


LOG_QUESTIONS: Mapping[str, Sequence[Step]] = {
    "list-offsets-of-a-trimmed-log": [
        create(),
        produce({"values": ["a", "b", "c"], "timestamp_ms": 1_700_000_000_100}),
        produce({"values": ["d"], "timestamp_ms": 1_700_000_000_050}),
        produce({"values": ["e", "f"], "timestamp_ms": 1_700_000_000_090}),
        *(list_offsets(timestamp, version=version) for timestamp in SPECIAL for version in (1, 4, 6, 7, 8, 9, 11)),
        delete_records(3),
        *(list_offsets(timestamp) for timestamp in (-1, -2, -3, -4, 0, 1_700_000_000_051, 1_700_000_000_091)),
        fetch(2),
        fetch(3),
        delete_records(5),
        fetch(4),
        fetch(5),
        *(list_offsets(timestamp) for timestamp in (-2, 0, 1_700_000_000_091)),
    ],
    "fetch-limits": [
        create(),
        *(produce({"values": ["x" * 100]}) for _ in range(4)),
        fetch(0, max_bytes=0),
        fetch(0, max_bytes=1),
        fetch(0, max_bytes=250),
        fetch(0, max_bytes=-1),
        fetch(1, min_bytes=0),
        fetch(4, min_bytes=0),
        fetch(0, max_wait=0, min_bytes=1 << 20),
        fetch(0, isolation_level=1),
        *(fetch(0, version=version) for version in (4, 5, 7, 9, 10, 11, 12)),
    ],
    "metadata-versions": [
        create(partitions=2),
        *(
            Ask(
                "METADATA",
                version,
                {"topics": [{"name": "$topic"}, {"name": "a/b"}]} | ({} if version < 4 else NO_MAKING),
            )
            for version in (0, 1, 4, 7, 8, 9, 10, 12)
        ),
    ],
    "offset-fetch-versions": [
        find(),
        create(),
        *(
            Ask(
                "OFFSET_COMMIT",
                version,
                {
                    "group_id": "$group",
                    "generation_id_or_member_epoch": -1,
                    "topics": [
                        {
                            "name": "$topic",
                            "partitions": [
                                {"partition_index": 0, "committed_offset": version, "committed_metadata": "m"},
                                {"partition_index": 7, "committed_offset": version},
                            ],
                        }
                    ],
                },
            )
            for version in (2, 6, 8, 9)
        ),
        *(
            Ask(
                "OFFSET_FETCH",
                version,
                {"group_id": "$group", "topics": [{"name": "$topic", "partition_indexes": [0, 1, 7]}]},
            )
            for version in (1, 2, 5, 7)
        ),
        *(
            Ask(
                "OFFSET_FETCH",
                version,
                {"groups": [{"group_id": name, "topics": None} for name in ("$group", "$other")]},
            )
            for version in (8, 9)
        ),
        Ask("OFFSET_DELETE", 0, deletion("$group", 0, 7)),
        Ask("OFFSET_DELETE", 0, deletion("$other", 7)),
        Ask("OFFSET_DELETE", 0, deletion("", 7)),
    ],
}
