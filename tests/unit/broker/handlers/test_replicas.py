"""The length that is shown is the replication factor that was accepted, whatever else changes."""

import dataclasses

import pytest

from automq.handlers.replicas import shown_replicas
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.image import PartitionImage
from automq.metadata.records import BrokerRegistered
from automq.metadata.replay import replay
from tests.support.handler_world import image_of


@pytest.mark.parametrize(
    ("factor", "stored", "shown"),
    [
        (1, (), [1]),
        (3, (), [1, 1, 1]),
        (3, (2, 1, 8), [1, 2, 1]),
        (3, (2, 8, 9), [1, 2, 1]),
        (2, (1, 2), [1, 2]),
        # A reassignment has given it another length.
        (1, (2, 1), [1, 2]),
        (3, (1,), [1]),
        # And one with repeats: what was shown was asked for again.
        (1, (1, 1, 1), [1, 1, 1]),
        (3, (2, 1, 2), [1, 2, 1]),
        (3, (8, 8, 2, 2), [1, 2, 1, 2]),
    ],
)
def test_leader_then_live_ids_then_repeats(factor: int, stored: tuple[int, ...], shown: list[int]) -> None:
    image = replay(image_of({"t": 1}), BrokerRegistered(NodeId(2), BrokerEpoch(2), None, ()))
    topic = image.topic("t")
    assert topic is not None
    partition: PartitionImage = dataclasses.replace(
        topic.partitions[0], replicas=tuple(NodeId(node) for node in stored)
    )
    assert shown_replicas(image, dataclasses.replace(topic, replication_factor=factor), partition) == shown
