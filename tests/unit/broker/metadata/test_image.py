"""What the image answers about a topic, whatever a client asks."""

import uuid

import pytest

from automq.ids import NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import PartitionImage, TopicImage

PARTITIONS = tuple(
    PartitionImage(index=index, stream=StreamId(7 + index), leader=NodeId(1), leader_epoch=StreamEpoch(0))
    for index in range(2)
)
TOPIC = TopicImage(
    topic_id=TopicId(uuid.uuid4()), name="t", is_internal=False, replication_factor=1, partitions=PARTITIONS
)


@pytest.mark.parametrize(
    ("index", "found"), [(0, PARTITIONS[0]), (1, PARTITIONS[1]), (2, None), (-1, None), (2**31, None)]
)
def test_partition_of_a_topic_is_found_by_its_number_alone(index: int, found: PartitionImage | None) -> None:
    assert TOPIC.partition(index) is found
