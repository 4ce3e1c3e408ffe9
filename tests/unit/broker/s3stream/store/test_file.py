"""The file store: durable in the right order, harmless to others' files, clear when it fails."""

import asyncio
import errno
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import InlineWorkers, ThreadWorkers
from automq.s3stream.ports import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreUnavailable,
)
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.os_calls import OsCalls
from tests.support.os_shim import NoDirectOs, NoSyncedWriteOs, RecordingOs, failing

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    return f"{tmp_path}/store"


@pytest.fixture
def calls(root: str) -> RecordingOs:
    return RecordingOs(root)


@pytest.fixture
async def store(root: str, calls: RecordingOs) -> AsyncIterator[FileStore]:
    store = FileStore(root, workers=InlineWorkers(), entropy=SystemEntropy(), calls=calls)
    yield store
    calls.fail = lambda call, path: None
    await store.close()


def pages(size: int) -> memoryview:
    """Page-aligned memory, as a slice of an arena is."""
    view = memoryview(mmap.mmap(-1, size))
    view[:] = os.urandom(size)
    return view


async def test_create_syncs_the_file_before_the_link_and_the_folder_before_it_answers(
    store: FileStore, calls: RecordingOs
) -> None:
    await store.create("wal/0", [pages(8192)])
    calls.take()

    await store.create("wal/1", [pages(8192)])

    assert calls.take() == [
        ("open", "TEMP"),
        ("write", "TEMP"),
        ("sync", "TEMP"),
        ("link", "wal/1"),
        ("sync folder", "wal"),
        ("unlink", "TEMP"),
    ]


async def test_first_create_makes_every_folder_durable_from_the_top(store: FileStore, calls: RecordingOs) -> None:
    await store.create("a/b/0", [b"body"])

    order = [call for call in calls.take() if call[1] != "TEMP" and not call[1].startswith(".tmp")]
    assert order == [
        ("make folder", "."),
        ("sync folder", ".."),
        ("make folder", "a"),
        ("sync folder", "."),
        ("make folder", "a/b"),
        ("sync folder", "a"),
        ("link", "a/b/0"),
        ("sync folder", "a/b"),
    ]


async def test_folders_of_a_predecessor_are_synced_again(root: str, store: FileStore, calls: RecordingOs) -> None:
    """It may have died between making a folder and syncing its parent."""
    os.makedirs(f"{root}/a/b")

    await store.create("a/b/0", [b"body"])

    order = [call for call in calls.take() if call[0] == "sync folder" or call[0] == "link"]
    assert order == [
        ("sync folder", ".."),
        ("sync folder", "."),
        ("sync folder", "a"),
        ("link", "a/b/0"),
        ("sync folder", "a/b"),
    ]


async def test_refused_create_syncs_the_folder_because_the_key_may_be_our_own_earlier_try(
    store: FileStore, calls: RecordingOs
) -> None:
    await store.create("a/0", [b"body"])
    calls.fail = failing("sync folder", errno.EIO, path="a")
    with pytest.raises(StoreUnavailable):
        await store.create("a/1", [b"body"])
    calls.take()

    with pytest.raises(ObjectExists):
        await store.create("a/1", [b"body"])

    assert [call for call in calls.take() if call[1] != "TEMP"] == [("link", "a/1"), ("sync folder", "a")]


async def test_put_syncs_the_file_before_the_rename_and_the_folder_before_it_answers(
    store: FileStore, calls: RecordingOs
) -> None:
    await store.put("a/0", [b"first"])
    calls.take()

    await store.put("a/0", [b"second"])

    assert calls.take() == [
        ("open", "TEMP"),
        ("write", "TEMP"),
        ("sync", "TEMP"),
        ("rename", "a/0"),
        ("sync folder", "a"),
    ]


async def test_padding_is_cut_off_before_the_sync(store: FileStore, calls: RecordingOs) -> None:
    await store.create("a/0", [b"x"])
    calls.take()
    body = os.urandom(70_001)

    await store.create("a/1", [body])

    assert [call for call, path in calls.take() if path == "TEMP"] == ["open", "write", "truncate", "sync", "unlink"]
    assert await store.get("a/1") == body


async def test_file_of_a_deleted_object_is_written_again_after_its_folder_was_synced(
    store: FileStore, calls: RecordingOs
) -> None:
    await store.create("a/0", [pages(8192)])
    await store.create("a/1", [b"stays"])
    calls.take()

    await store.delete(["a/0"])
    body = pages(8192)
    await store.create("a/2", [body])

    assert calls.take() == [
        ("rename", "a/0"),
        ("sync folder", "a"),
        ("open again", "TEMP"),
        ("write", "TEMP"),
        ("sync", "TEMP"),
        ("link", "a/2"),
        ("sync folder", "a"),
        ("unlink", "TEMP"),
    ]
    assert await store.get("a/2") == bytes(body)


