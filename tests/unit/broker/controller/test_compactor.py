"""What compaction makes of a source that is not there."""

from typing import Any, cast

import pytest

from automq.controller.compactor import Compactor
from automq.ids import ObjectId
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.budget import ByteBudget
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import BrokerFenced, DataMissing
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import StoreUnavailable
from tests.support.compaction_world import EPOCH, NODE, SMALL, CompactionWorld
from tests.support.metadata_worlds import CLUSTER


class Missing:
    """A controller and a worker in one: the worker does not find object 2."""

    def __init__(self, world: CompactionWorld, answer: Exception | None) -> None:
        self.world, self.answer = world, answer

    async def prepare_objects(self, node: object, epoch: object, count: int) -> list[ObjectId]:
        return self.world.prepare(count)

    async def confirm(self, node: object, epoch: object) -> None:
        if self.answer is not None:
            raise self.answer

    async def run(self, job: object) -> None:
        raise DataMissing(key=object_key(CLUSTER, ObjectId(2)), what="object")


def a_compactor(answer: Exception | None) -> Compactor:
    world = CompactionWorld()
    for _ in range(3):
        world.upload({1: 5})
    double = cast(Any, Missing(world, answer))
    return Compactor(
        settings=SMALL,
        bytes_per_second=0,
        cluster_id=CLUSTER,
        node=NODE,
        epoch=EPOCH,
        controller=double,
        metadata=MetadataPublisher(world.image),
        class_of=world.class_of,
        worker=double,
        memory=ByteBudget(1000),
        metrics=Metrics(),
    )


async def test_a_missing_source_is_left_alone_from_now_on() -> None:
    compactor = a_compactor(None)

    assert await compactor.step()
    assert not await compactor.step(), "the other two are not enough"


@pytest.mark.parametrize("answer", [BrokerFenced("superseded"), StoreUnavailable("who knows")])
async def test_f2_a_missing_source_is_no_damage_unless_nobody_else_can_have_deleted_it(
    answer: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    compactor = a_compactor(answer)

    for _ in range(2):
        with pytest.raises(type(answer)):
            await compactor.step()
    assert "damaged" not in caplog.text
