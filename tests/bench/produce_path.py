"""What a Produce request costs a broker, a GB of Fetch, and a Fetch that waits in vain: CPU alone, without a library.

    python -m tests.bench.produce_path [--size BYTES] [--record BYTES] [--header] [--requests N] [--rounds N]
        [--sockets] [--profile]
    python -m tests.bench.produce_path --fetch [--size BYTES] [--requests MEGABYTES]
    python -m tests.bench.produce_path --idle [--requests FETCHES] [--rounds N]

Without `--sockets` prebuilt frames are handed to connections in process. With it a child process sends them over the
loopback, eight clients with five requests in flight each; what is measured is this process. So it is with `--fetch`,
and with `--idle`, where a thousand consumers poll the end of a partition.
"""

import argparse
import asyncio
import cProfile
import gc
import multiprocessing
import pstats
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import uvloop

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.s3stream.settings import MIB, StorageSettings
from tests.bench.engine import NullStore
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, fetch_request, produce_request

CLIENTS = 8
IN_FLIGHT = 5
IDLE = 1000
PARTITIONS = 16
STORAGE = StorageSettings(arena_bytes=256 * MIB, wal_interval_ms=2.0)


def produce_frames(size: int, record_bytes: int = 0) -> list[bytes]:
    """One request of one batch for each partition: one record, or as many of `record_bytes` as make up the size."""
    records = [bytes(record_bytes)] * max(1, size // record_bytes) if record_bytes else [bytes(size)]
    batch = build_batch(records, timestamp_ms=1)
    return [
        encode_request(APIS[ApiKey.PRODUCE], 10, index, "bench", produce_request(batch, partition=index))
        for index in range(PARTITIONS)
    ]


class Sink(MemoryTransport):
    """Counts answers and throws them away."""

    def __init__(self, path: DataPath, on_answers: Callable[["Sink"], None]) -> None:
        self.free = 0
        self._on_answers = on_answers
        super().__init__(path.server.protocol_factory("CLIENT")())  # type: ignore[arg-type]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[4 + int.from_bytes(view[:4], "big") :]
            self.free += 1
        self._on_answers(self)


async def in_process(path: DataPath, frames: list[bytes], requests: int) -> tuple[float, float]:
    """CPU and wall seconds of `requests` requests of eight connections."""
    done = asyncio.Event()
    sent = answered = 0

    def on_answers(sink: Sink) -> None:
        nonlocal answered
        asyncio.get_running_loop().call_soon(send, sink)

    def send(sink: Sink) -> None:
        nonlocal sent, answered
        free, sink.free = sink.free, 0
        answered += free
        if answered >= requests:
            done.set()
        data = b"".join(frames[(sent + index) % PARTITIONS] for index in range(free))
        sent += free
        if sent < requests + CLIENTS * IN_FLIGHT and data:
            sink.feed(data)

    sinks = [Sink(path, on_answers) for _ in range(CLIENTS)]
    cpu, wall = time.process_time(), time.perf_counter()
    for sink in sinks:
        sink.free = IN_FLIGHT
        send(sink)
    answered = 0
    await done.wait()
    return time.process_time() - cpu, time.perf_counter() - wall


def blast(port: int, frames: list[bytes], requests: int) -> None:
    """A child process: eight clients, five requests in flight each."""

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
        answer_bytes = 0
        for number in range(min(IN_FLIGHT, count)):
            writer.write(frames[number % PARTITIONS])
        pending = min(IN_FLIGHT, count)
        sent = pending
        received = b""
        while pending:
            received += await reader.read(65536)
            if not answer_bytes and len(received) >= 4:
                answer_bytes = 4 + int.from_bytes(received[:4], "big")
            answers = len(received) // answer_bytes if answer_bytes else 0
            received = received[answers * answer_bytes :]
            pending -= answers
            again = min(answers, count - sent)
            if again:
                writer.write(b"".join(frames[(sent + index) % PARTITIONS] for index in range(again)))
                pending += again
                sent += again
        writer.close()

    async def run() -> None:
        await asyncio.gather(*(client(requests // CLIENTS) for _ in range(CLIENTS)))

    uvloop.run(run())


async def over_sockets(path: DataPath, frames: list[bytes], requests: int) -> tuple[float, float]:
    """CPU of this process and wall seconds, with the clients in a process of their own."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(path.server.protocol_factory("CLIENT"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    child = multiprocessing.get_context("spawn").Process(target=blast, args=(port, frames, requests))
    child.start()
    while not path.server._connections:
        await asyncio.sleep(0.001)
    cpu, wall = time.process_time(), time.perf_counter()
    while child.is_alive():
        await asyncio.sleep(0.01)
    result = time.process_time() - cpu, time.perf_counter() - wall
    server.close()
    return result


async def fetching(path: DataPath, size: int, megabytes: int) -> tuple[float, float]:
    """CPU and wall seconds of reading `megabytes` of hot data over a socket, again and again."""
    sink = MemoryTransport(path.server.protocol_factory("CLIENT")())  # type: ignore[arg-type]
    batch = build_batch([bytes(size)], timestamp_ms=1)
    for _ in range(64 * MIB // size):
        sink.send(ApiKey.PRODUCE, 10, produce_request(batch))
        if len(sink.connection._queue) > 100:  # type: ignore[arg-type]
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(path.server.protocol_factory("CLIENT"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    child = multiprocessing.get_context("spawn").Process(target=drink, args=(port, size, megabytes))
    child.start()
    while len(path.server._connections) < 2:
        await asyncio.sleep(0.001)
    cpu, wall = time.process_time(), time.perf_counter()
    while child.is_alive():
        await asyncio.sleep(0.01)
    result = time.process_time() - cpu, time.perf_counter() - wall
    server.close()
    return result


def drink(port: int, size: int, megabytes: int) -> None:
    """A child process: fetches 32 MiB from offset 0 on, over and over."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        buffer = memoryview(bytearray(16 * MIB))
        taken = offset = 0
        while taken < megabytes * 1_000_000:
            request = fetch_request(offset, partition_max_bytes=4 * MIB)
            connection.sendall(encode_request(APIS[ApiKey.FETCH], 12, 1, "bench", request))
            connection.recv_into(buffer, 4, socket.MSG_WAITALL)
            frame = int.from_bytes(buffer[:4], "big")
            connection.recv_into(buffer, frame, socket.MSG_WAITALL)
            taken += frame
            offset += frame // (size + 80)
            if offset * size > 32 * MIB:
                offset = 0


async def idling(path: DataPath, fetches: int, rounds: int) -> tuple[float, float]:
    """CPU and wall seconds of so many fetches that end with their time; the least of some rounds."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(path.server.protocol_factory("CLIENT"), "127.0.0.1", 0, backlog=IDLE)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.readers", "idle", address, TOPIC, str(IDLE), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    await child.stdout.readline()
    await asyncio.sleep(1)
    count = path.server.metrics.count
    results = []
    for _ in range(rounds):
        before, cpu, wall = count(ApiKey.FETCH), time.process_time(), time.perf_counter()
        while count(ApiKey.FETCH) - before < fetches:
            await asyncio.sleep(0.1)
        done = count(ApiKey.FETCH) - before
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        results.append((cpu / done * fetches, wall / done * fetches))
    child.kill()
    await child.wait()
    server.close()
    return min(results)


def believe_headers(path: DataPath) -> None:
    """As `automq.produce.validation=header`."""
    for index in range(PARTITIONS):
        partition = path.partitions.get(TOPIC, index)
        rules = partition.rules
        partition.rules = replace(rules, append=replace(rules.append, validates_records=False))


async def measure(arguments: argparse.Namespace) -> None:
    path = DataPath(storage=STORAGE, store=NullStore())
    path.create_topic(TOPIC, PARTITIONS)
    await path.start()
    profile = cProfile.Profile() if arguments.profile else None
    if profile is not None:
        profile.enable()
    if arguments.fetch:
        cpu, wall = await fetching(path, arguments.size, arguments.requests)
        count, unit = arguments.requests / 1000, "GB"
        print(f"fetch {arguments.size} B: {cpu / count:.3f} s/{unit}, {count * 1000 / wall:.0f} MB/s")
    elif arguments.idle:
        cpu, wall = await idling(path, arguments.requests, arguments.rounds)
        each = cpu / arguments.requests
        print(f"fetch that waits in vain: {each * 1e6:.1f} us CPU each, {arguments.requests / wall:.0f}/s")
    else:
        run = over_sockets if arguments.sockets else in_process
        frames = produce_frames(arguments.size, arguments.record)
        if arguments.header:
            believe_headers(path)
        # The least of several short runs: neighbours on the machine only ever add.
        cpu, wall = min([await run(path, frames, arguments.requests) for _ in range(arguments.rounds)])
        each = cpu / arguments.requests
        print(
            f"produce {arguments.size} B: {each * 1e6:.1f} us CPU each, {each / arguments.size * 1e9:.2f} s/GB, "
            f"{arguments.requests / wall:.0f}/s"
        )
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    await path.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--record", type=int, default=0, help="bytes of each record; default: one record")
    parser.add_argument("--header", action="store_true", help="do not walk the records")
    parser.add_argument("--requests", type=int, default=20_000, help="with --fetch: MB")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sockets", action="store_true")
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--profile", action="store_true")
    # As the broker itself does when it begins to serve.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
