"""Questions of the differential test about topics, records, the cluster: names, numbers, time-outs, nothing."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tests.compat.log_questions import delete_records
from tests.compat.questions import ONE, Ask, Step, create, fetch, list_offsets, produce, topic_id

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1


def topics(*asked: Mapping[str, Any], version: int = 7, **more: Any) -> Ask:
    entries = [{"num_partitions": 1, "replication_factor": 1, **topic} for topic in asked]
    return Ask("CREATE_TOPICS", version, {"topics": entries, "timeout": 10_000, **more})


def grow(name: str, count: int, assignments: Sequence[Sequence[int]] | None = None, **more: Any) -> Ask:
    placed = None if assignments is None else [{"broker_ids": list(brokers)} for brokers in assignments]
    topic = {"name": name, "count": count, "assignments": placed}
    return Ask("CREATE_PARTITIONS", 3, {"topics": [topic], "timeout": 10_000, **more})


def placed(*lists: Sequence[int], first: int = 0, partitions: int = -1, factor: int = -1) -> Mapping[str, Any]:
    rows = [{"partition_index": index, "broker_ids": list(brokers)} for index, brokers in enumerate(lists, start=first)]
    return {"name": "$other", "num_partitions": partitions, "replication_factor": factor, "assignments": rows}


def delete(*names: str, version: int = 5, **more: Any) -> Ask:
    return Ask("DELETE_TOPICS", version, {"topic_names": list(names), "timeout": 10_000, **more})


def metadata(*names: str, version: int = 12, **more: Any) -> Ask:
    return Ask(
        "METADATA", version, {"topics": [{"name": name} for name in names], "allow_auto_topic_creation": False, **more}
    )


def partitions_of(*names: str, **more: Any) -> Ask:
    return Ask("DESCRIBE_TOPIC_PARTITIONS", 0, {"topics": [{"name": name} for name in names], **more})


def epoch(asked: int, *, current: int = -1, topic: str = "$topic", index: int = 0) -> Ask:
    row = {"partition": index, "leader_epoch": asked, "current_leader_epoch": current}
    return Ask("OFFSET_FOR_LEADER_EPOCH", 4, {"replica_id": -1, "topics": [{"topic": topic, "partitions": [row]}]})


NAMES = ("..", "...", "a b", "a/b", "\u00e4", "a\u0000", "-", "_", "a" * 249, "a" * 250, "x.y", "x_y", " ", "a\n", "%")

ADMIN_QUESTIONS: Mapping[str, Sequence[Step]] = {
    "topic-names": [
        *(
            step
            for name in NAMES
            for step in (
                topics({"name": name}, validate_only=True),
                metadata(name),
                produce(ONE, topic=name),
                list_offsets(-1, topic=name),
                delete(name),
                partitions_of(name),
            )
        ),
        create("dotted.name"),
        create("dotted_name"),
        delete("dotted.name"),
    ],
    "topic-numbers": [
        *(
            topics({"name": "$topic", "num_partitions": count, "replication_factor": factor}, validate_only=True)
            for count, factor in ((-1, -1), (0, 1), (-2, 1), (1, 0), (1, -2), (1, -1), (INT_MAX, 1))
        ),
        topics({"name": "$topic", "num_partitions": -1, "replication_factor": -1}),
        topics({"name": "$other"}, {"name": "$other"}, {"name": ""}),
        topics(),
        topics({"name": "$topic"}, validate_only=True),
        *(
            topics({"name": "$other", "configs": [{"name": name, "value": value}]}, validate_only=True)
            for name, value in (("retention.ms", None), ("no.such", None), ("", ""), ("retention.ms", "1"))
        ),
        topics({"name": "$other", "configs": [{"name": "retention.ms", "value": text} for text in "12"]}),
    ],
    "topic-assignments": [
        *(
            topics(row, validate_only=True)
            for row in (
                placed([1]),
                placed([1], [1]),
                placed([7]),
                placed([]),
                placed([1, 1]),
                placed([-1]),
                placed([1], first=1),
                placed([1], partitions=1),
                placed([1], factor=1),
                placed([1], [1, 7]),
            )
        ),
        topics(placed([1], [1])),
        metadata("$other"),
        *(
            grow("$other", count, lists, validate_only=True)
            for count, lists in (
                (3, [[1]]),
                (3, [[7]]),
                (3, []),
                (4, [[1]]),
                (3, [[1], [1]]),
                (3, [[1, 1]]),
                (3, [[]]),
                (0, None),
                (-1, None),
                (INT_MAX, None),
                (2, None),
                (1, None),
            )
        ),
        Ask(
            "CREATE_PARTITIONS",
            3,
            {"topics": [{"name": "$other", "count": 3, "assignments": None}] * 2, "timeout": 1000},
        ),
        Ask("CREATE_PARTITIONS", 3, {"topics": [], "timeout": 1000}),
        grow("", 3),
        grow("a b", 3),
        grow("$other", 3, [[1]]),
        metadata("$other"),
    ],
    "time-outs": [
        create(),
        produce(ONE),
        Ask(
            "PRODUCE",
            9,
            {
                "acks": -1,
                "timeout": 0,
                "topic_data": [{"name": "$topic", "partition_data": [{"index": 0, "records": {"batch": ONE}}]}],
            },
        ),
        Ask(
            "PRODUCE",
            9,
            {
                "acks": -1,
                "timeout": -1,
                "topic_data": [{"name": "$topic", "partition_data": [{"index": 0, "records": {"batch": ONE}}]}],
            },
        ),
        *(
            Ask(
                "DELETE_RECORDS",
                2,
                {
                    "topics": [{"name": "$topic", "partitions": [{"partition_index": 0, "offset": offset}]}],
                    "timeout": timeout,
                },
            )
            for offset, timeout in ((1, 0), (2, -1), (3, INT_MAX))
        ),
        fetch(3, max_wait=0),
        fetch(3, max_wait=-1),
        fetch(3, max_wait=-(2**31)),
        fetch(3, min_bytes=-1),
        fetch(3, min_bytes=INT_MAX, max_wait=1),
        list_offsets(-2),
        grow("$topic", 2, timeout=0),
        topics({"name": "$other"}, timeout=0),
        topics({"name": "$other"}, timeout=-1),
    ],
    "delete-topics": [
        create(),
        create("$other"),
        topic_id(),
        delete(),
        delete("$topic", "$topic"),
        delete(""),
        Ask("DELETE_TOPICS", 6, {"topics": [{"name": "$topic", "topic_id": "$topic_id"}], "timeout": 1000}),
        Ask("DELETE_TOPICS", 6, {"topics": [{"name": None}], "timeout": 1000}),
        Ask("DELETE_TOPICS", 6, {"topics": [{"name": None, "topic_id": uuid.UUID(int=99)}], "timeout": 1000}),
        Ask("DELETE_TOPICS", 6, {"topics": [{"name": ""}], "timeout": 1000}),
        Ask(
            "DELETE_TOPICS",
            6,
            {"topics": [{"name": None, "topic_id": "$topic_id"}, {"name": "$topic"}], "timeout": 1000},
        ),
        Ask("DELETE_TOPICS", 6, {"topics": [{"name": None, "topic_id": "$topic_id"}], "timeout": 1000}),
        metadata("$topic"),
        Ask("METADATA", 12, {"topics": [{"name": None, "topic_id": "$topic_id"}], "allow_auto_topic_creation": False}),
        Ask("METADATA", 12, {"topics": [{"name": None}], "allow_auto_topic_creation": False}),
        Ask(
            "METADATA",
            12,
            {"topics": [{"name": "$other", "topic_id": "$topic_id"}], "allow_auto_topic_creation": False},
        ),
        create(),
        list_offsets(-1),
    ],
    "described-partitions": [
        create("$topic", 3),
        partitions_of("$topic"),
        partitions_of("$topic", "$other", "a b", "", "$topic"),
        partitions_of("$topic", response_partition_limit=2),
        partitions_of("$topic", response_partition_limit=0),
        partitions_of("$topic", response_partition_limit=-1),
        partitions_of("$topic", cursor={"topic_name": "$topic", "partition_index": 2}),
        partitions_of("$topic", cursor={"topic_name": "$topic", "partition_index": 3}),
        partitions_of("$topic", cursor={"topic_name": "$topic", "partition_index": -1}),
        partitions_of("$topic", cursor={"topic_name": "zzzz", "partition_index": 0}),
        partitions_of("$topic", cursor={"topic_name": "", "partition_index": 0}),
    ],
    "trimmed-epochs": [
        create(),
        *(produce({"values": [text]}) for text in "abcd"),
        *(epoch(asked) for asked in (-1, 0, 1, INT_MAX)),
        epoch(0, current=0),
        epoch(0, current=1),
        epoch(0, current=99),
        epoch(0, index=9),
        epoch(0, topic="$other"),
        delete_records(2),
        epoch(0),
        fetch(0),
        fetch(1),
        fetch(2),
        fetch(2, current_leader_epoch=0, last_fetched_epoch=0),
        list_offsets(-2),
        list_offsets(-4),
        list_offsets(-3),
        delete_records(-1),
        epoch(0),
        *(list_offsets(asked) for asked in (-1, -2, -3, -4, -5, 0)),
        fetch(3),
        fetch(4),
        produce({"values": ["e"], "timestamp_ms": 1_700_000_000_500}),
        *(
            list_offsets(asked)
            for asked in (-1, -2, -3, -4, 0, 1_700_000_000_500, 1_700_000_000_501, LONG_MAX, -(2**63))
        ),
        delete_records(LONG_MAX),
        delete_records(-2),
        delete_records(0),
        fetch(LONG_MAX),
    ],
    "empty-truths": [
        Ask(
            "DESCRIBE_ACLS",
            3,
            {
                "resource_type_filter": 1,
                "resource_name_filter": None,
                "pattern_type_filter": 1,
                "principal_filter": None,
                "host_filter": None,
                "operation": 1,
                "permission_type": 1,
            },
        ),
        Ask(
            "CREATE_ACLS",
            3,
            {
                "creations": [
                    {
                        "resource_type": 2,
                        "resource_name": "a",
                        "resource_pattern_type": 3,
                        "principal": "User:a",
                        "host": "*",
                        "operation": 3,
                        "permission_type": 3,
                    }
                ]
            },
        ),
        Ask(
            "DELETE_ACLS",
            3,
            {
                "filters": [
                    {
                        "resource_type_filter": 1,
                        "resource_name_filter": None,
                        "pattern_type_filter": 1,
                        "principal_filter": None,
                        "host_filter": None,
                        "operation": 1,
                        "permission_type": 1,
                    }
                ]
            },
        ),
        Ask(
            "ELECT_LEADERS",
            2,
            {"election_type": 0, "topic_partitions": [{"topic": "$topic", "partitions": [0]}], "timeout": 1000},
        ),
        create(),
        Ask(
            "ELECT_LEADERS",
            2,
            {"election_type": 0, "topic_partitions": [{"topic": "$topic", "partitions": [0, 5]}], "timeout": 1000},
        ),
        Ask(
            "ELECT_LEADERS",
            2,
            {"election_type": 1, "topic_partitions": [{"topic": "$topic", "partitions": [0]}], "timeout": 1000},
        ),
        Ask(
            "ELECT_LEADERS",
            2,
            {"election_type": 7, "topic_partitions": [{"topic": "$topic", "partitions": [0]}], "timeout": 1000},
        ),
        Ask("ELECT_LEADERS", 2, {"election_type": 0, "topic_partitions": [], "timeout": 1000}),
        Ask("LIST_PARTITION_REASSIGNMENTS", 0, {"topics": None, "timeout": 1000}),
        Ask(
            "LIST_PARTITION_REASSIGNMENTS",
            0,
            {"topics": [{"name": "$topic", "partition_indexes": [0, 9]}], "timeout": 1000},
        ),
        Ask(
            "LIST_PARTITION_REASSIGNMENTS",
            0,
            {"topics": [{"name": "$other", "partition_indexes": [0]}], "timeout": 1000},
        ),
        *(
            Ask(
                "ALTER_PARTITION_REASSIGNMENTS",
                0,
                {
                    "topics": [{"name": name, "partitions": [{"partition_index": index, "replicas": replicas}]}],
                    "timeout": 1000,
                },
            )
            for name, index, replicas in (
                ("$topic", 0, None),
                ("$topic", 9, None),
                ("$other", 0, [1]),
                ("$topic", 0, [1]),
                ("$topic", 0, [7]),
                ("$topic", 0, []),
                ("$topic", 0, [-1]),
            )
        ),
        Ask("DESCRIBE_CLIENT_QUOTAS", 1, {"components": [], "strict": False}),
        Ask(
            "DESCRIBE_CLIENT_QUOTAS",
            1,
            {"components": [{"entity_type": "user", "match_type": 2, "match": None}], "strict": True},
        ),
        Ask(
            "DESCRIBE_CLIENT_QUOTAS",
            1,
            {"components": [{"entity_type": "nobody", "match_type": 2, "match": None}], "strict": True},
        ),
        Ask(
            "DESCRIBE_CLIENT_QUOTAS",
            1,
            {"components": [{"entity_type": "", "match_type": 2, "match": None}], "strict": True},
        ),
        Ask(
            "DESCRIBE_CLIENT_QUOTAS",
            1,
            {"components": [{"entity_type": "user", "match_type": 7, "match": None}], "strict": True},
        ),
        Ask(
            "DESCRIBE_CLIENT_QUOTAS",
            1,
            {"components": [{"entity_type": "user", "match_type": 2, "match": None}] * 2, "strict": True},
        ),
        Ask("DESCRIBE_USER_SCRAM_CREDENTIALS", 0, {"users": None}),
        Ask("DESCRIBE_USER_SCRAM_CREDENTIALS", 0, {"users": [{"name": "a"}, {"name": "b"}, {"name": "b"}]}),
        Ask("DESCRIBE_USER_SCRAM_CREDENTIALS", 0, {"users": [{"name": ""}]}),
        Ask("LIST_TRANSACTIONS", 1, {"state_filters": [], "producer_id_filters": []}),
        Ask("LIST_TRANSACTIONS", 1, {"state_filters": ["Ongoing", "NoSuch"], "producer_id_filters": [7]}),
        Ask(
            "DESCRIBE_PRODUCERS",
            0,
            {"topics": [{"name": "$topic", "partition_indexes": [0, 9]}, {"name": "$other", "partition_indexes": [0]}]},
        ),
        Ask("DESCRIBE_QUORUM", 2, {"topics": [{"topic_name": "$topic", "partitions": [{"partition_index": 0}]}]}),
        Ask("DESCRIBE_CLUSTER", 1, {"endpoint_type": 1, "include_cluster_authorized_operations": True}),
        Ask("DESCRIBE_CLUSTER", 1, {"endpoint_type": 2}),
        Ask("DESCRIBE_CLUSTER", 1, {"endpoint_type": 7}),
    ],
    "features": [
        *(
            Ask(
                "UPDATE_FEATURES",
                version,
                {"timeout": 1000, "feature_updates": [{"feature": name, "max_version_level": level, **more}]},
            )
            for version in (0, 1, 2)
            for name, level in (("no.such", 1), ("group.version", 9), ("group.version", -1), ("share.version", 7))
            for more in [{"upgrade_type": 1} if version else {}]
        ),
        Ask("UPDATE_FEATURES", 1, {"timeout": 1000, "feature_updates": []}),
        Ask(
            "UPDATE_FEATURES",
            2,
            {
                "timeout": 1000,
                "feature_updates": [{"feature": "group.version", "max_version_level": 1, "upgrade_type": 9}],
            },
        ),
        Ask(
            "UPDATE_FEATURES",
            2,
            {
                "timeout": 1000,
                "validate_only": True,
                "feature_updates": [{"feature": "", "max_version_level": 0, "upgrade_type": 2}],
            },
        ),
        *(
            Ask(
                "API_VERSIONS",
                version,
                {} if version < 3 else {"client_software_name": "a", "client_software_version": "1"},
            )
            for version in (0, 3, 4)
        ),
    ],
    "replica-log-dirs": [
        create(),
        Ask(
            "DESCRIBE_LOG_DIRS",
            1,
            {"topics": [{"topic": "$topic", "partitions": [0]}]},
            {"folder": "results.0.log_dir"},
        ),
        *(
            Ask(
                "ALTER_REPLICA_LOG_DIRS",
                version,
                {"dirs": [{"path": path, "topics": [{"name": name, "partitions": [0, 9]}]}]},
            )
            for version in (1, 2)
            for path in ("$folder", "/none")
            for name in ("$topic", "$other")
        ),
        Ask("ALTER_REPLICA_LOG_DIRS", 2, {"dirs": []}),
    ],
}
