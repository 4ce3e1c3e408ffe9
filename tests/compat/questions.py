"""The questions of the differential test: conversations as plain data.

`$topic`, `$group` and `$other` are the names of one run. `remember` keeps a part of an answer for later requests,
under a name that begins with `$` there. What is asked here is where implementations usually differ: errors, defaults,
limits, orders of checks.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and what to keep of its answer."""

    api: str
    version: int
    body: Mapping[str, Any]
    remember: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    """Which of the conversation's clients asks: each has a connection and a client id of its own."""
    is_parked: bool = False
    """The answer is not waited for: an `Answer` reads it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the oldest parked request of a client."""

    client: str = ""


@dataclass(frozen=True, slots=True)
class Until:
    """Asked again until the answer has this value at this path: what happens after a time, or in the background."""

    ask: Ask
    path: str
    value: Any


@dataclass(frozen=True, slots=True)
class Restart:
    """The broker stops, or is killed, and starts anew; clients connect again."""

    is_killed: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody asks for so long: what happens in the background meanwhile is in the next answers."""

    seconds: float


Step = Ask | Answer | Until | Restart | Pause


def by(client: str, ask: Ask, *, is_parked: bool = False, remember: str | None = None) -> Ask:
    """The same request of another client; `remember` names the member id that a join gives."""
    more = {} if remember is None else {"remember": {remember: "member_id"}}
    return replace(ask, client=client, is_parked=is_parked, **more)


def create(name: str = "$topic", partitions: int = 1, version: int = 7, **more: Any) -> Ask:
    topic = {"name": name, "num_partitions": partitions, "replication_factor": 1, **more}
    return Ask("CREATE_TOPICS", version, {"topics": [topic], "timeout": 10_000})


def topic_id() -> Ask:
    body = {"topics": [{"name": "$topic"}], "allow_auto_topic_creation": False}
    return Ask("METADATA", 12, body, {"topic_id": "topics.0.topic_id"})


def produce(
    batch: Mapping[str, Any] | None, *, topic: str = "$topic", index: int = 0, acks: int = -1, version: int = 9
) -> Ask:
    records = {"batch": batch} if batch is not None else None
    data = [{"name": topic, "partition_data": [{"index": index, "records": records}]}]
    return Ask("PRODUCE", version, {"acks": acks, "timeout": 5000, "topic_data": data})


def producer_id() -> Ask:
    body = {"transactional_id": None, "transaction_timeout": 1000}
    return Ask("INIT_PRODUCER_ID", 4, body, {"producer_id": "producer_id"})


def fetch(offset: int, *, topic: str = "$topic", version: int = 12, **more: Any) -> Ask:
    partition = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
    partition |= {key: more.pop(key) for key in ("current_leader_epoch", "last_fetched_epoch") if key in more}
    body = {"max_wait": 50, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, **more}
    return Ask("FETCH", version, {**body, "topics": [{"topic": topic, "partitions": [partition]}]})


def list_offsets(timestamp: int, *, topic: str = "$topic", index: int = 0, version: int = 8) -> Ask:
    partition = {"partition_index": index, "timestamp": timestamp}
    return Ask("LIST_OFFSETS", version, {"topics": [{"name": topic, "partitions": [partition]}]})


def join(
    member: str, *, version: int = 7, protocols: Sequence[str] = ("range",), remember: bool = False, **more: Any
) -> Ask:
    body = {
        "group_id": "$group", "session_timeout": 10_000, "rebalance_timeout": 10_000, "member_id": member,
        "protocol_type": "consumer", "protocols": [{"name": name, "metadata": "m"} for name in protocols], **more,
    }  # fmt: skip
    return Ask("JOIN_GROUP", version, body, {"member": "member_id"} if remember else {})


def find() -> Ask:
    """Look the group's coordinator up, which also makes the offsets topic."""
    return Ask("FIND_COORDINATOR", 3, {"key": "$group", "key_type": 0})


def sync(member: str, generation: int, *, version: int = 5, **more: Any) -> Ask:
    assignments = [{"member_id": member, "assignment": "a"}]
    body = {"group_id": "$group", "generation_id": generation, "member_id": member, "assignments": assignments}
    return Ask("SYNC_GROUP", version, body | {"protocol_type": "consumer", "protocol_name": "range"} | more)


