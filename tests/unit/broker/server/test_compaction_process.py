"""A compaction job in a process of its own: real processes, a real folder."""

import asyncio
import pathlib
import sys
from collections.abc import Callable

import msgspec
import pytest

from automq.ids import ObjectId, Offset, StreamId
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.compaction.job import VERSION, CompactionJob, Output, Piece, Source, encode_job
from automq.s3stream.model import StoreDamaged
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import ObjectStorage, StoreUnavailable
from automq.s3stream.store.uri import open_store, parse_store_uri
from automq.server import compaction_process
from automq.server.compaction_process import MODULE, ProcessWorker, WorkOrder, frame
from tests.support.engine import CLUSTER, stored

READ_BYTES = 1 << 20


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> ObjectStorage:
    return open_store(parse_store_uri(f"file://{tmp_path}"), workers=ThreadWorkers(), entropy=SystemEntropy())


async def a_job(store: ObjectStorage, *, rate: int = 0) -> CompactionJob:
    sources: list[Source] = []
    for number in (1, 2):
        writer = ObjectWriter(CLUSTER, ObjectId(number))
        writer.add_block(StreamId(5), [stored(StreamId(5), number * 2, 2, 0)])
        await store.put(object_key(CLUSTER, ObjectId(number)), writer.finish())
        sources.append(Source(ObjectId(number), writer.size))
    pieces = tuple(Piece(StreamId(5), at, Offset(2 + at * 2), Offset(4 + at * 2)) for at in (0, 1))
    return CompactionJob(VERSION, CLUSTER, tuple(sources), (Output(ObjectId(9), pieces),), rate)


def a_worker(folder: pathlib.Path) -> ProcessWorker:
    return ProcessWorker(storage_uri=f"file://{folder}", credentials_folder=None, read_bytes=READ_BYTES)


async def test_job_is_done_by_another_process(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    (size,) = await a_worker(tmp_path).run(await a_job(store))

    assert len(await store.get(object_key(CLUSTER, ObjectId(9)))) == size


async def test_damage_is_named_by_its_key(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    job = await a_job(store)
    key = object_key(CLUSTER, ObjectId(2))
    data = bytearray(await store.get(key))
    data[80] ^= 1
    await store.put(key, [bytes(data)])

    with pytest.raises(StoreDamaged) as caught:
        await a_worker(tmp_path).run(job)

    assert caught.value.key == key


async def test_missing_source_is_named_by_its_key(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    job = await a_job(store)
    key = object_key(CLUSTER, ObjectId(1))
    await store.delete([key])

    with pytest.raises(StoreDamaged) as caught:
        await a_worker(tmp_path).run(job)

    assert caught.value.key == key


async def test_store_that_is_not_there_is_tried_again_later(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    job = await a_job(store)

    with pytest.raises(StoreUnavailable, match="compaction job failed"):
        await a_worker(tmp_path / "nowhere" / "at all").run(job)


async def test_process_that_dies_is_an_outage_and_not_damage(
    store: ObjectStorage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_process, "MODULE", "automq.nothing_of_that_name")

    with pytest.raises(StoreUnavailable, match="without an answer"):
        await a_worker(tmp_path).run(await a_job(store))


async def test_cancelled_job_leaves_no_process(
    store: ObjectStorage, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    start: Callable[..., object] = asyncio.create_subprocess_exec

    async def noted(*arguments: object, **options: object) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)  # type: ignore[misc]
        started.append(process)
        return process  # type: ignore[no-any-return]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    # A byte a second: it would take minutes.
    task = asyncio.create_task(a_worker(tmp_path).run(await a_job(store, rate=1)))
    while not started:
        await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert started[0].returncode is not None


async def test_process_ends_when_the_broker_is_killed(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    """Its input ends before the job does."""
    order = WorkOrder(f"file://{tmp_path}", None, READ_BYTES, encode_job(await a_job(store, rate=1)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(frame(msgspec.msgpack.encode(order)))
    await process.stdin.drain()
    process.stdin.close()

    assert await asyncio.wait_for(process.wait(), 20) == 1