@pytest.mark.parametrize(("old", "new"), [(3 * 4096, 4096), (4096, 3 * 4096), (100_000, 10), (10, 100_000), (9000, 0)])
async def test_file_written_again_has_the_new_length_and_nothing_of_the_old(
    store: FileStore, old: int, new: int
) -> None:
    await store.create("a/0", [b"\xff" * old])
    await store.delete(["a/0"])
    body = os.urandom(new)

    await store.create("a/1", [body])

    assert await store.get("a/1") == body


async def test_file_with_a_second_name_is_not_written_again(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"backed up"])
    os.link(f"{root}/a/0", f"{root}/../backup")

    await store.delete(["a/0"])
    await store.create("a/1", [b"something else"])

    assert pathlib.Path(f"{root}/../backup").read_bytes() == b"backed up"


async def test_spare_that_got_a_second_name_is_not_written_again(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"backed up"])
    await store.delete(["a/0"])
    (spare,) = (path for path in pathlib.Path(root).glob(".tmp/*/*") if path.name != "lock")
    os.link(spare, f"{root}/../backup")

    await store.create("a/1", [b"something else"])

    assert pathlib.Path(f"{root}/../backup").read_bytes() == b"backed up"
    assert await store.get("a/1") == b"something else"


async def test_reader_of_an_object_that_is_being_replaced_gets_one_of_the_two(root: str) -> None:
    workers = ThreadWorkers()
    store = FileStore(root, workers=workers, entropy=SystemEntropy())
    bodies = [bytes([number]) * 200_000 for number in range(8)]
    await store.put("a/0", [bodies[0]])
    done = False

    async def write() -> None:
        nonlocal done
        for body in bodies * 4:
            await store.put("a/0", [body])
        done = True

    async def read() -> None:
        while not done:
            assert await store.get("a/0") in bodies

    await asyncio.gather(write(), read(), read())
    await store.close()
    workers.close()


@pytest.mark.parametrize("calls_type", [OsCalls, NoDirectOs, NoSyncedWriteOs])
@pytest.mark.parametrize("size", [4096, 65_537, MIB, MIB + 4096, 2 * MIB + 1])
async def test_every_way_of_writing_stores_the_same_bytes(root: str, calls_type: type[OsCalls], size: int) -> None:
    store = FileStore(root, workers=InlineWorkers(), entropy=SystemEntropy(), calls=calls_type())
    view = pages((size + 4095) & -4096)[:size]

    await store.create("aligned", [view])
    await store.create("unaligned", [view[:1], bytes(view[1:])])
    await store.put("halves", [view[: size // 2 & -4096], view[size // 2 & -4096 :]])

    for key in ("aligned", "unaligned", "halves"):
        assert await store.get(key) == bytes(view)
    await store.close()


@pytest.mark.parametrize("call", ["open", "write", "sync", "link"])
async def test_create_that_fails_leaves_nothing_behind_and_can_be_repeated(
    root: str, store: FileStore, calls: RecordingOs, call: str
) -> None:
    await store.create("a/0", [b"x"])
    calls.fail = failing(call, errno.EIO)

    with pytest.raises(StoreUnavailable):
        await store.create("a/1", [b"body"])

    with pytest.raises(ObjectNotFound):
        await store.get("a/1")
    assert {path.name for path in pathlib.Path(root).glob(".tmp/*/*")} == {"lock"}
    await store.create("a/1", [b"body"])


async def test_full_disk_is_unavailable_and_says_so(store: FileStore, calls: RecordingOs) -> None:
    calls.fail = failing("write", errno.ENOSPC)

    with pytest.raises(StoreUnavailable, match="disk of file://.* is full"):
        await store.create("a/0", [b"body"])

    await store.create("a/0", [b"body"])


async def test_full_disk_gets_back_what_was_kept_to_be_written_again(
    root: str, store: FileStore, calls: RecordingOs
) -> None:
    for number in range(4):
        await store.create(f"a/{number}", [pages(8192)])
    await store.delete(["a/0", "a/1", "a/2"])
    calls.fail = failing("write", errno.ENOSPC)

    with pytest.raises(StoreUnavailable):
        await store.create("a/4", [pages(8192)])

    assert {path.name for path in pathlib.Path(root).glob(".tmp/*/*")} == {"lock"}


async def test_missing_right_is_access_denied(store: FileStore, calls: RecordingOs) -> None:
    calls.fail = failing("make folder", errno.EACCES, path="a")

    with pytest.raises(StoreAccessDenied, match="give this process's user the right"):
        await store.create("a/0", [b"body"])


async def test_root_without_a_parent_is_no_bucket(tmp_path: pathlib.Path) -> None:
    store = FileStore(f"{tmp_path}/missing/store", workers=InlineWorkers(), entropy=SystemEntropy())

    for operation in (store.create("a", [b"x"]), store.put("a", [b"x"]), store.get("a"), store.list("")):
        with pytest.raises(BucketNotFound, match=f"make {tmp_path}/missing"):
            await operation
    (tmp_path / "missing").mkdir()
    await store.create("a", [b"x"])
    await store.close()


async def test_reading_an_absent_store_makes_nothing(root: str, store: FileStore) -> None:
    assert await store.list("") == []
    with pytest.raises(ObjectNotFound):
        await store.get("a")

    assert not os.path.exists(root)


async def test_store_whose_folder_was_removed_makes_it_again(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"x"])
    subprocess.run(["rm", "-r", root], check=True)

    with pytest.raises(StoreUnavailable, match="vanished"):
        await store.create("a/0", [b"y"])
    await store.create("a/0", [b"z"])

    assert await store.get("a/0") == b"z"


async def test_key_below_a_key_and_key_that_is_a_folder_are_refused(store: FileStore) -> None:
    await store.create("a/b", [b"x"])

    for operation in (store.create("a/b/c", [b"x"]), store.create("a", [b"x"]), store.put("a", [b"x"])):
        with pytest.raises(InvalidKey):
            await operation


async def test_files_that_are_no_objects_are_not_listed(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"x"])
    await store.create("a/1", [b"x"])
    await store.delete(["a/1"])
    pathlib.Path(f"{root}/.DS_Store").write_text("a file manager was here")

    assert [info.key for info in await store.list("")] == ["a/0"]


async def test_empty_folders_go_with_their_last_key(root: str, store: FileStore) -> None:
    """As `automq erase` leaves it: a process that writes to a folder keeps it."""
    await store.create("a/b/0", [b"x"])
    other = FileStore(root, workers=InlineWorkers(), entropy=SystemEntropy())

    await other.delete(["a/b/0"])
    await other.close()

    assert sorted(os.listdir(root)) == [".tmp"]
    await store.create("a/b/1", [b"y"])
    assert await store.get("a/b/1") == b"y"


async def test_close_removes_temporary_files(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"x"])
    await store.delete(["a/0"])

    await store.close()

    assert os.listdir(f"{root}/.tmp") == []