def heartbeat(member: str, generation: int, group: str = "$group") -> Ask:
    return Ask("HEARTBEAT", 4, {"group_id": group, "generation_id": generation, "member_id": member})


def commit(offset: int, *, member: str = "", generation: int = -1, topic: str = "$topic", index: int = 0,
           metadata: str = "m",
           group: str = "$group") -> Ask:  # fmt: skip
    partition = {"partition_index": index, "committed_offset": offset, "committed_metadata": metadata}
    body = {"group_id": group, "generation_id_or_member_epoch": generation, "member_id": member}
    return Ask("OFFSET_COMMIT", 8, body | {"topics": [{"name": topic, "partitions": [partition]}]})


def committed(topic: str = "$topic", *, group: str = "$group", version: int = 7) -> Ask:
    if version >= 8:
        asked = [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [0, 1]}]}]
        return Ask("OFFSET_FETCH", version, {"groups": asked})
    return Ask("OFFSET_FETCH", version, {"group_id": group, "topics": [{"name": topic, "partition_indexes": [0, 1]}]})


def alter(name: str, value: str | None, operation: int = 0) -> Ask:
    configs = [{"name": name, "config_operation": operation, "value": value}]
    resource = {"resource_type": 2, "resource_name": "$topic", "configs": configs}
    return Ask("INCREMENTAL_ALTER_CONFIGS", 1, {"resources": [resource]})


ONE: Mapping[str, Any] = {"values": ["a"]}


def idempotent(sequence: int, *, epoch: int = 0, count: int = 1) -> Mapping[str, Any]:
    values = [str(number) for number in range(count)]
    return {"values": values, "producer_id": "$producer_id", "producer_epoch": epoch, "base_sequence": sequence}


