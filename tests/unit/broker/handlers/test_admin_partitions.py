"""Elections and reassignments where every leader is preferred and nothing can move."""

import pytest

from automq.handlers.admin_partitions import (
    handle_alter_partition_reassignments,
    handle_elect_leaders,
    handle_list_partition_reassignments,
)
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import admin_cluster as messages
from tests.support.handler_world import context_of, image_of


async def elected(election_type: int, topics: list[messages.TopicPartitions] | None) -> messages.ElectLeadersResponse:
    request = messages.ElectLeadersRequest(election_type=election_type, topic_partitions=topics)
    return await handle_elect_leaders(context_of(image_of({"t": 2}), version=2), request)


async def test_nobody_needs_an_election() -> None:
    answer = await elected(0, [messages.TopicPartitions(topic="t", partitions=[0, 7])])
    (topic,) = answer.replica_election_results
    assert [(part.partition_id, part.error_code) for part in topic.partition_result] == [
        (0, ErrorCode.ELECTION_NOT_NEEDED),
        (7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    everything = await elected(1, None)
    assert (everything.error_code, everything.replica_election_results) == (ErrorCode.NONE, [])
    assert (await elected(5, None)).error_code == ErrorCode.INVALID_REQUEST
    refused = await elected(5, [messages.TopicPartitions(topic="t", partitions=[0])])
    assert refused.error_code == ErrorCode.INVALID_REQUEST
    assert refused.replica_election_results[0].partition_result[0].error_message == "Unknown election type 5"


@pytest.mark.parametrize(
    ("topic", "index", "replicas", "code"),
    [
        ("t", 0, [1], ErrorCode.NONE),
        ("t", 0, None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        ("t", 0, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 0, [1, 1], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 0, [2], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 9, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("no", 0, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
async def test_only_what_changes_nothing_succeeds(
    topic: str, index: int, replicas: list[int] | None, code: ErrorCode
) -> None:
    partition = messages.ReassignablePartition(partition_index=index, replicas=replicas)
    request = messages.AlterPartitionReassignmentsRequest(
        topics=[messages.ReassignableTopic(name=topic, partitions=[partition])]
    )
    answer = await handle_alter_partition_reassignments(context_of(image_of({"t": 2}), version=1), request)
    (result,) = answer.responses[0].partitions
    assert (result.partition_index, result.error_code, bool(result.error_message)) == (index, code, bool(code))


async def test_no_reassignment_is_under_way() -> None:
    answer = await handle_list_partition_reassignments(
        context_of(image_of({}), version=0), messages.ListPartitionReassignmentsRequest()
    )
    assert (answer.error_code, answer.topics) == (ErrorCode.NONE, [])
