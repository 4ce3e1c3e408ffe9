"""Creates on the event loop: the same order and the same outcomes as on a worker, and a way back to one."""

import asyncio
import errno
import mmap
import os
import pathlib
import subprocess
from collections.abc import AsyncIterator

import pytest

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.ports import ObjectExists, StoreUnavailable
from automq.s3stream.store import loop_create
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.kernel_io import KernelIo, open_kernel_io
from tests.support.os_shim import RecordingKernelIo, RecordingOs, failing


class World:
    """A store that has a spare of 8192 bytes and knows the folder `wal`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.calls = RecordingOs(root)
        self.kernel: RecordingKernelIo | None = None
        self.store = FileStore(
            root, workers=InlineWorkers(), entropy=SystemEntropy(), calls=self.calls, open_kernel_io=self._open
        )

    def _open(self) -> KernelIo | None:
        kernel = open_kernel_io()
        if kernel is None:
            pytest.skip("no native AIO here")
        self.kernel = RecordingKernelIo(kernel, self.calls)
        return self.kernel

    async def prepare(self, *sizes: int) -> None:
        """Make spares of these sizes."""
        keys = [f"wal/spare{number}" for number in range(len(sizes))]
        for key, size in zip(keys, sizes, strict=True):
            await self.store.create(key, [pages(size)])
        await self.store.delete(keys)
        self.calls.take()


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    world = World(f"{tmp_path}/store")
    await world.store.create("wal/first", [pages(4096)])
    await world.prepare(8192)
    yield world
    await world.store.close()


def pages(size: int) -> memoryview:
    view = memoryview(mmap.mmap(-1, size))
    view[:] = os.urandom(size)
    return view


ON_THE_LOOP = [
    ("open again", "TEMP"),
    ("write", "TEMP"),
    ("sync", "TEMP"),
    ("link", "wal/0"),
    ("sync folder", "wal"),
    ("unlink", "TEMP"),
]


async def test_file_is_synced_before_its_link_and_the_folder_before_the_answer(world: World) -> None:
    body = pages(8192)

    await world.store.create("wal/0", [body])

    assert world.calls.take() == ON_THE_LOOP
    assert await world.store.get("wal/0") == bytes(body)


async def test_longer_spare_is_cut_before_it_is_written(world: World) -> None:
    body = pages(4096)

    await world.store.create("wal/0", [body])

    assert world.calls.take() == [ON_THE_LOOP[0], ("truncate", "TEMP"), *ON_THE_LOOP[1:]]
    assert await world.store.get("wal/0") == bytes(body)


async def test_many_creates_in_flight_keep_their_bytes(world: World) -> None:
    sizes = [4096 * (1 + number % 5) for number in range(80)]
    await world.prepare(*sizes)
    bodies = [pages(size) for size in reversed(sizes)]

    await asyncio.gather(*(world.store.create(f"wal/{number}", [body]) for number, body in enumerate(bodies)))

    for number, body in enumerate(bodies):
        assert await world.store.get(f"wal/{number}") == bytes(body)


async def test_taken_key_is_refused_after_its_folder_was_synced(world: World) -> None:
    with pytest.raises(ObjectExists):
        await world.store.create("wal/first", [pages(8192)])

    assert [call for call, _ in world.calls.take()][-3:] == ["link", "sync folder", "unlink"]


@pytest.mark.parametrize("result", [-errno.EIO, -errno.EINVAL, 4096, 0])
async def test_write_that_fails_or_is_short_is_done_again_by_a_worker(world: World, result: int) -> None:
    assert world.kernel is not None
    world.kernel.results["write"] = result
    body = pages(8192)

    await world.store.create("wal/0", [body])

    assert world.calls.take().count(("open again", "TEMP")) == 2
    assert await world.store.get("wal/0") == bytes(body)


async def test_folder_that_cannot_be_synced_is_no_success(world: World) -> None:
    assert world.kernel is not None
    world.kernel.results["sync folder"] = -errno.EIO

    with pytest.raises(StoreUnavailable):
        await world.store.create("wal/0", [pages(8192)])


async def test_kernel_that_takes_no_request_leaves_it_to_a_worker(world: World) -> None:
    assert world.kernel is not None
    world.kernel.is_full = True
    body = pages(8192)

    await world.store.create("wal/0", [body])

    assert await world.store.get("wal/0") == bytes(body)


@pytest.mark.parametrize("call", ["open again", "link"])
async def test_whatever_fails_before_the_file_has_its_name_is_done_by_a_worker(world: World, call: str) -> None:
    world.calls.fail = failing(call, errno.EIO)
    body = pages(8192)

    await world.store.create("wal/0", [body])

    assert await world.store.get("wal/0") == bytes(body)


async def test_folder_that_was_made_anew_is_not_confused_with_the_old_one(world: World) -> None:
    """The descriptor of the old one would be synced for nothing."""
    subprocess.run(["rm", "-r", f"{world.root}/wal"], check=True)
    os.mkdir(f"{world.root}/wal")
    body = pages(8192)

    await world.store.create("wal/0", [body])

    assert await world.store.get("wal/0") == bytes(body)
    assert world.calls.take()[-3:-1] == [("link", "wal/0"), ("sync folder", "wal")]


async def test_spare_with_a_second_name_is_let_alone(world: World, tmp_path: pathlib.Path) -> None:
    (spare,) = (path for path in pathlib.Path(world.root).glob(".tmp/*/*") if path.name != "lock")
    os.link(spare, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()

    await world.store.create("wal/0", [pages(8192)])

    assert (tmp_path / "backup").read_bytes() == before


async def test_cancelled_create_ends_when_nothing_of_it_is_in_flight(world: World) -> None:
    body = pages(8192)
    creating = asyncio.get_running_loop().create_task(world.store.create("wal/0", [body]))
    while not world.calls.calls:
        await asyncio.sleep(0)

    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating

    assert world.calls.take() == ON_THE_LOOP
    assert await world.store.get("wal/0") == bytes(body)


async def test_close_waits_for_what_is_in_flight(world: World) -> None:
    creating = asyncio.get_running_loop().create_task(world.store.create("wal/0", [pages(8192)]))
    await asyncio.sleep(0)

    await world.store.close()

    await creating
    assert os.listdir(f"{world.root}/.tmp") == []


@pytest.mark.parametrize("size", [4095, 12288])
async def test_body_that_is_no_pages_or_longer_than_any_spare_is_a_workers(world: World, size: int) -> None:
    body = pages((size + 4095) & -4096)[:size]

    await world.store.create("wal/0", [body])

    assert await world.store.get("wal/0") == bytes(body)


async def test_steps_that_wait_send_the_next_creates_to_workers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_create, "STEP_SECONDS_MAX", -1.0)
    monkeypatch.setattr(loop_create, "REST_CREATES", 2)
    await world.prepare(8192, 8192, 8192, 8192)
    assert world.kernel is not None
    ways = []

    for number in range(4):
        world.kernel.writes = 0
        await world.store.create(f"wal/{number}", [pages(8192)])
        ways.append(world.kernel.writes)

    assert ways == [1, 0, 0, 1]
