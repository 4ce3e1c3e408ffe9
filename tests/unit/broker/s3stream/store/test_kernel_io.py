"""Native AIO: results come back to the loop, errors as the kernel's numbers; where it is missing, None."""

import asyncio
import errno
import mmap
import os
import pathlib
import platform

import pytest

from automq.s3stream.store.kernel_io import DEPTH, KernelIo, open_kernel_io


@pytest.fixture
async def kernel():
    kernel = open_kernel_io()
    if kernel is None:
        pytest.skip("no native AIO here")
    yield kernel
    kernel.close()


def pages(size: int) -> memoryview:
    view = memoryview(mmap.mmap(-1, size))
    view[:] = os.urandom(size)
    return view


async def test_write_is_in_the_file_when_it_completes(kernel: KernelIo, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192))
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_DIRECT)
    body, done = pages(8192), asyncio.get_running_loop().create_future()

    assert kernel.write_synced(fd, body, done.set_result)

    assert await done == 8192
    assert (tmp_path / "file").read_bytes() == bytes(body)
    os.close(fd)


async def test_folder_can_be_synced(kernel: KernelIo, tmp_path: pathlib.Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    done = asyncio.get_running_loop().create_future()

    assert kernel.sync(fd, done.set_result)

    assert await done == 0
    os.close(fd)


async def test_error_is_a_number_or_a_refusal(kernel: KernelIo, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    done = asyncio.get_running_loop().create_future()

    taken = kernel.write_synced(fd, pages(4096), done.set_result)

    assert not taken or await done == -errno.EBADF
    os.close(fd)


async def test_more_requests_than_fit_are_refused_and_later_taken(kernel: KernelIo, tmp_path: pathlib.Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    results: list[int] = []

    taken = [kernel.sync(fd, results.append) for _ in range(DEPTH + 1)]
    while len(results) < DEPTH:
        await asyncio.sleep(0.001)

    assert taken == [True] * DEPTH + [False]
    assert kernel.sync(fd, results.append)
    while len(results) < DEPTH + 1:
        await asyncio.sleep(0.001)
    os.close(fd)


async def test_other_machines_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")

    assert open_kernel_io() is None
