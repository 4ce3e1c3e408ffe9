"""Fuzzer: mutated and random frames through framing, heads, and every decoder.

Whatever comes in, only declared errors come out, quickly, and memory stays bounded by a multiple of what came in.
A long run: `python -m tests.unit.broker.protocol.test_fuzz --seconds 3600 --seed 1` (from the repository's root).
"""

import argparse
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from automq.protocol.apis import APIS, ApiKey, encode_request
from automq.protocol.codec import MalformedMessage, decode_whole
from automq.protocol.compression import Compression
from automq.protocol.connection import UnknownApi, parse_head
from automq.protocol.fetch_codec import parse_fetch_request
from automq.protocol.framing import FrameReader, FrameRefused, ReceiveBuffers
from automq.protocol.produce_codec import parse_produce_request
from automq.protocol.records import CorruptRecords, Record, RecordBatch, batches_in, build_batch, records_in
from tests.support.messages import random_message

FRAME_BYTES_MAX = 200_000
DECLARED = (FrameRefused, UnknownApi, MalformedMessage)
SECONDS_MAX = 2.0
# Objects of Python take many times the bytes they were read from; a claimed length would take thousands of times.
MEMORY_FACTOR_MAX = 200
MEMORY_BYTES_FREE = 4_000_000
INTERESTING = (
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xfe\xff\xff\xff\x07",
)


def valid_frame(source: random.Random) -> bytes:
    api = source.choice(list(APIS.values()))
    version = source.choice(api.versions)
    client_id = source.choice([None, "", "client"])
    return encode_request(api, version, 1, client_id, random_message(api.request_class, version, source))


def mutated(frame: bytes, source: random.Random) -> bytes:
    """A few changes; mostly the size in front is right again afterwards."""
    body = bytearray(frame[4:])
    for _ in range(source.choice([0, 1, 1, 2, 5])):
        position = source.randrange(len(body) + 1)
        match source.randrange(5):
            case 0:
                body[position : position + 1] = bytes([source.randrange(256)])
            case 1:
                value = source.choice(INTERESTING)
                body[position : position + len(value)] = value
            case 2:
                del body[position:]
            case 3:
                body[position:position] = source.randbytes(source.choice([1, 4, 50]))
            case _:
                start = source.randrange(len(body) + 1)
                body[position:position] = body[start : start + source.choice([1, 10, 200])]
    size = (
        len(body)
        if source.random() < 0.97
        else source.choice([0, -1, 2**31 - 1, len(body) + 3, source.getrandbits(31)])
    )
    return struct.pack(">i", size) + body


def random_frame(source: random.Random) -> bytes:
    body = source.randbytes(source.choice([10, 20, 100, 1000]))
    api = source.choice(list(APIS.values()))
    head = struct.pack(">hhihB", api.key, source.choice(api.versions), 1, 0, 0)
    return struct.pack(">i", len(head) + len(body)) + head + body


def streams(seed: int) -> Iterator[bytes]:
    """Without end: what one connection sends."""
    source = random.Random(seed)
    while True:
        frames = []
        for _ in range(source.randint(1, 4)):
            frames.append(random_frame(source) if source.random() < 0.3 else mutated(valid_frame(source), source))
        yield b"".join(frames)


def consume(stream: bytes, source: random.Random) -> int:
    """Do what a connection does with what it receives; how many requests were well-formed."""
    reader = FrameReader(ReceiveBuffers(shared_bytes=4096), frame_bytes_max=FRAME_BYTES_MAX)
    understood = 0
    try:
        while stream:
            buffer = reader.get_buffer()
            count = min(len(buffer), len(stream), source.choice([1, 7, 100, 5000]))
            buffer[:count] = stream[:count]
            stream = stream[count:]
            reader.buffer_updated(count)
            while (frame := reader.next_frame()) is not None:
                understood += read_request(frame)
    except DECLARED:
        pass
    reader.close()
    return understood


def read_request(frame: memoryview) -> bool:
    head = parse_head(frame)
    if not head.is_supported:
        return False
    if head.api.key is ApiKey.PRODUCE:
        request = parse_produce_request(frame, head.body_offset, head.version)
        for topic in request.topic_data:
            for partition in topic.partition_data:
                read_records(partition.records or memoryview(b""))
    elif head.api.key is ApiKey.FETCH:
        parse_fetch_request(frame, head.body_offset, head.version)
    else:
        decode_whole(head.api.request_class, head.version, frame, head.body_offset)
    return True


def read_records(records: memoryview) -> None:
    try:
        for batch in batches_in(records):
            batch.has_valid_crc()
            for _ in records_in(batch, decompressed_bytes_max=1_000_000):
                pass
    except CorruptRecords:
        pass


def run_stream(stream: bytes, seed: int) -> int:
    """Consume under watch: time and memory."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    started = time.monotonic()
    understood = consume(stream, random.Random(seed))
    assert time.monotonic() - started < SECONDS_MAX, stream.hex()
    used = tracemalloc.get_traced_memory()[1] - before
    assert used < MEMORY_BYTES_FREE + MEMORY_FACTOR_MAX * len(stream), (used, stream.hex())
    return understood


@pytest.mark.parametrize("seed", range(10))
def test_frames_give_only_declared_errors(seed: int) -> None:
    understood = 0
    tracemalloc.start()
    try:
        for index, stream in zip(range(300), streams(seed), strict=False):
            understood += run_stream(stream, index)
    finally:
        tracemalloc.stop()

    assert understood > 40, "the fuzzer must also reach what lies behind well-formed requests"


@pytest.mark.parametrize("compression", Compression)
def test_batches_give_only_declared_errors(compression: Compression) -> None:
    source = random.Random(compression)
    original = build_batch([Record(key=b"k", value=b"value" * 20, headers=[("h", b"v")])] * 5, compression=compression)
    for _ in range(500):
        data = mutated(bytes(4) + bytes(original), source)[4:]
        read_records(memoryview(data))
        if len(data) >= 61:
            # With a length that fits, so that what lies behind the header is reached.
            fitting = bytearray(data)
            struct.pack_into(">i", fitting, 8, len(fitting) - 12)
            read_records(RecordBatch(memoryview(fitting)).view)


def main() -> None:
    parser = argparse.ArgumentParser(description="feed mutated and random frames to the protocol layer")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tracemalloc.start()
    deadline = time.monotonic() + options.seconds
    count = understood = 0
    seed = options.seed
    while time.monotonic() < deadline:
        for index, stream in zip(range(1000), streams(seed), strict=False):
            understood += run_stream(stream, index)
            count += 1
        seed += 1
    print(f"seeds {options.seed} to {seed - 1}: {count} streams, {understood} requests understood, nothing found")


if __name__ == "__main__":
    main()
