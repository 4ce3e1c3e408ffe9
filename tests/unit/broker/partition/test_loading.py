"""The state of a partition whose checkpoint or records are damaged, trimmed or given up."""

import pytest

from automq.protocol.errors import ApiError, ErrorCode
from tests.support.damaged_partitions import OTHER, World, a_payload, lines, lost
from tests.support.data_path import TOPIC

pytestmark = pytest.mark.looptime

WHOLE = (list(range(12)), ErrorCode.NONE, 12)


async def test_f8_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_records_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await World.made()
    before = {entry.producer_id: entry.batches for entry in world.partition()._producers}
    await world.damage_checkpoint(8)

    world = await world.restarted()

    assert {entry.producer_id: entry.batches for entry in world.partition()._producers} == before
    (line,) = lines(caplog, "checkpoint damaged")
    assert (line.partition, line.from_offset, line.producers_unknown_below) == (f"{TOPIC}-0", 8, "no offset")  # type: ignore[attr-defined]
    assert world.partition().append(a_payload(11)).base_offset == 11, "a duplicate is one still"
    assert world.partition().append(a_payload(12)).base_offset == 12
    assert await world.consumed(OTHER) == WHOLE
    assert world.metric("automq_damaged_reads_total", what="checkpoint") == 1
    await world.path.close()


async def test_f8_without_a_whole_checkpoint_the_state_is_made_from_the_start_of_the_log() -> None:
    world = await World.made()
    before = {entry.producer_id: entry.batches for entry in world.partition()._producers}
    for offset in (0, 4, 8):
        await world.damage_checkpoint(offset)

    world = await world.restarted()

    assert {entry.producer_id: entry.batches for entry in world.partition()._producers} == before
    assert await world.consumed() == WHOLE
    await world.path.close()


async def test_f8_what_was_trimmed_and_cannot_be_made_anew_is_named_and_its_producers_are_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await World.made()
    await world.damage_checkpoint(4)
    await world.partition().delete_records(8)
    await world.damage_checkpoint(8)

    world = await world.restarted()

    (line,) = lines(caplog, "checkpoint damaged")
    assert (line.from_offset, line.producers_unknown_below) == (8, 8)  # type: ignore[attr-defined]
    # As Kafka treats a producer it does not know: any sequence is taken.
    assert world.partition().append(a_payload(500, producer_id=99)).base_offset == 12
    await world.path.close()


async def test_sequences_of_what_was_given_up_count_as_unknown() -> None:
    world = await World.made()
    world = await lost(world, (12, 20), end=20)
    partition = world.partition()

    assert partition.append(a_payload(11)).base_offset == 11, "what is known is a duplicate still"
    assert partition.append(a_payload(19)).base_offset == 20, "whatever was written in the range"
    with pytest.raises(ApiError) as caught:
        partition.append(a_payload(25))
    assert caught.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    await world.path.close()
