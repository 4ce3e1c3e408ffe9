"""What compaction costs those who are served: latency beside it, and requests to the store.

`python -m tests.bench.compaction ADDRESS TOPIC PARTITIONS SECONDS` is the producer of the second part: 10 MB/s.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import uvloop
from confluent_kafka import Producer

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import InlineWorkers, ThreadWorkers
from automq.s3stream.compaction.job import VERSION, CompactionJob, Output, Piece, Source
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.requests import Operation, Purpose
from automq.server.broker import Broker as BrokerProcess
from automq.server.compaction.process import ProcessWorker
from automq.server.config.settings import load_settings
from automq.server.lifecycle.states import State
from automq.server.platform import system_platform
from automq.testing.thread import FIRST
from tests.bench import load
from tests.bench.idle_bill import CountingServer
from tests.bench.report import Row, at_most
from tests.bench.slow_puts import SlowPuts
from tests.support.engine import stored
from tests.support.process import ROOT, Broker
from tests.support.s3_server import write_credentials

MEMORY: Final = pathlib.Path("/dev/shm")
"""A folder that lies on no disk, where the system has one."""
LAG_BEAT_S: Final = 0.01
CLUSTER: Final = ClusterId("BBBBBBBBBBBBBBBBBBBBBB")
SOURCES, STREAMS, BLOCK_BYTES = 16, 100, 160_000
READ_BYTES: Final = 1 << 20
PRODUCE_RATE: Final = 500

RECORD_BYTES: Final = 10_000
BYTES_PER_SECOND: Final = 10_000_000
PARTITIONS: Final = 1000
GOALS: Final = {"WAL": 420, "upload": 170, "compaction": 200, "metadata, polls and checks": 210}
KINDS: Final = {
    "WAL": (Purpose.WAL,),
    # Nobody consumes: what is read are keys that must be free, and checkpoints that were just put.
    "upload": (Purpose.UPLOAD, Purpose.READ),
    "compaction": (Purpose.COMPACTION,),
}
CHECK: Final = (Purpose.WAL, Operation.GET_OBJECT)
"""A running broker reads a slot only to see that it is still there."""


def rows(folder: pathlib.Path, *, runs: int, seconds: float, requests_s: float) -> Iterator[Row]:
    """All of it."""
    with in_memory(folder) as store:
        yield from beside(store, runs=runs, seconds=seconds)
    yield from requests(folder, seconds=requests_s)


# Latency beside it.


@contextlib.contextmanager
def in_memory(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where a store lies whose bytes cost this machine's disk nothing, as those of a bucket; else in `folder`."""
    if not MEMORY.is_dir():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="automq-bench-", dir=MEMORY) as found:
        yield pathlib.Path(found)


class SlowStore(SlowPuts, FileStore):
    """A folder that answers a PUT like a bucket."""


class Host:
    """A broker on a slow store in a thread of this process, how late its event loop is, and compaction at will."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.address = ""
        self.lags_s: list[float] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: BrokerProcess | None = None
        self._numbers = itertools.count(1000)

    def __enter__(self) -> "Host":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._broker is not None
        self._loop.call_soon_threadsafe(self._broker.stop)
        self._thread.join(40)

    def submit(self, work: Coroutine[Any, Any, object]) -> "Future[object]":
        """Run `work` on the broker's event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def compact(self, sources: Sequence[Source], bytes_per_second: int) -> None:
        """One job after the other, as the compactor has them done, until it is cancelled."""
        worker = ProcessWorker(
            storage_uri=f"file://{self.folder}/merged",
            credentials_folder=None,
            read_bytes=READ_BYTES,
            on_report=lambda _report: None,
        )
        store = FileStore(str(self.folder / "merged"), workers=ThreadWorkers(), entropy=SystemEntropy())
        while True:
            output = ObjectId(next(self._numbers))
            await worker.run(job_of(sources, output, bytes_per_second))
            await store.delete([object_key(CLUSTER, output)])

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        texts = {**FIRST, "automq.compaction.enable": "false", "automq.http.address": "127.0.0.1:0"}
        settings = load_settings(flags=flags_of(texts), environment={})
        system = system_platform()
        store = SlowStore(str(self.folder / "served"), workers=ThreadWorkers(), entropy=SystemEntropy())
        platform = dataclasses.replace(system, open_store=lambda _settings, _metrics: store)
        self._loop = asyncio.get_running_loop()
        self._broker = broker = BrokerProcess(settings, platform)

        def on_change() -> None:
            if broker.lifecycle.state is State.SERVING and not self._ready.is_set():
                self.address = str(broker.bootstrap_address)
                self._beat(time.monotonic())
                self._ready.set()

        broker.lifecycle.subscribe(on_change)
        await broker.run()

    def _beat(self, due_s: float) -> None:
        now_s = time.monotonic()
        self.lags_s.append(now_s - due_s)
        assert self._loop is not None
        self._loop.call_later(LAG_BEAT_S, self._beat, now_s + LAG_BEAT_S)


