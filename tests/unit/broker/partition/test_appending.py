"""Both ways into the stream: whatever a client sends, they answer the same and leave the same bytes."""

import random

import pytest

from automq.ids import Offset
from automq.partition import partition as partition_module
from automq.partition.appending import append_common
from automq.partition.partition import Partition
from automq.protocol.errors import ApiError
from automq.protocol.records import Record, RecordBatch, build_batch
from automq.s3stream.model import StorageFull
from tests.fuzz.records import a_batch, damaged_batch
from tests.support.data_path import TOPIC, DataPath
from tests.support.engine import durable

pytestmark = pytest.mark.looptime

BATCHES = 150


async def two_partitions(**configs: str) -> tuple[DataPath, Partition, Partition]:
    path = await DataPath().start()
    path.create_topic(partitions=2, configs={name.replace("_", "."): value for name, value in configs.items()})
    return path, path.partitions.get(TOPIC, 0), path.partitions.get(TOPIC, 1)


def outcome(partition: Partition, batch: bytes) -> tuple[object, ...]:
    """What an append answers, but for the slot."""
    try:
        appended = partition.append(memoryview(bytearray(batch)))
    except ApiError as error:
        return error.code, str(error)
    return appended.base_offset, appended.log_append_time_ms, appended.record_count


async def contents(partition: Partition) -> list[bytes]:
    return [bytes(batch) async for batch in partition.read_batches(Offset(0), partition.high_watermark)]


def sequences(seed: int) -> list[bytes]:
    """Batches of one producer in their order, now and then one twice, of others, or damaged."""
    dice = random.Random(seed)
    batches: list[bytes] = []
    sequence = 0
    for _ in range(BATCHES):
        kind = dice.random()
        if kind < 0.5:
            count = dice.choice((1, 2, 30))
            records = [Record(key=b"k", value=dice.randbytes(dice.choice((5, 500))), timestamp=5) for _ in range(count)]
            batches.append(bytes(build_batch(records, producer_id=7, producer_epoch=1, base_sequence=sequence)))
            sequence += count
        elif kind < 0.6 and batches:
            batches.append(dice.choice(batches[-6:]))
        elif kind < 0.8:
            batches.append(bytes(a_batch(dice)))
        else:
            batches.append(bytes(damaged_batch(a_batch(dice), dice)))
    return batches


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "configs",
    [
        {},
        {"cleanup_policy": "compact"},
        {"message_timestamp_type": "LogAppendTime"},
        {"message_timestamp_after_max_ms": str(2**63 - 1)},
        {"max_message_bytes": "2000"},
    ],
    ids=str,
)
async def test_both_ways_answer_the_same_and_leave_the_same(
    monkeypatch: pytest.MonkeyPatch, seed: int, configs: dict[str, str]
) -> None:
    path, quick, slow = await two_partitions(**configs)
    for number, batch in enumerate(sequences(seed)):
        newest = max(quick.last_position, slow.last_position)
        if not number % 10 and newest >= 0:
            await durable(path.engine.storage, newest)
        answered = outcome(quick, batch)
        with monkeypatch.context() as changed:
            changed.setattr(partition_module, "append_common", lambda *_, **__: None)
            assert outcome(slow, batch) == answered
    await durable(path.engine.storage, max(quick.last_position, slow.last_position))

    assert await contents(quick) == await contents(slow)
    assert list(quick.producers()) == list(slow.producers())
    await path.close()


async def test_common_batches_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    path, partition, _ = await two_partitions()
    ways: list[bool] = []

    def watched(*arguments: object, **named: object) -> object:
        found = append_common(*arguments, **named)  # type: ignore[arg-type]
        ways.append(found is not None)
        return found

    monkeypatch.setattr(partition_module, "append_common", watched)
    for number in range(5):
        batch = build_batch([Record(value=b"v" * 100)], producer_id=7, producer_epoch=0, base_sequence=number)
        partition.append(memoryview(batch))
    await durable(path.engine.storage, partition.last_position)

    assert ways == [True] * 5
    assert [RecordBatch(memoryview(batch)).base_offset for batch in await contents(partition)] == list(range(5))
    await path.close()


async def test_batch_that_finds_no_room_is_expected_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the long way: what was in flight behind it must not overtake it."""
    path, partition, _ = await two_partitions()

    def batch(sequence: int) -> memoryview:
        return memoryview(build_batch([Record(value=b"v")], producer_id=7, producer_epoch=0, base_sequence=sequence))

    def full(size: int) -> None:
        raise StorageFull("no room")

    with monkeypatch.context() as changed:
        changed.setattr(path.engine.storage.append, "roll", full)
        with pytest.raises(StorageFull):
            partition.append(batch(3))
    with pytest.raises(ApiError):
        partition.append(batch(4))
    assert partition.append(batch(3)).base_offset == 0
    assert partition.append(batch(4)).base_offset == 1
    await path.close()
