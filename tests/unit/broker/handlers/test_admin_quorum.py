"""The metadata log is shown as the quorum of one controller."""

from types import SimpleNamespace

import pytest

from automq.handlers.admin_quorum import handle_describe_quorum
from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import controller as messages
from tests.support.handler_world import NODE, context_of, image_of


async def test_quorum_is_told_from_the_metadata_log() -> None:
    image = image_of({"t": 1})
    context = context_of(image, version=2, controller=SimpleNamespace(epoch=4))
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


@pytest.mark.parametrize("version", APIS[ApiKey.DESCRIBE_QUORUM].versions)
async def test_answer_can_be_said_in_every_version(version: int) -> None:
    context = context_of(image_of({}), version=version, controller=SimpleNamespace(epoch=4))
    answer = await handle_describe_quorum(context, messages.DescribeQuorumRequest())
    assert encode_response(APIS[ApiKey.DESCRIBE_QUORUM], version, 1, answer)
