"""What one append costs in the storage engine, acknowledgement and upload included; and how fast a WAL is recovered.

    python -m tests.bench.engine [--store null|memory|file] [--size BYTES] [--batches N] [--profile]
    python -m tests.bench.engine --recover [--megabytes N]

Sixteen streams are appended to in turn by closed-loop appenders: as many batches in flight as `--window` bytes allow,
each turn of the loop as much as has been acknowledged since.
"""

import argparse
import asyncio
import cProfile
import pstats
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import uvloop

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.ports import Buffer
from automq.s3stream.settings import MIB, StorageSettings
from automq.s3stream.stream import Stream
from tests.support.engine import Engine, Ledger, new_store

STREAMS = 16


class NullStore:
    """Forgets everything but the newest body, which is read back: what is measured is the engine alone."""

    def __init__(self) -> None:
        self._newest: tuple[str, Sequence[Buffer]] = ("", ())

    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        self._newest = (key, body)

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        return None

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        self._newest = (key, body)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        newest, body = self._newest
        assert key == newest
        found, position = bytearray(), 0
        for part in body:
            found += memoryview(part)[max(0, start - position) : max(0, end - position)]
            position += len(part)
        return found

    async def delete(self, keys: Sequence[str]) -> None:
        return None

    async def close(self) -> None:
        return None


class Load:
    """Appenders that keep `window` bytes in flight."""

    def __init__(self, engine: Engine, streams: list[Stream], *, size: int, batches: int, window: int) -> None:
        self.engine = engine
        self.streams = streams
        self.payload = memoryview(bytearray(size))
        self.left = batches
        self.free = max(1, window // size)
        self.turn = 0
        self.latencies: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.acknowledged = 0
        self.batches = batches
        self.scheduled = False

    def kick(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self.run)

    def run(self) -> None:
        self.scheduled = False
        storage = self.engine.storage
        now = time.perf_counter()
        while self.free and self.left and storage.append.has_room(len(self.payload)):
            stream = self.streams[self.turn % STREAMS]
            self.turn += 1
            position = stream.append(self.payload, count=16, max_timestamp_ms=1_700_000_000_000)
            storage.append.when_durable(position, lambda error, now=now: self.on_durable(error, now))
            self.free -= 1
            self.left -= 1
        if self.free and self.left:
            storage.append.when_room(self.kick)

    def on_durable(self, error: Exception | None, since: float) -> None:
        assert error is None
        self.latencies.append(time.perf_counter() - since)
        self.free += 1
        self.acknowledged += 1
        if self.left:
            self.kick()
        elif self.acknowledged == self.batches:
            self.done.set_result(None)


def open_store(kind: str, folder: str) -> Any:
    if kind == "null":
        return NullStore()
    if kind == "memory":
        return new_store()
    from automq.s3stream.store.file import FileStore

    return FileStore(folder, entropy=SystemEntropy(), workers=ThreadWorkers(threads=4))


def engine_settings(interval_ms: float) -> StorageSettings:
    return StorageSettings(wal_interval_ms=interval_ms)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(args: argparse.Namespace, folder: str) -> None:
    ledger = Ledger()
    engine = Engine(ledger, open_store(args.store, folder), settings=engine_settings(args.interval))
    engine.storage.start()
    streams = [engine.storage.open_stream(ledger.create_stream(number)) for number in range(STREAMS)]
    # Memory is touched and the loop is warm before the clock runs.
    for batches in (min(args.batches, 300 * MIB // args.size), args.batches):
        load = Load(engine, streams, size=args.size, batches=batches, window=args.window)
        profile = cProfile.Profile() if args.profile else None
        slots, cpu, wall = engine.storage.append.wal.next_sequence, cpu_s(), time.perf_counter()
        if profile:
            profile.enable()
        load.kick()
        await load.done
        if profile:
            profile.disable()
        cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    slots = engine.storage.append.wal.next_sequence - slots
    latencies = sorted(load.latencies)
    gigabytes = args.batches * args.size / 1e9
    print(
        f"{args.store:6} {args.size:7} B: {cpu / args.batches * 1e6:6.2f} us CPU/append, {cpu / gigabytes:5.3f} s/GB, "
        f"{gigabytes / wall * 1e3:6.0f} MB/s, slot {gigabytes * 1e6 / slots:6.0f} KB, "
        f"p50 {latencies[len(latencies) // 2] * 1e3:.2f} ms, p99 {latencies[len(latencies) * 99 // 100] * 1e3:.2f} ms"
    )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    await engine.storage.close(upload=True)
    await engine.tasks.close()


async def measure_recovery(args: argparse.Namespace, folder: str) -> None:
    ledger = Ledger()
    settings = replace(engine_settings(2.0), arena_bytes=2 * args.megabytes * MIB, upload_bytes=2048 * MIB)
    settings = replace(settings, upload_interval_ms=3_600_000)
    engine = Engine(ledger, open_store(args.store, folder), settings=settings)
    engine.storage.start()
    streams = [engine.storage.open_stream(ledger.create_stream(number)) for number in range(STREAMS)]
    load = Load(engine, streams, size=args.size, batches=args.megabytes * MIB // args.size, window=8 * MIB)
    load.kick()
    await load.done
    end = streams[0].confirmed_offset
    await engine.die()
    successor = Engine(ledger, open_store(args.store, folder), epoch=2)
    cpu, wall = cpu_s(), time.perf_counter()
    await successor.recover(engine)
    cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    assert successor.storage.open_stream(streams[0].stream_id).next_offset == end
    slots = engine.storage.append.wal.next_sequence
    print(f"{args.store}: {args.megabytes} MB in {slots} slots recovered in {wall:.2f} s, {cpu:.2f} s CPU")
    await successor.tasks.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="null", choices=["null", "memory", "file"])
    parser.add_argument("--size", type=int, default=16 * 1024)
    parser.add_argument("--batches", type=int, default=0)
    parser.add_argument("--window", type=int, default=4 * MIB)
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--recover", action="store_true")
    args = parser.parse_args()
    args.batches = args.batches or min(200_000, 1000 * MIB // args.size)
    folder = tempfile.mkdtemp(prefix="automq-bench-", dir=args.folder)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run((measure_recovery if args.recover else measure)(args, folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
