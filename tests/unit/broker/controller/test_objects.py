"""Objects are prepared, expire, are destroyed and deleted; ids are never reused."""

import pytest

from automq.controller.brokers import register_broker
from automq.controller.objects import deletable, destroy_superfluous, objects_deleted, prepare_objects
from automq.ids import BrokerEpoch
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.replay import replay_all
from automq.protocol.errors import ApiError
from automq.s3stream.model import BrokerFenced
from tests.support.metadata_worlds import NODE, check

EPOCH = BrokerEpoch(1)
BASE = replay_all(EMPTY, register_broker(EMPTY, NODE, rack=None, endpoints=()).records)


def prepare(image: MetadataImage, count: int, *, now_ms: int) -> MetadataImage:
    decision = prepare_objects(image, NODE, EPOCH, count, now_ms=now_ms, expiry_ms=100)
    assert len(decision.response) == count
    return replay_all(image, decision.records)


def test_ids_are_fresh() -> None:
    first = prepare_objects(BASE, NODE, EPOCH, 2, now_ms=0, expiry_ms=1)
    second = prepare_objects(replay_all(BASE, first.records), NODE, EPOCH, 1, now_ms=0, expiry_ms=1)
    assert [*first.response, *second.response] == [1, 2, 3]


def test_only_the_living_prepare_and_not_without_bound() -> None:
    with pytest.raises(BrokerFenced):
        prepare_objects(BASE, NODE, BrokerEpoch(2), 1, now_ms=0, expiry_ms=1)
    for count in (0, -1, 10_001):
        with pytest.raises(ApiError):
            prepare_objects(BASE, NODE, EPOCH, count, now_ms=0, expiry_ms=1)


def test_what_expired_is_destroyed_then_deleted_after_the_grace_period() -> None:
    image = prepare(prepare(BASE, 1, now_ms=0), 1, now_ms=50)
    assert destroy_superfluous(image, now_ms=99).records == ()

    image = replay_all(image, destroy_superfluous(image, now_ms=100).records)
    check(image)
    assert (sorted(image.prepared), sorted(image.destroyed)) == ([2], [1])
    assert deletable(image, now_ms=159, grace_ms=60) == []
    assert deletable(image, now_ms=160, grace_ms=60) == [1]

    image = replay_all(image, objects_deleted(image, [1]).records)  # type: ignore[list-item]
    assert not image.destroyed
    assert objects_deleted(image, [1]).records == ()  # type: ignore[list-item]
    assert image.next_object == 3


def test_a_large_sweep_takes_several_records() -> None:
    image = prepare(BASE, 1500, now_ms=0)
    decision = destroy_superfluous(image, now_ms=1000)
    assert decision.response == 1000
    image = replay_all(image, decision.records)
    assert destroy_superfluous(image, now_ms=1000).response == 500
    assert len(deletable(image, now_ms=5000, grace_ms=1)) == 1000
