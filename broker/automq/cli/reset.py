"""Moving the committed offsets of a group, as `kafka-consumer-groups --reset-offsets` does: works with any Kafka."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from automq.cli.client import KafkaClient, RequestFailed, check
from automq.cli.output import Row
from automq.cli.views import EARLIEST, LATEST, committed_offsets, list_offsets
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.group import FindCoordinatorRequest, FindCoordinatorResponse
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)

# One coordinator in an answer until 3; topics by name until 9.
FIND_VERSIONS: Final = range(1, 4)
COMMIT_VERSIONS: Final = range(2, 10)

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to: one of these is given."""

    is_earliest: bool = False
    is_latest: bool = False
    offset: int | None = None
    timestamp_ms: int | None = None
    shift: int | None = None


def reset_offsets(
    client: KafkaClient, group: str, *, topics: Sequence[str], target: Target, dry_run: bool
) -> list[Row]:
    """Commit new offsets for a group without members; what was and what is. Raises RequestFailed."""
    client.metadata()
    coordinator = find_coordinator(client, group)
    committed = committed_offsets(client, coordinator, group)
    keys = _keys(client, topics) if topics else sorted(committed)
    after = _after(client, keys, committed, target)
    rows: list[Row] = [
        {"topic": key[0], "partition": key[1], "before": committed.get(key), "after": after[key]} for key in keys
    ]
    if keys and not dry_run:
        _commit(client, coordinator, group, after)
    return rows


def find_coordinator(client: KafkaClient, group: str) -> int:
    """The broker that coordinates a group. Raises RequestFailed."""
    request = FindCoordinatorRequest(key=group)
    answer = client.call(request, FindCoordinatorResponse, versions=FIND_VERSIONS)
    check(answer.error_code, f"group {group} has no coordinator", answer.error_message)
    return answer.node_id


def _keys(client: KafkaClient, topics: Sequence[str]) -> list[Key]:
    """The partitions that TOPIC[:PARTITION] name."""
    partitions = _leaders(client)
    keys: dict[Key, None] = {}
    for text in topics:
        topic, colon, index = text.partition(":")
        named = [key for key in partitions if key[0] == topic and (not colon or str(key[1]) == index)]
        if not named:
            raise RequestFailed(f"there is no topic or partition {text}; `automq topics` lists all")
        keys |= dict.fromkeys(named)
    return sorted(keys)


def _leaders(client: KafkaClient) -> dict[Key, int]:
    return {
        (topic.name or "", partition.partition_index): partition.leader_id
        for topic in client.metadata().topics
        for partition in topic.partitions
    }


def _after(client: KafkaClient, keys: Sequence[Key], committed: dict[Key, int], target: Target) -> dict[Key, int]:
    leaders = _leaders(client)
    gone = [key for key in keys if key not in leaders]
    if gone:
        raise RequestFailed(f"there is no partition {gone[0][1]} of topic {gone[0][0]} any more; name the --topic")
    asked = {key: leaders[key] for key in keys}
    earliest, latest = list_offsets(client, asked, EARLIEST), list_offsets(client, asked, LATEST)
    silent = [key for key in keys if key not in earliest or key not in latest]
    if silent:
        raise RequestFailed(f"partition {silent[0][1]} of {silent[0][0]} has no leader that answers; try again")
    since = {} if target.timestamp_ms is None else list_offsets(client, asked, target.timestamp_ms)
    return {
        key: min(max(_wanted(key, target, committed, earliest, latest, since), earliest[key]), latest[key])
        for key in keys
    }


def _wanted(
    key: Key,
    target: Target,
    committed: dict[Key, int],
    earliest: dict[Key, int],
    latest: dict[Key, int],
    since: dict[Key, int],
) -> int:
    """Before it is brought into the bounds of the log."""
    if target.is_earliest:
        return earliest[key]
    if target.offset is not None:
        return target.offset
    if target.timestamp_ms is not None:
        # -1: every record is older.
        found = since.get(key, -1)
        return latest[key] if found < 0 else found
    if target.shift is not None:
        if key not in committed:
            raise RequestFailed(f"nothing is committed for partition {key[1]} of {key[0]}: there is nothing to shift")
        return committed[key] + target.shift
    return latest[key]


def _commit(client: KafkaClient, coordinator: int, group: str, offsets: dict[Key, int]) -> None:
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (topic, index), offset in offsets.items():
        part = OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="")
        topics.setdefault(topic, []).append(part)
    request = OffsetCommitRequest(
        group_id=group,
        topics=[OffsetCommitRequestTopic(name=topic, partitions=parts) for topic, parts in topics.items()],
    )
    answer = client.call(request, OffsetCommitResponse, node=coordinator, versions=COMMIT_VERSIONS)
    for answered in answer.topics:
        for partition in answered.partitions:
            if partition.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.REBALANCE_IN_PROGRESS):
                raise RequestFailed(f"group {group} has members; stop them, and reset it then")
            check(partition.error_code, f"partition {partition.partition_index} of {answered.name}")
