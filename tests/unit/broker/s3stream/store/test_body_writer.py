"""Bodies into files: which way pays, and that short writes, padding and old lengths change no byte."""

import mmap
import os
import pathlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.s3stream.ports import Buffer
from automq.s3stream.store.body_writer import (
    PAGE_BYTES,
    UNALIGNED_DIRECT_BYTES_MIN,
    BodyWriter,
    BouncePool,
    is_page_aligned,
    is_whole_pages,
    wants_direct,
)
from automq.s3stream.store.os_calls import OsCalls


class MemoryFile(OsCalls):
    """One file; refuses what O_DIRECT would refuse, and writes at most `step_bytes` at once."""

    def __init__(self, *, before: bytes = b"", step_bytes: int = 1 << 30, direct: bool = True) -> None:
        self.content = bytearray(before)
        self.calls: list[str] = []
        self._step_bytes = step_bytes
        self._direct = direct

    def write(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self.calls.append("write")
        return self._write(buffers, position)

    def write_synced(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self.calls.append("write synced")
        return self._write(buffers, position)

    def truncate(self, fd: int, size: int) -> None:
        self.calls.append("truncate")
        del self.content[size:]

    def sync_file(self, fd: int) -> None:
        self.calls.append("sync")

    def _write(self, buffers: Sequence[Buffer], position: int) -> int:
        data = b"".join(buffers)[: self._step_bytes]
        if self._direct:
            assert all(is_page_aligned(buffer) for buffer in buffers)
            assert position % PAGE_BYTES == 0
            assert len(data) % PAGE_BYTES == 0
        self.content.extend(bytes(max(0, position + len(data) - len(self.content))))
        self.content[position : position + len(data)] = data
        return len(data)


def pages(size: int) -> memoryview:
    view = memoryview(mmap.mmap(-1, max(size, 1)))[:size]
    view[:] = os.urandom(size)
    return view


def write(file: MemoryFile, body: Sequence[Buffer], *, direct: bool = True) -> None:
    writer = BodyWriter(file, 3, direct=direct, existing_bytes=len(file.content), bounces=BouncePool())
    writer.write_synced(body)
    writer.release()


def test_memory_that_begins_at_a_page_is_aligned() -> None:
    view = pages(2 * PAGE_BYTES)

    assert is_page_aligned(view)
    assert is_page_aligned(view[PAGE_BYTES:])
    assert not is_page_aligned(view[1:])
    assert not is_page_aligned(view.toreadonly())
    assert not is_page_aligned(b"bytes do not tell")


def test_whole_pages_are_one_aligned_buffer() -> None:
    view = pages(2 * PAGE_BYTES)

    assert is_whole_pages([view])
    assert not is_whole_pages([view[: PAGE_BYTES + 1]])
    assert not is_whole_pages([view[:PAGE_BYTES], view[PAGE_BYTES:]])
    assert not is_whole_pages([])


def test_small_bodies_that_are_no_pages_take_the_page_cache() -> None:
    assert not wants_direct([b"x"])
    assert not wants_direct([])
    assert wants_direct([pages(PAGE_BYTES)])
    assert wants_direct([bytes(UNALIGNED_DIRECT_BYTES_MIN)])


def test_whole_pages_take_one_call() -> None:
    file, body = MemoryFile(), pages(3 * PAGE_BYTES)

    write(file, [body])

    assert file.calls == ["write synced"]
    assert file.content == bytes(body)


def test_longer_file_is_cut_before_the_write_that_syncs() -> None:
    file, body = MemoryFile(before=bytes(5 * PAGE_BYTES)), pages(3 * PAGE_BYTES)

    write(file, [body])

    assert file.calls == ["truncate", "write synced"]
    assert file.content == bytes(body)


def test_synced_write_that_was_short_is_completed_and_synced() -> None:
    file, body = MemoryFile(step_bytes=PAGE_BYTES), pages(3 * PAGE_BYTES)

    write(file, [body])

    assert file.calls == ["write synced", "write", "write", "sync"]
    assert file.content == bytes(body)


def test_file_that_takes_no_more_is_an_error() -> None:
    with pytest.raises(OSError, match="takes no more"):
        write(MemoryFile(step_bytes=0, direct=False), [b"x"], direct=False)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 100, 4095, 4096, 4097, 70_000, 1 << 20, (1 << 20) + 1]), max_size=5),
    st.sampled_from([0, 10, 4096, 3 << 20]),
    st.sampled_from([PAGE_BYTES, 5 * PAGE_BYTES, 1 << 30]),
    st.booleans(),
)
def test_every_body_is_stored_as_it_is(sizes: list[int], before: int, step_bytes: int, aligned: bool) -> None:
    body: list[Buffer] = [pages(size) if aligned else bytes([size % 251]) * size for size in sizes]
    file = MemoryFile(before=b"\xff" * before, step_bytes=step_bytes)

    write(file, body)

    assert file.content == b"".join(body)
    assert file.calls[-1] in ("sync", "write synced")


def test_bounce_buffers_are_used_again() -> None:
    pool = BouncePool()
    first = pool.take()
    pool.put_back(first)

    assert pool.take() is first
    assert is_page_aligned(pool.take())


def test_real_file_written_past_the_page_cache_reads_the_same(tmp_path: pathlib.Path) -> None:
    calls, body = OsCalls(), [b"head", pages(3 * PAGE_BYTES), b"tail" * 30_000]
    try:
        fd = calls.open_new(f"{tmp_path}/file", direct=True)
    except OSError:
        pytest.skip("no O_DIRECT here")

    BodyWriter(calls, fd, direct=True, existing_bytes=0, bounces=BouncePool()).write_synced(body)
    calls.close(fd)

    assert (tmp_path / "file").read_bytes() == b"".join(body)