QUESTIONS: Mapping[str, Sequence[Step]] = {
    "client-name": [
        Ask("API_VERSIONS", 3, {"client_software_name": "good-name", "client_software_version": "1.0"}),
        Ask("API_VERSIONS", 3, {"client_software_name": "bad name!", "client_software_version": "1.0"}),
    ],
    "metadata-unknown-topic": [
        Ask("METADATA", 9, {"topics": [{"name": "$topic"}], "allow_auto_topic_creation": False}),
        Ask("METADATA", 12, {"topics": [{"name": "in valid"}], "allow_auto_topic_creation": False}),
        Ask("METADATA", 12, {"topics": [], "allow_auto_topic_creation": False}),
    ],
    "create-topic-checks": [
        create(),
        create(),
        create("with space"),
        create("."),
        create("x" * 250),
        create(""),
        create("$other", 0),
        create("$other", -2),
        create("$other", configs=[{"name": "retention.ms", "value": "soon"}]),
        create("$other", configs=[{"name": "no.such.config", "value": "1"}]),
        create("$other", configs=[{"name": "cleanup.policy", "value": "compact,delete"}]),
    ],
    "create-topic-validate-only": [
        Ask(
            "CREATE_TOPICS",
            7,
            {
                "topics": [{"name": "$topic", "num_partitions": 2, "replication_factor": 1}],
                "timeout": 5000,
                "validate_only": True,
            },
        ),
        Ask("METADATA", 12, {"topics": [{"name": "$topic"}], "allow_auto_topic_creation": False}),
    ],
    "create-topic-twice-in-one-request": [
        Ask(
            "CREATE_TOPICS",
            5,
            {
                "topics": [{"name": "$topic", "num_partitions": 1, "replication_factor": 1}] * 2,
                "timeout": 5000,
            },
        ),
    ],
    "grow-topic": [
        create(partitions=2),
        *(
            Ask(
                "CREATE_PARTITIONS",
                3,
                {"topics": [{"name": name, "count": count, "assignments": None}], "timeout": 5000},
            )
            for name, count in (("$topic", 2), ("$topic", 1), ("$topic", 3), ("$other", 3))
        ),
    ],
    "delete-topic": [
        create(),
        Ask("DELETE_TOPICS", 5, {"topic_names": ["$topic"], "timeout": 5000}),
        Ask("DELETE_TOPICS", 5, {"topic_names": ["$other"], "timeout": 5000}),
    ],
    "produce-checks": [
        create(),
        produce(ONE),
        produce(ONE, topic="$other"),
        produce(ONE, index=5),
        produce(ONE, acks=2),
        produce({"values": ["a"], "damage": "crc"}),
        produce({"values": ["a"], "damage": "magic"}),
        produce({"values": ["a", "b"], "damage": "count"}),
        produce(ONE, acks=1),
        list_offsets(-1),
    ],
    "produce-too-large": [
        create(configs=[{"name": "max.message.bytes", "value": "200"}]),
        produce({"values": ["x" * 500]}),
        produce({"values": ["x"]}),
    ],
    "idempotent-producer": [
        create(),
        producer_id(),
        produce(idempotent(0)),
        produce(idempotent(1, count=3)),
        produce(idempotent(1, count=3)),
        produce(idempotent(0)),
        produce(idempotent(7)),
        produce(idempotent(4)),
        produce(idempotent(0, epoch=1)),
        produce(idempotent(5)),
        produce(idempotent(3, epoch=2)),
        list_offsets(-1),
    ],
    "idempotent-producer-first-sequence": [
        create(),
        producer_id(),
        produce(idempotent(100)),
        produce(idempotent(101)),
        list_offsets(-1),
    ],
    "fetch-checks": [
        create(),
        produce({"values": ["a", "b", "c"]}),
        fetch(0),
        fetch(3),
        fetch(4),
        fetch(-1),
        fetch(0, topic="$other"),
        fetch(0, current_leader_epoch=99),
        fetch(0, session_id=12345, session_epoch=3),
        fetch(0, session_epoch=5),
    ],
    "fetch-by-unknown-id": [
        Ask(
            "FETCH",
            13,
            {
                "max_wait": 50,
                "min_bytes": 1,
                "max_bytes": 1000,
                "session_epoch": -1,
                "topics": [
                    {
                        "topic_id": uuid.UUID(int=77),
                        "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}],
                    }
                ],
            },
        ),
    ],
    "list-offsets": [
        create(),
        *(list_offsets(time) for time in (-1, -2, -3, -4)),
        produce({"values": ["a", "b", "c"]}),
        *(list_offsets(time) for time in (-1, -2, -3, -4, 0, 1_700_000_000_000, 1_700_000_000_001)),
        list_offsets(-1, topic="$other"),
        list_offsets(-1, index=3),
        list_offsets(-1, version=1),
        list_offsets(-1, version=5),
    ],
    "offset-for-leader-epoch": [
        create(),
        produce(ONE),
        *(
            Ask(
                "OFFSET_FOR_LEADER_EPOCH",
                4,
                {
                    "replica_id": -1,
                    "topics": [
                        {
                            "topic": "$topic",
                            "partitions": [{"partition": 0, "leader_epoch": epoch, "current_leader_epoch": -1}],
                        }
                    ],
                },
            )
            for epoch in (50,)
        ),
    ],
    "delete-records": [
        create(),
        produce({"values": ["a", "b", "c"]}),
        *(
            Ask(
                "DELETE_RECORDS",
                2,
                {
                    "topics": [{"name": name, "partitions": [{"partition_index": index, "offset": offset}]}],
                    "timeout": 5000,
                },
            )
            for name, index, offset in (
                ("$topic", 0, 2),
                ("$topic", 0, 1),
                ("$topic", 0, 9),
                ("$topic", 0, -1),
                ("$topic", 4, 1),
                ("$other", 0, 1),
            )
        ),
        list_offsets(-2),
        fetch(0),
    ],
    "group-life": [
        find(),
        create(),
        join("", version=7, remember=True),
        join("$member", version=7),
        sync("$member", 1),
        heartbeat("$member", 1),
        heartbeat("$member", 2),
        heartbeat("nobody", 1),
        heartbeat("x", 1, group="$other"),
        commit(5, member="$member", generation=1),
        commit(5, member="$member", generation=9),
        commit(5, member="nobody", generation=1),
        commit(6),
        committed(),
        committed(version=8),
        Ask("DESCRIBE_GROUPS", 5, {"groups": ["$group", "$other"]}),
        Ask("DELETE_GROUPS", 2, {"groups_names": ["$group", "$other"]}),
        Ask(
            "OFFSET_DELETE",
            0,
            {"group_id": "$group", "topics": [{"name": "$topic", "partitions": [{"partition_index": 0}]}]},
        ),
        Ask("LEAVE_GROUP", 5, {"group_id": "$group", "members": [{"member_id": "$member"}, {"member_id": "nobody"}]}),
        Ask("DESCRIBE_GROUPS", 5, {"groups": ["$group"]}),
        Ask("DELETE_GROUPS", 2, {"groups_names": ["$group"]}),
        committed(),
    ],
    "group-join-checks": [
        find(),
        join("", version=3, group_id=""),
        join("nobody", version=7),
        join("", version=5, session_timeout=1),
        join("", version=5, protocols=()),
        join("", version=5, protocol_type=""),
        sync("nobody", 1),
        Ask("LEAVE_GROUP", 1, {"group_id": "$group", "member_id": "nobody"}),
    ],
    "group-join-old-version": [find(), join("", version=2, remember=True), sync("$member", 1, version=2)],
    "static-member": [
        find(),
        join("", version=7, group_instance_id="pinned", remember=True),
        sync("$member", 1, group_instance_id="pinned"),
        Ask(
            "HEARTBEAT",
            4,
            {"group_id": "$group", "generation_id": 1, "member_id": "other", "group_instance_id": "pinned"},
        ),
        Ask(
            "HEARTBEAT",
            4,
            {"group_id": "$group", "generation_id": 1, "member_id": "$member", "group_instance_id": "unknown"},
        ),
        join("", version=7, group_instance_id="pinned"),
        Ask(
            "HEARTBEAT",
            4,
            {"group_id": "$group", "generation_id": 1, "member_id": "$member", "group_instance_id": "pinned"},
        ),
    ],
    "offset-commit-checks": [
        find(),
        create(),
        commit(1),
        commit(1, topic="$other"),
        commit(1, index=9),
        commit(1, metadata="x" * 5000),
        commit(1, group=""),
        committed(),
        committed("$other"),
        Ask("OFFSET_FETCH", 7, {"group_id": "$group", "topics": None}),
        Ask("OFFSET_FETCH", 1, {"group_id": "$other", "topics": [{"name": "$topic", "partition_indexes": [0]}]}),
        Ask(
            "OFFSET_DELETE",
            0,
            {"group_id": "$group", "topics": [{"name": "$topic", "partitions": [{"partition_index": 0}]}]},
        ),
        Ask(
            "OFFSET_DELETE",
            0,
            {"group_id": "$other", "topics": [{"name": "$topic", "partitions": [{"partition_index": 0}]}]},
        ),
    ],
    "configs": [
        create(),
        alter("retention.ms", "1000"),
        alter("retention.ms", "soon"),
        alter("retention.ms", None, 1),
        alter("no.such.config", "1"),
        alter("cleanup.policy", "compact", 2),
        alter("max.message.bytes", "-5"),
        alter("retention.ms", "5", 2),
        Ask(
            "INCREMENTAL_ALTER_CONFIGS",
            1,
            {
                "resources": [
                    {
                        "resource_type": 2,
                        "resource_name": "$other",
                        "configs": [{"name": "retention.ms", "config_operation": 0, "value": "1"}],
                    }
                ]
            },
        ),
        Ask(
            "DESCRIBE_CONFIGS",
            4,
            {"resources": [{"resource_type": 2, "resource_name": "$other", "configuration_keys": None}]},
        ),
        Ask(
            "ALTER_CONFIGS",
            2,
            {
                "resources": [
                    {
                        "resource_type": 2,
                        "resource_name": "$topic",
                        "configs": [{"name": "retention.ms", "value": "7"}],
                    }
                ]
            },
        ),
    ],
    "describe-groups-states": [
        find(),
        Ask("LIST_GROUPS", 4, {"states_filter": ["NoSuchState"]}),
        Ask("DESCRIBE_GROUPS", 6, {"groups": ["$group"]}),
    ],
    "producer-id": [Ask("INIT_PRODUCER_ID", 4, {"transactional_id": None, "transaction_timeout": 1000})],
}
