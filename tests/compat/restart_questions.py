"""Questions of the differential test that restart the broker: what is known afterwards."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.compat.admin_questions import delete, epoch, metadata
from tests.compat.config_questions import BROKER, SET, TOPIC, alter_many, alter_one, describe
from tests.compat.group_questions import describe as describe_group
from tests.compat.group_questions import first_member, leave, named, sync_all
from tests.compat.log_questions import delete_records
from tests.compat.questions import (
    Ask,
    Restart,
    Step,
    Until,
    by,
    commit,
    committed,
    create,
    fetch,
    find,
    heartbeat,
    idempotent,
    list_offsets,
    produce,
    producer_id,
)


def log(*, is_killed: bool) -> list[Step]:
    return [
        create(configs=[{"name": "retention.ms", "value": "-1"}]),
        create("$other"),
        *(
            produce({"values": [text], "timestamp_ms": 1_700_000_000_000 + number})
            for number, text in enumerate("abcd")
        ),
        delete_records(2),
        delete("$other"),
        Restart(is_killed),
        Until(metadata("$topic"), "topics.0.error_code", 0),
        metadata("$other"),
        *(list_offsets(asked) for asked in (-1, -2, 0, 1_700_000_000_003, 1_700_000_000_004)),
        fetch(1),
        fetch(2),
        fetch(3),
        fetch(4),
        produce({"values": ["e"], "timestamp_ms": 1_700_000_000_500}),
        list_offsets(-1),
        epoch(0),
        create("$other"),
        Until(metadata("$other"), "topics.0.error_code", 0),
        list_offsets(-1, topic="$other"),
    ]


def recent(sequence: int, *, epoch: int = 0) -> Mapping[str, Any]:
    """A batch of now: Kafka forgets the producers of old ones when it starts."""
    return {**idempotent(sequence, epoch=epoch), "timestamp_ms": "$now"}


def producers(*, is_killed: bool) -> list[Step]:
    return [
        create(),
        producer_id(),
        *(produce(recent(sequence)) for sequence in range(3)),
        Restart(is_killed),
        Until(metadata("$topic"), "topics.0.error_code", 0),
        produce(recent(2)),
        produce(recent(0)),
        produce(recent(4)),
        produce(recent(3)),
        produce(recent(0, epoch=1)),
        produce(recent(4)),
        list_offsets(-1),
        Ask("DESCRIBE_PRODUCERS", 0, {"topics": [{"name": "$topic", "partition_indexes": [0]}]}),
        produce(recent(0, epoch=1)),
        Restart(is_killed),
        Until(metadata("$topic"), "topics.0.error_code", 0),
        produce(recent(0, epoch=1)),
        produce(recent(1, epoch=1)),
        list_offsets(-1),
    ]


def groups(*, is_killed: bool) -> list[Step]:
    return [
        find(),
        create(),
        *first_member(),
        by("a", commit(5, member="$first", generation=1)),
        commit(7, group="$other"),
        Restart(is_killed),
        find(),
        describe_group(),
        by("a", heartbeat("$first", 1)),
        by("a", sync_all("$first", 1, ["$first"])),
        by("a", commit(6, member="$first", generation=1)),
        committed(version=8),
        committed(group="$other", version=8),
        describe_group("$other"),
        by("a", named("$first", "m1")),
        by("a", sync_all("$first", 2, ["$first"])),
        by("a", leave({"member_id": "$first"})),
        Ask("DELETE_GROUPS", 2, {"groups_names": ["$group"]}),
        Restart(is_killed),
        find(),
        describe_group(),
        committed(version=8),
        committed(group="$other", version=8),
    ]


RESTART_QUESTIONS: Mapping[str, Sequence[Step]] = {
    **{
        f"{name}-after-{'a-kill' if is_killed else 'a-stop'}": asked(is_killed=is_killed)
        for is_killed in (False, True)
        for name, asked in (("log", log), ("producers", producers), ("groups", groups))
    },
    "configs-after-a-stop": [
        create(configs=[{"name": "cleanup.policy", "value": "compact"}]),
        alter_many(TOPIC, "$topic", [("retention.ms", "77", SET), ("cleanup.policy", "delete", 2)]),
        alter_one(BROKER, "", "log.retention.bytes", "1000000"),
        alter_one(BROKER, "1", "log.retention.bytes", "2000000"),
        Restart(),
        describe(TOPIC, "$topic", ["retention.ms", "cleanup.policy", "retention.bytes"], include_synonyms=True),
        describe(BROKER, "1", ["log.retention.bytes"], include_synonyms=True),
        describe(BROKER, ""),
        alter_one(BROKER, "", "log.retention.bytes", None, 1),
        alter_one(BROKER, "1", "log.retention.bytes", None, 1),
        describe(TOPIC, "$topic", ["retention.bytes"]),
    ],
}
"""Each wants a broker of its own: `Conversation` must be given the means to restart it."""
