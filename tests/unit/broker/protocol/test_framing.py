"""Frames out of bytes: any cut of the stream gives the same frames, sizes are checked, and nothing is held for long."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.protocol.framing import FRAME_BYTES_MIN, FrameReader, FrameRefused, ReceiveBuffers

FRAME_BYTES_MAX = 3_000_000


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def feed(reader: FrameReader, data: bytes) -> list[bytes]:
    """All of `data` in as few reads as the reader allows; the frames that come out."""
    frames = []
    while data:
        buffer = reader.get_buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        data = data[count:]
        reader.buffer_updated(count)
        while (frame := reader.next_frame()) is not None:
            frames.append(bytes(frame))
    return frames


def a_reader(buffers: ReceiveBuffers | None = None) -> FrameReader:
    return FrameReader(buffers or ReceiveBuffers(shared_bytes=4096), frame_bytes_max=FRAME_BYTES_MAX)


@given(
    sizes=st.lists(st.integers(FRAME_BYTES_MIN, 9000), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
def test_any_cut_gives_the_same_frames(sizes: list[int], seed: int) -> None:
    source = random.Random(seed)
    bodies = [source.randbytes(size) for size in sizes]
    stream = b"".join(map(framed, bodies))
    buffers = ReceiveBuffers(shared_bytes=4096)
    reader, other = a_reader(buffers), a_reader(buffers)
    frames = []

    while stream:
        cut = source.choice([1, 2, 3, 4, 5, 100, 5000, len(stream)])
        frames += feed(reader, stream[:cut])
        stream = stream[cut:]
        # Another connection reads in between, into the same shared buffer.
        feed(other, framed(bytes(50))[: source.randint(1, 54)])
        other.close()

    assert frames == bodies
    assert reader.unread_bytes == 0


def test_frames_of_one_read_come_out_together() -> None:
    assert feed(a_reader(), framed(b"a" * 10) + framed(b"b" * 20)) == [b"a" * 10, b"b" * 20]


@pytest.mark.parametrize("size", [-1, 0, FRAME_BYTES_MIN - 1, FRAME_BYTES_MAX + 1, 2**31 - 1, -(2**31)])
def test_impossible_size_is_refused_before_allocation(size: int) -> None:
    reader = a_reader()

    with pytest.raises(FrameRefused):
        feed(reader, struct.pack(">i", size))

    assert reader.held_bytes == 0


def test_size_is_checked_when_it_arrives_byte_by_byte() -> None:
    reader = a_reader()
    for _ in range(3):
        feed(reader, b"\x7f")

    with pytest.raises(FrameRefused):
        feed(reader, b"\x7f")


def test_biggest_frame_is_accepted() -> None:
    body = random.Random(1).randbytes(FRAME_BYTES_MAX)

    assert feed(a_reader(), framed(body)) == [body]


def test_idle_connection_holds_nothing() -> None:
    buffers = ReceiveBuffers()
    reader = FrameReader(buffers, frame_bytes_max=FRAME_BYTES_MAX)

    feed(reader, framed(bytes(2_500_000)))

    assert reader.held_bytes == 0
    assert buffers.spare_bytes == 0, "a buffer this big is not kept"


def test_started_frame_holds_what_arrived() -> None:
    reader = FrameReader(ReceiveBuffers(), frame_bytes_max=FRAME_BYTES_MAX)

    feed(reader, framed(bytes(1000))[:100])

    assert reader.held_bytes == 100


def test_buffer_of_a_big_frame_is_used_again() -> None:
    buffers = ReceiveBuffers()
    readers = [FrameReader(buffers, frame_bytes_max=FRAME_BYTES_MAX) for _ in range(20)]

    for reader in readers:
        feed(reader, framed(bytes(1_000_000)))

    assert buffers.spare_bytes == 1 << 20


def test_spare_buffers_are_bounded() -> None:
    buffers = ReceiveBuffers(spare_bytes_max=1 << 20)
    readers = [FrameReader(buffers, frame_bytes_max=FRAME_BYTES_MAX) for _ in range(4)]
    for reader in readers:
        feed(reader, framed(bytes(500_000))[:300_000])

    for reader in readers:
        reader.close()

    assert buffers.spare_bytes == 1 << 20


def test_paused_consumer_keeps_its_frames() -> None:
    buffers = ReceiveBuffers(shared_bytes=4096)
    reader, other = a_reader(buffers), a_reader(buffers)
    bodies = [bytes([index]) * 500 for index in range(6)]
    stream = b"".join(map(framed, bodies))
    buffer = reader.get_buffer()
    buffer[: len(stream)] = stream
    reader.buffer_updated(len(stream))

    first = bytes(reader.next_frame() or b"")
    reader.retain()
    feed(other, framed(b"z" * 4000))
    # A read that was already under way is taken in, too.
    late = reader.get_buffer()
    late[:514] = framed(b"x" * 510)
    reader.buffer_updated(514)
    reader.retain()
    feed(other, framed(b"z" * 4000))

    rest = []
    while (frame := reader.next_frame()) is not None:
        rest.append(bytes(frame))
    assert [first, *rest] == [*bodies, b"x" * 510]
    assert reader.held_bytes == 0


def test_frame_can_be_written_to() -> None:
    reader = a_reader()
    data = framed(bytes(100))
    buffer = reader.get_buffer()
    buffer[: len(data)] = data
    reader.buffer_updated(len(data))

    frame = reader.next_frame()

    assert frame is not None
    frame[0] = 7
    assert frame[0] == 7


def test_closed_reader_gives_its_buffer_back() -> None:
    buffers = ReceiveBuffers()
    reader = FrameReader(buffers, frame_bytes_max=FRAME_BYTES_MAX)
    feed(reader, framed(bytes(1_000_000))[:500_000])
    assert reader.held_bytes == 1 << 20

    reader.close()

    assert (reader.held_bytes, reader.unread_bytes, buffers.spare_bytes) == (0, 0, 1 << 20)


def receive(reader: FrameReader, data: bytes) -> None:
    """All of `data`, without a look at the frames."""
    while data:
        buffer = reader.get_buffer()
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        reader.buffer_updated(count)
        data = data[count:]
        reader.retain()


def test_detached_frame_stays_as_it_is_while_the_reader_goes_on() -> None:
    buffers = ReceiveBuffers(shared_bytes=256)
    reader = FrameReader(buffers, frame_bytes_max=100_000)
    first, second = (bytes([value]) * 5000 for value in (1, 2))
    receive(reader, framed(first))
    frame = reader.next_frame()
    assert frame is not None
    release = reader.detach()
    assert release is not None
    assert (reader.unread_bytes, reader.held_bytes) == (0, 0)
    receive(reader, framed(second))
    assert reader.next_frame() == second
    assert frame == first

    assert buffers.spare_bytes == 0
    release()
    assert buffers.spare_bytes > 0


def test_frame_in_the_shared_buffer_cannot_be_detached() -> None:
    reader = FrameReader(ReceiveBuffers(), frame_bytes_max=1000)
    receive(reader, framed(bytes(20)))
    assert reader.next_frame() is not None
    assert reader.detach() is None