def flags_of(texts: Mapping[str, str]) -> list[str]:
    """As on a command line."""
    return [f"{key}={text}" for key, text in texts.items()]


async def write_sources(folder: pathlib.Path) -> list[Source]:
    """Objects to be merged: 256 MB, each with a block of each stream."""
    store = FileStore(str(folder), workers=InlineWorkers(), entropy=SystemEntropy())
    sources: list[Source] = []
    for number in range(SOURCES):
        writer = ObjectWriter(CLUSTER, ObjectId(number + 1))
        for stream in range(STREAMS):
            writer.add_block(StreamId(stream + 1), [stored(stream + 1, number, 1, 0, size=BLOCK_BYTES)])
        await store.put(object_key(CLUSTER, ObjectId(number + 1)), writer.finish())
        sources.append(Source(ObjectId(number + 1), writer.size))
    await store.close()
    return sources


def job_of(sources: Sequence[Source], output: ObjectId, bytes_per_second: int) -> CompactionJob:
    """Merge all of them into one."""
    pieces = tuple(
        Piece(StreamId(stream + 1), at, Offset(at), Offset(at + 1))
        for stream in range(STREAMS)
        for at in range(SOURCES)
    )
    return CompactionJob(VERSION, CLUSTER, tuple(sources), (Output(output, pieces),), bytes_per_second)


def beside(folder: pathlib.Path, *, runs: int, seconds: float) -> Iterator[Row]:
    """Produce latency and lateness of the event loop: quiet, at the default rate, flat out, in turn."""
    for name in ("served", "merged"):
        (folder / "compaction" / name).mkdir(parents=True, exist_ok=True)
    sources = asyncio.run(write_sources(folder / "compaction/merged"))
    default = load_settings(flags=flags_of(FIRST), environment={}).compaction.bytes_per_second
    parts = {"quiet": None, "default rate": default, "flat out": 0}
    p99s: dict[str, list[float]] = {name: [] for name in parts}
    lags: dict[str, list[float]] = {name: [] for name in parts}
    with Host(folder / "compaction") as host:
        load.create_topic(host.address, "t")
        for run in range(runs + 1):
            for name, rate in parts.items():
                compacting = None if rate is None else host.submit(host.compact(sources, rate))
                # Until the first job is under way.
                time.sleep(2 if compacting is None else 4)
                host.lags_s.clear()
                result = load.run(
                    "produce", host.address, "t", 16, rate=PRODUCE_RATE, seconds=seconds, properties={"linger.ms": "0"}
                )
                if compacting is not None:
                    if compacting.done():
                        compacting.result()
                    compacting.cancel()
                if run:
                    # The first round only warms everything up.
                    p99s[name].append(result["p99"])
                    lags[name] += host.lags_s
    quiet = statistics.median(p99s["quiet"])
    yield Row("compaction: produce p99, quiet, PUT of 50 ms", quiet, "ms")
    for name, limit in (("default rate", 1.3), ("flat out", 2.0)):
        yield Row(f"compaction: produce p99, {name}", statistics.median(p99s[name]), "ms")
        yield at_most(f"compaction: produce p99, {name}, to quiet", statistics.median(p99s[name]) / quiet, "x", limit)
    yield Row("compaction: event loop late, p99, quiet", _p99(lags["quiet"]) * 1000, "ms")
    yield Row("compaction: event loop late, p99, default rate", _p99(lags["default rate"]) * 1000, "ms")
    yield at_most("compaction: event loop late, p99, flat out", _p99(lags["flat out"]) * 1000, "ms", 10)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


