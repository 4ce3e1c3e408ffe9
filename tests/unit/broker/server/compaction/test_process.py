"""A compaction job in a process of its own: real processes, a real folder."""

import asyncio
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import pytest

from automq.ids import ObjectId, Offset, StreamId
from automq.runtime.entropy import SystemEntropy
from automq.runtime.telemetry import Metrics
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.compaction.job import VERSION, CompactionJob, Output, Piece, Source, encode_job
from automq.s3stream.model import StoreDamaged
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import ObjectStorage, StoreUnavailable
from automq.s3stream.store.uri import open_store, parse_store_uri
from automq.server.compaction import process as compaction_process
from automq.server.compaction.process import MODULE, ProcessWorker, Report, WorkOrder, counting, frame
from automq.server.observability.store_requests import StoreRequests
from tests.support.engine import CLUSTER, stored
from tests.support.fault_proxy import run_fault_proxy
from tests.support.s3_server import run_s3_server, write_credentials

READ_BYTES = 1 << 20


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> ObjectStorage:
    return open_store(parse_store_uri(f"file://{tmp_path}"), workers=ThreadWorkers(), entropy=SystemEntropy())


async def a_job(store: ObjectStorage, *, rate: int = 0, batch_bytes: int = 100) -> CompactionJob:
    sources: list[Source] = []
    for number in (1, 2):
        writer = ObjectWriter(CLUSTER, ObjectId(number))
        writer.add_block(StreamId(5), [stored(StreamId(5), number * 2, 2, 0, size=batch_bytes)])
        await store.put(object_key(CLUSTER, ObjectId(number)), writer.finish())
        sources.append(Source(ObjectId(number), writer.size))
    pieces = tuple(Piece(StreamId(5), at, Offset(2 + at * 2), Offset(4 + at * 2)) for at in (0, 1))
    return CompactionJob(VERSION, CLUSTER, tuple(sources), (Output(ObjectId(9), pieces),), rate)


def nobody(_report: Report) -> None:
    """Nobody counts."""


def a_worker(folder: pathlib.Path, on_report: Callable[[Report], None] = nobody) -> ProcessWorker:
    return ProcessWorker(
        storage_uri=f"file://{folder}", credentials_folder=None, read_bytes=READ_BYTES, on_report=on_report
    )


async def test_job_is_done_by_another_process(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    (written,) = await a_worker(tmp_path).run(await a_job(store))

    assert len(await store.get(object_key(CLUSTER, ObjectId(9)))) == written.size


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


@pytest.mark.parametrize(("batch_bytes", "gets"), [(100, 1), (10_000_000, 2)])
async def test_requests_of_the_process_are_the_brokers(tmp_path: pathlib.Path, batch_bytes: int, gets: int) -> None:
    """An S3 server counts what it is asked; the broker's counters say the same, bytes included.

    A small source is one request, any other two: its index, and the rest. An output is one.
    """
    metrics = Metrics()
    with run_s3_server() as server:
        async with run_fault_proxy(server.endpoint) as proxy:
            uri = server.make_store_uri(endpoint=proxy.endpoint)
            credentials = write_credentials(tmp_path / "credentials")
            store = open_store(
                parse_store_uri(uri), workers=ThreadWorkers(), entropy=SystemEntropy(), credentials_folder=credentials
            )
            job = await a_job(store, batch_bytes=batch_bytes)
            await store.close()
            sources = sum(source.size for source in job.sources)
            before = len(proxy.seen)

            worker = ProcessWorker(
                storage_uri=uri,
                credentials_folder=credentials,
                read_bytes=READ_BYTES,
                on_report=counting(StoreRequests(metrics), metrics),
            )
            (written,) = await worker.run(job)
            asked = Counter(seen.method for seen in proxy.seen[before:])

    assert asked["GET"] == counted(metrics, "automq_store_requests_total", "GetObject") == gets * len(job.sources)
    assert asked["PUT"] == counted(metrics, "automq_store_requests_total", "PutObject") == 1
    assert sum(asked.values()) == sum(value for _, value in samples(metrics, "automq_store_requests_total"))
    assert counted(metrics, "automq_store_sent_bytes_total", "PutObject") == written.size
    # Each byte once, indexes of the sources included, or a little more.
    assert sources * 0.5 < counted(metrics, "automq_store_received_bytes_total", "GetObject") < sources * 2.5
    assert sum(value for _, value in samples(metrics, "automq_compaction_cpu_seconds_total")) > 0


async def test_requests_of_a_job_that_is_cut_short_are_counted(store: ObjectStorage, tmp_path: pathlib.Path) -> None:
    metrics = Metrics()
    reported = asyncio.Event()
    count = counting(StoreRequests(metrics), metrics)

    def on_report(report: Report) -> None:
        count(report)
        if report.requests:
            reported.set()

    task = asyncio.create_task(a_worker(tmp_path, on_report).run(await a_job(store, rate=1)))
    await asyncio.wait_for(reported.wait(), 60)
    task.cancel()
    await asyncio.wait({task})

    assert counted(metrics, "automq_store_requests_total", "GetObject") > 0


def samples(metrics: Metrics, name: str) -> Iterator[tuple[dict[str, str], float]]:
    for metric in metrics.registry.collect():
        yield from ((sample.labels, sample.value) for sample in metric.samples if sample.name == name)


def counted(metrics: Metrics, name: str, operation: str) -> float:
    """For compaction."""
    return sum(
        value
        for labels, value in samples(metrics, name)
        if labels["operation"] == operation and labels["purpose"] == "compaction"
    )
