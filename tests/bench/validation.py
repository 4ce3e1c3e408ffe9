"""What it costs to look at every record of a Produce before it is acknowledged, against believing its header.

    python -m tests.bench validation

CPU is that of a process that is handed requests (`tests.bench.produce_path`); throughput is that of one client with
five requests in flight on a store with a PUT of 50 ms, each mode in turn.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator

import uvloop

from tests.bench.core import cpu_us
from tests.bench.engine import NullStore
from tests.bench.produce_path import STORAGE, Sink, believe_headers, produce_frames
from tests.bench.report import Row, at_least, at_most
from tests.bench.slow_puts import SlowPuts
from tests.support.data_path import TOPIC, DataPath

IN_FLIGHT = 5
LARGE_BYTES = 900_000
"""Of values: with what records of 100 bytes have around them a batch is a megabyte."""
RECORD_BYTES = 100
PARTITIONS = 16
SHAPES = (("1 KB records, 16 KB batches", 16_000, 1_000, 4.5), ("100-byte records, 16 KB batches", 16_000, 100, None))


class SlowStore(SlowPuts, NullStore):
    """Takes its time for every body."""


async def _pipelined(frames: list[bytes], requests: int, *, validates: bool) -> float:
    """MB/s of one client."""
    path = DataPath(storage=STORAGE, store=SlowStore())
    path.create_topic(TOPIC, PARTITIONS)
    await path.start()
    if not validates:
        believe_headers(path)
    done = asyncio.Event()
    sent = answered = 0

    def on_answers(sink: Sink) -> None:
        asyncio.get_running_loop().call_soon(send, sink)

    def send(sink: Sink) -> None:
        nonlocal sent, answered
        free, sink.free = sink.free, 0
        answered += free
        if answered >= requests + IN_FLIGHT:
            done.set()
        for _ in range(free):
            if sent < requests:
                sink.feed(frames[sent % PARTITIONS])
                sent += 1

    sink = Sink(path, on_answers)
    began = time.perf_counter()
    sink.free = IN_FLIGHT
    send(sink)
    await asyncio.wait_for(done.wait(), 120)
    took_s = time.perf_counter() - began
    ends = [path.partitions.get(TOPIC, index).high_watermark for index in range(PARTITIONS)]
    assert sum(ends) == requests * LARGE_BYTES // RECORD_BYTES, "every batch is acknowledged"
    await path.close()
    return requests * LARGE_BYTES / took_s / 1e6


def pipelined(frames: list[bytes], requests: int, *, validates: bool) -> float:
    """MB/s of one client with five requests in flight."""
    return uvloop.run(_pipelined(frames, requests, validates=validates))


def rows(*, runs: int, quick: bool) -> Iterator[Row]:
    """All rows of the group."""
    requests = 500 if quick else 4_000
    for name, size, record_bytes, limit in SHAPES:
        costs: dict[str, list[float]] = {"records": [], "header": []}
        for _ in range(runs):
            for mode, options in (("records", []), ("header", ["--header"])):
                each = cpu_us(size, record_bytes, requests, pure="0", options=options)
                costs[mode].append(each / size * 1e3)
        medians = {mode: statistics.median(values) for mode, values in costs.items()}
        what = f"produce path, {name}, validation=records"
        yield (
            Row(what, medians["records"], "s/GB") if limit is None else at_most(what, medians["records"], "s/GB", limit)
        )
        yield Row(f"produce path, {name}, validation=header", medians["header"], "s/GB")
    frames = produce_frames(LARGE_BYTES, RECORD_BYTES)
    speeds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(runs):
        for validates in (True, False):
            speeds[validates].append(pipelined(frames, 20 if quick else 200, validates=validates))
    ratio = statistics.median(speeds[True]) / statistics.median(speeds[False])
    yield Row("five 1 MB batches of 100-byte records in flight, PUT 50 ms", statistics.median(speeds[True]), "MB/s")
    yield at_least("- to validation=header", ratio, "x", 0.9)
