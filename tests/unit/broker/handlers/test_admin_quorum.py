"""The metadata log is shown as the quorum of one controller."""

from types import SimpleNamespace

import pytest

from automq.controller.link import Leader
from automq.handlers.admin_quorum import handle_describe_quorum
from automq.ids import BrokerEpoch, ControllerEpoch, NodeId
from automq.metadata.records import BrokerRegistered, Endpoint
from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import controller as messages
from tests.support.handler_world import NODE, context_of, image_of


async def test_quorum_is_told_from_the_metadata_log() -> None:
    image = image_of({"t": 1})
    context = context_of(image, version=2, controller=SimpleNamespace(leader=Leader(NODE, ControllerEpoch(4))))
    asked = [messages.PartitionRequest(partition_index=0), messages.PartitionRequest(partition_index=1)]
    answer = await handle_describe_quorum(
        context,
        messages.DescribeQuorumRequest(
            topics=[messages.TopicRequest(topic_name="__cluster_metadata", partitions=asked)]
        ),
    )
    first, second = answer.topics[0].partitions
    assert (first.leader_id, first.leader_epoch, first.high_watermark) == (NODE, 4, image.record_number)
    assert [(voter.replica_id, voter.log_end_offset) for voter in first.current_voters] == [(NODE, image.record_number)]
    assert second.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert [(node.node_id, node.listeners[0].port) for node in answer.nodes] == [(NODE, 9092)]


async def test_quorum_names_the_controller_wherever_it_is() -> None:
    leader = Leader(NodeId(7), ControllerEpoch(9))
    elsewhere = BrokerRegistered(NodeId(7), BrokerEpoch(2), None, (Endpoint("PLAINTEXT", "there", 9094),))
    context = context_of(image_of({}, elsewhere), version=2, controller=SimpleNamespace(leader=leader))
    asked = messages.TopicRequest(
        topic_name="__cluster_metadata", partitions=[messages.PartitionRequest(partition_index=0)]
    )

    answer = await handle_describe_quorum(context, messages.DescribeQuorumRequest(topics=[asked]))

    (partition,) = answer.topics[0].partitions
    assert (partition.leader_id, partition.leader_epoch) == (7, 9)
    assert [voter.replica_id for voter in partition.current_voters] == [7]
    assert [(node.node_id, node.listeners[0].host) for node in answer.nodes] == [(7, "there")]


async def test_quorum_has_no_leader_while_no_controller_is_known() -> None:
    context = context_of(image_of({}), version=2, controller=SimpleNamespace(leader=None))
    asked = messages.TopicRequest(
        topic_name="__cluster_metadata", partitions=[messages.PartitionRequest(partition_index=0)]
    )

    answer = await handle_describe_quorum(context, messages.DescribeQuorumRequest(topics=[asked]))

    (partition,) = answer.topics[0].partitions
    assert (partition.leader_id, partition.current_voters, answer.nodes) == (-1, [], [])


@pytest.mark.parametrize("version", APIS[ApiKey.DESCRIBE_QUORUM].versions)
async def test_answer_can_be_said_in_every_version(version: int) -> None:
    context = context_of(
        image_of({}), version=version, controller=SimpleNamespace(leader=Leader(NODE, ControllerEpoch(4)))
    )
    answer = await handle_describe_quorum(context, messages.DescribeQuorumRequest())
    assert encode_response(APIS[ApiKey.DESCRIBE_QUORUM], version, 1, answer)