async def test_temporary_files_of_the_living_stay_and_those_of_the_dead_are_swept(root: str, store: FileStore) -> None:
    await store.create("a/0", [b"x"])
    dead = pathlib.Path(root) / ".tmp" / "0123456789abcdef"
    dead.mkdir()
    (dead / "7").write_bytes(b"left behind")
    other = FileStore(root, workers=InlineWorkers(), entropy=SystemEntropy())

    await other.create("a/1", [b"y"])

    assert not dead.exists()
    assert len(os.listdir(f"{root}/.tmp")) == 2
    await store.create("a/2", [b"z"])
    await other.close()


async def test_cancelled_create_returns_only_when_its_buffers_are_let_alone(root: str) -> None:
    """Or an arena that is used again would end up under the key."""
    entered, go_on = threading.Event(), threading.Event()

    class SlowOs(OsCalls):
        def link(self, source: str, target: str) -> None:
            entered.set()
            go_on.wait(10)
            super().link(source, target)

    workers = ThreadWorkers()
    store = FileStore(root, workers=workers, entropy=SystemEntropy(), calls=SlowOs())
    creating = asyncio.get_running_loop().create_task(store.create("a/0", [b"x"]))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    creating.cancel()
    done, _ = await asyncio.wait([creating], timeout=0.02)
    assert not done

    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await creating

    assert await store.get("a/0") == b"x"
    await store.close()
    workers.close()


CRASHING_WRITER = """
import asyncio, sys
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.store.file import FileStore

async def main():
    store = FileStore(sys.argv[1], workers=ThreadWorkers(), entropy=SystemEntropy())
    for number in range(1_000_000):
        body = bytes([number % 251]) * (1 + number * 7919 % 300_000)
        await asyncio.gather(store.create(f"c/{number}", [body]), store.put(f"p/{number % 5}", [body]))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_kill_in_the_middle_leaves_no_partial_object_and_loses_no_answer(root: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING_WRITER, root],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "broker"},
        text=True,
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 30:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else 30

    store = FileStore(root, workers=InlineWorkers(), entropy=SystemEntropy())
    infos = await store.list("c/")
    numbers = sorted(int(info.key[2:]) for info in infos)
    assert numbers in (list(range(acknowledged + 1)), list(range(acknowledged + 2)))
    for number in numbers:
        assert await store.get(f"c/{number}") == bytes([number % 251]) * (1 + number * 7919 % 300_000)
    for info in await store.list("p/"):
        assert len(set(await store.get(info.key))) == 1
    await store.create("c/next", [b"x"])
    assert len(os.listdir(f"{root}/.tmp")) == 1
    await store.close()


async def test_f9_refusal_while_closing_is_no_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    workers = ThreadWorkers()
    store = FileStore(str(tmp_path / "store"), workers=workers, entropy=SystemEntropy())
    await store.put("a", [b"x"])
    close = store._temporary.close
    monkeypatch.setattr(store._temporary, "close", refuse)

    await store.close()

    monkeypatch.undo()
    close()
    workers.close()
