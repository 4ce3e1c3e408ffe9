"""What a batch decompresses to: bounded in place, counted while it is there, refused where it is too much."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from automq.partition.content_worker import ContentWorker
from automq.partition.record_validation import DECOMPRESSED_BYTES_MAX
from automq.partition.records_work import COMPRESSED_IN_PLACE_BYTES_MAX, CONTENT_IN_PLACE_BYTES_MAX
from automq.protocol.compression import Compression, compress
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import Record, RecordBatch, build_batch
from automq.runtime.budget import ByteBudget
from automq.runtime.workers import InlineWorkers

pytestmark = pytest.mark.looptime

P = ParamSpec("P")
T = TypeVar("T")
MIB = 1 << 20
COMPRESSED = [kind for kind in Compression if kind is not Compression.NONE]


class HeldWorkers(InlineWorkers):
    """Calls begin when they are let; the memory that was drawn for each is noted."""

    def __init__(self, account: ByteBudget) -> None:
        self.drawn: list[int] = []
        self.may_run = asyncio.Event()
        self.may_run.set()
        self._account = account

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.drawn.append(self._account.used)
        await self.may_run.wait()
        return await super().run(function, *args, **kwargs)


def a_worker(limit: int = 256 * MIB) -> tuple[ContentWorker, HeldWorkers, ByteBudget]:
    account = ByteBudget(limit)
    workers = HeldWorkers(account)
    return ContentWorker(workers, account), workers, account


def a_batch(content_bytes: int, kind: Compression = Compression.ZSTD) -> RecordBatch:
    """Its one record is zeros."""
    return RecordBatch(memoryview(build_batch([Record(value=bytes(content_bytes))], compression=kind)))


async def size_of(worker: ContentWorker, batch: RecordBatch) -> int:
    async with worker.content_of(batch) as content:
        return len(content)


@pytest.mark.parametrize("kind", list(Compression))
async def test_small_batches_are_decompressed_in_place(kind: Compression) -> None:
    worker, workers, account = a_worker()
    assert await size_of(worker, a_batch(10_000, kind)) > 10_000
    assert (workers.drawn, account.used) == ([], 0)


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
async def test_a3_small_batch_that_holds_much_is_not_decompressed_in_place(kind: Compression) -> None:
    worker, workers, account = a_worker()
    content_bytes = 3 * MIB
    batch = a_batch(content_bytes, kind)
    assert batch.size <= COMPRESSED_IN_PLACE_BYTES_MAX < CONTENT_IN_PLACE_BYTES_MAX
    async with worker.content_of(batch) as content:
        assert len(content) > content_bytes
        assert account.used == 4 * MIB
    assert (workers.drawn, account.used) == ([MIB, 4 * MIB], 0)


@pytest.mark.parametrize("kind", COMPRESSED)
async def test_a3_bomb_is_refused_and_leaves_nothing(kind: Compression) -> None:
    worker, workers, account = a_worker(limit=16 * MIB)
    bomb = a_batch(100 * MIB, kind)
    with pytest.raises(ApiError, match=str(DECOMPRESSED_BYTES_MAX)) as caught:
        await size_of(worker, bomb)
    assert caught.value.code == ErrorCode.INVALID_RECORD
    assert max(workers.drawn) <= DECOMPRESSED_BYTES_MAX
    assert account.used == 0


async def test_a3_many_batches_at_a_time_hold_no_more_than_their_part_of_the_account() -> None:
    worker, workers, account = a_worker(limit=64 * MIB)
    workers.may_run.clear()
    asked = [asyncio.create_task(size_of(worker, a_batch(3 * MIB))) for _ in range(60)]
    await asyncio.sleep(1)
    assert account.used == len(workers.drawn) * MIB <= 16 * MIB
    workers.may_run.set()
    assert {await each for each in asked} == {3 * MIB + 13}
    assert max(workers.drawn) <= 16 * MIB
    assert account.used == 0


async def test_who_gives_up_holds_nothing_and_keeps_nobody() -> None:
    worker, workers, account = a_worker(limit=64 * MIB)
    workers.may_run.clear()
    asked = [asyncio.create_task(size_of(worker, a_batch(3 * MIB))) for _ in range(30)]
    await asyncio.sleep(1)
    for each in asked[:29]:
        each.cancel()
    workers.may_run.set()
    assert await asked[29] == 3 * MIB + 13
    assert account.used == 0


async def test_one_batch_is_more_than_the_part_and_still_served() -> None:
    worker, workers, account = a_worker(limit=8 * MIB)
    assert await size_of(worker, a_batch(40 * MIB)) > 40 * MIB
    assert (max(workers.drawn), account.used) == (64 * MIB, 0)


async def test_what_is_corrupt_is_refused_and_leaves_nothing() -> None:
    worker, workers, account = a_worker()
    content = compress(Compression.ZSTD, bytes(10 * MIB))
    batch = bytearray(a_batch(10 * MIB).view)
    batch[-len(content) // 2 :] = b"\xff" * (len(content) // 2)
    with pytest.raises(ApiError) as caught:
        await size_of(worker, RecordBatch(memoryview(batch)))
    assert caught.value.code == ErrorCode.INVALID_RECORD
    assert account.used == 0