# Requests.


def requests(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """Requests for a GB that is produced at 10 MB/s, by what they serve, and whether a server counts the same."""
    with CountingServer() as server:
        broker = Broker(
            folder / "compaction-requests",
            automq__storage__uri=server.uri,
            automq__storage__credentials__dir=write_credentials(folder / "compaction-credentials"),
        )
        producer: subprocess.Popen[bytes] | None = None
        try:
            broker.start()
            load.create_topic(broker.address, "t", PARTITIONS)
            command = [sys.executable, "-m", "tests.bench.compaction", broker.address, "t", str(PARTITIONS)]
            producer = subprocess.Popen([*command, str(int(seconds * 1.5))], cwd=ROOT, stdout=subprocess.DEVNULL)
            # Until uploads and compactions follow one another.
            _until(lambda: broker.metric("automq_compaction_jobs_total", outcome="done") >= 1, server, seconds / 2)
            before, seen, began = _counted(broker), len(server.seen), time.monotonic()
            produced = broker.metric("automq_store_sent_bytes_total", purpose="wal")
            jobs = broker.metric("automq_compaction_jobs_total", outcome="done")
            _until(lambda: time.monotonic() - began >= seconds, server, seconds * 2)
            after, seen = _counted(broker), len(server.seen) - seen
            produced = broker.metric("automq_store_sent_bytes_total", purpose="wal") - produced
            jobs = broker.metric("automq_compaction_jobs_total", outcome="done") - jobs
        finally:
            if producer is not None:
                producer.terminate()
                producer.wait()
            broker.stop()
    gigabytes = produced / 1e9
    yield Row("requests: produced at", produced / seconds / 1e6, "MB/s")
    total = sum(after.values()) - sum(before.values())
    name = "requests per GB at 10 MB/s, 1,000 partitions"
    if jobs:
        yield at_most(name, total / gigabytes, "", 1000)
    else:
        yield Row(f"{name}: SKIPPED, no compaction ended meanwhile", total / gigabytes, "")
    checks = after[CHECK] - before[CHECK]
    by_name = {name: sum(after[one] - before[one] for one in after if one[0] in kinds) for name, kinds in KINDS.items()}
    by_name["WAL"] -= checks
    by_name["metadata, polls and checks"] = total - sum(by_name.values())
    for name, count in by_name.items():
        if name == "compaction" and not jobs:
            yield Row(f"requests per GB: {name}: SKIPPED, no job ended meanwhile", count / gigabytes, "")
            continue
        yield at_most(f"requests per GB: {name}", count / gigabytes, "", GOALS[name])
    yield Row("requests: counted by the broker, of those that the server saw", total / seen, "")
    yield Row("requests: compaction jobs done", jobs, "")


def _counted(broker: Broker) -> dict[tuple[Purpose, Operation], float]:
    return {
        (purpose, operation): broker.metric("automq_store_requests_total", purpose=purpose, operation=operation)
        for purpose in Purpose
        for operation in Operation
    }


def _until(is_over: Callable[[], bool], server: CountingServer, seconds: float) -> None:
    """Look once a second, at most for so long; what the server remembers of bodies goes."""
    until = time.monotonic() + seconds
    stripped = 0
    while not is_over() and time.monotonic() < until:
        time.sleep(1)
        count = len(server.seen)
        for seen in server.seen[stripped:count]:
            seen.body = b""
        stripped = count


def produce(address: str, topic: str, partitions: int, seconds: int) -> None:
    """10 MB/s in large records, to all partitions in turn."""
    producer = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 2, "linger.ms": 5})
    value = os.urandom(RECORD_BYTES)
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        for number in range(sent, int(elapsed * BYTES_PER_SECOND / RECORD_BYTES)):
            try:
                producer.produce(topic, value, partition=number % partitions)
            except BufferError:
                break
            sent = number + 1
        producer.poll(0.02)
    producer.flush(60)


if __name__ == "__main__":
    produce(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
