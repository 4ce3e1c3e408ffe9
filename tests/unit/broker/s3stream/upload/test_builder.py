"""Building objects: blocks of a readable size, ranges that say what is in them."""

from automq.ids import ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import CommitRange
from automq.s3stream.objects.format import BLOCK_HEAD_BYTES, HEADER_BYTES, ROW_BYTES, object_key
from automq.s3stream.objects.index_cache import read_index
from automq.s3stream.objects.writer import DATA_BLOCK_BYTES
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload.builder import ObjectBuilder
from tests.support.engine import CLUSTER, a_piece, stored


async def test_long_run_is_cut_into_blocks() -> None:
    builder = ObjectBuilder(CLUSTER, ObjectId(1))
    await builder.add_run(
        StreamId(1), StreamEpoch(3), [stored(1, base, 1, base, size=DATA_BLOCK_BYTES // 4) for base in range(10)]
    )
    store = MemoryStore()
    await store.put(object_key(CLUSTER, ObjectId(1)), await builder.finish())

    index = await read_index(
        store.get_range, cluster_id=CLUSTER, object_id=ObjectId(1), object_size=builder.committed.size
    )
    assert [(e.start, e.end) for e in index.data_entries(StreamId(1), Offset(0))] == [(0, 4), (4, 8), (8, 10)]


async def test_ranges_describe_runs_and_checkpoints() -> None:
    builder = ObjectBuilder(CLUSTER, ObjectId(1))
    await builder.add_run(StreamId(1), StreamEpoch(3), [stored(1, 5, 2, 70), stored(1, 7, 1, 60)])
    await builder.add_run(StreamId(2), StreamEpoch(0), [stored(2, 0, 1, -1)], checkpoint=a_piece(b"state", kept=2))

    assert builder.ranges == [
        CommitRange(
            stream=StreamId(1),
            epoch=StreamEpoch(3),
            start=Offset(5),
            end=Offset(8),
            size=BLOCK_HEAD_BYTES + 2 * (100 + ROW_BYTES),
            max_timestamp_ms=70,
            position=HEADER_BYTES,
        ),
        CommitRange(
            stream=StreamId(2),
            epoch=StreamEpoch(0),
            start=Offset(0),
            end=Offset(1),
            size=BLOCK_HEAD_BYTES + 100 + ROW_BYTES,
            max_timestamp_ms=-1,
            checkpoint=2,
            position=HEADER_BYTES + BLOCK_HEAD_BYTES + 2 * (100 + ROW_BYTES),
        ),
    ]
