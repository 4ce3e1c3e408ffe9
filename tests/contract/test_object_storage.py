"""What every object store promises, asked of each adapter; `conftest` says which there are."""

import asyncio
import os

import pytest

from automq.s3stream.ports import (
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectStorage,
    StoreConflict,
)
from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.ranges import open_range


async def keys_of(store: ObjectStorage, prefix: str = "", **options) -> list[str]:
    return [info.key for info in await store.list(prefix, **options)]


async def test_created_object_is_read_back(store: ObjectStorage) -> None:
    await store.create("a/b", [b"hello ", bytearray(b"object "), memoryview(b"store")])

    assert await store.get("a/b") == b"hello object store"


async def test_put_object_is_read_back(store: ObjectStorage) -> None:
    await store.put("a/b", [b"first"])

    assert await store.get("a/b") == b"first"


async def test_put_overwrites(store: ObjectStorage) -> None:
    await store.put("a/b", [b"the first and longer body"])
    await store.put("a/b", [b"second"])

    assert await store.get("a/b") == b"second"
    assert await store.list("a/") == [ObjectInfo("a/b", 6)]


async def test_create_of_a_taken_key_is_refused_and_changes_nothing(store: ObjectStorage) -> None:
    await store.create("a/b", [b"first"])

    with pytest.raises(ObjectExists):
        await store.create("a/b", [b"second"])

    assert await store.get("a/b") == b"first"


async def test_create_of_a_key_that_was_put_is_refused(store: ObjectStorage) -> None:
    await store.put("a/b", [b"first"])

    with pytest.raises(ObjectExists):
        await store.create("a/b", [b"second"])


async def test_deleted_key_can_be_created_again(store: ObjectStorage) -> None:
    await store.create("a/b", [b"first"])
    await store.delete(["a/b"])
    await store.create("a/b", [b"second"])

    assert await store.get("a/b") == b"second"


async def test_of_many_creators_exactly_one_wins_and_its_body_is_stored(store: ObjectStorage) -> None:
    async def create(number: int) -> bool:
        try:
            await store.create("race", [b"%d" % number])
        except (ObjectExists, StoreConflict):
            return False
        return True

    won = await asyncio.gather(*(create(number) for number in range(16)))

    assert won.count(True) == 1
    assert await store.get("race") == b"%d" % won.index(True)


async def test_bulk_creation_of_a_taken_key_is_refused_and_changes_nothing(store: ObjectStorage) -> None:
    for size in (1, 20_000_000):
        first, second = os.urandom(size), os.urandom(size)
        await store.create_bulk(f"bulk/{size}", [first[:1], memoryview(first)[1:]])

        with pytest.raises(ObjectExists):
            await store.create_bulk(f"bulk/{size}", [second])

        assert await store.get(f"bulk/{size}") == first


async def test_age_of_an_object_is_told_by_the_clock_of_its_store(store: ObjectStorage) -> None:
    before = await store.time_ms()
    await store.put("a/b", [b"x"])
    after = await store.time_ms()

    (info,) = await store.list("a/")

    if before is None or after is None:
        assert info.modified_ms is None
    else:
        # S3 says seconds in its Date.
        assert info.modified_ms is not None
        assert before - 1000 <= info.modified_ms <= after + 1000


async def test_store_without_unfinished_uploads_lists_none(store: ObjectStorage) -> None:
    await store.put("large", [bytes(20_000_000)])

    assert await store.list_uploads("") == []
    await store.abort_uploads([])


async def test_missing_object_is_not_found(store: ObjectStorage) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get("a/b")
    with pytest.raises(ObjectNotFound):
        await store.get_range("a/b", 0, 10)


async def test_folder_of_a_key_is_no_object(store: ObjectStorage) -> None:
    await store.create("a/b", [b"x"])

    with pytest.raises(ObjectNotFound):
        await store.get("a")


async def test_range_is_cut_at_the_end_of_the_object(store: ObjectStorage) -> None:
    await store.create("a/b", [b"0123456789"])

    for start, end in ((0, 10), (0, 3), (3, 7), (8, 20), (10, 20), (15, 20)):
        assert bytes(await store.get_range("a/b", start, end)) == b"0123456789"[start:end]


async def test_long_range_is_read_in_pieces_of_any_size(store: ObjectStorage) -> None:
    body = bytes(range(256)) * 4000
    await store.put("a", [body])

    for start, end in ((0, len(body)), (1000, 900_000), (1_000_000, 2_000_000)):
        reader = open_range(store, "a", start, end)
        found = b""
        for piece in (1, 70_000, 1 << 20, 1 << 20):
            buffer = bytearray(piece)
            count = await reader.read_into(memoryview(buffer))
            found += buffer[:count]
        assert found == body[start:end]
        reader.close()

    with pytest.raises(ObjectNotFound):
        await open_range(store, "missing", 0, 10).read_into(memoryview(bytearray(10)))


async def test_empty_object_is_an_object(store: ObjectStorage) -> None:
    await store.create("a/empty", [])
    await store.put("a/none", [b""])

    assert await store.get("a/empty") == b""
    assert bytes(await store.get_range("a/none", 0, 5)) == b""
    assert await store.list("a/") == [ObjectInfo("a/empty", 0), ObjectInfo("a/none", 0)]


async def test_create_keeps_every_byte_of_every_size(store: ObjectStorage) -> None:
    for size in (1, 4095, 4096, 4097, 65536, 65537, 1_048_576, 1_048_577, 8_388_608):
        body = os.urandom(size)
        key = f"sizes/{size:08d}"

        await store.create(key, [body[: size // 3], memoryview(body)[size // 3 :]])

        assert await store.get(key) == body
        assert await store.list(key) == [ObjectInfo(key, size)]


async def test_put_keeps_every_byte_of_a_large_body(store: ObjectStorage) -> None:
    parts = [os.urandom(size) for size in (5, 11_000_000, 4096, 9_000_001, 1, 13)]

    await store.put("large", parts)

    body = b"".join(parts)
    assert await store.list("") == [ObjectInfo("large", len(body))]
    assert bytes(await store.get_range("large", 10_999_000, 11_010_000)) == body[10_999_000:11_010_000]
    assert await store.get("large") == body


async def test_body_is_taken_when_the_call_returns(store: ObjectStorage) -> None:
    buffer = bytearray(b"before")

    await store.create("a/created", [buffer])
    await store.put("a/put", [buffer])
    buffer[:] = b"behind"

    assert await store.get("a/created") == b"before"
    assert await store.get("a/put") == b"before"


async def test_deleted_object_is_gone(store: ObjectStorage) -> None:
    await store.create("a/b", [b"x"])
    await store.create("a/c", [b"y"])

    await store.delete(["a/b"])

    with pytest.raises(ObjectNotFound):
        await store.get("a/b")
    assert await keys_of(store) == ["a/c"]


async def test_deleting_what_is_not_there_is_no_error(store: ObjectStorage) -> None:
    await store.create("a/b", [b"x"])

    await store.delete(["a/missing", "a/b", "b/c/d"])
    await store.delete(["a/b"])
    await store.delete([])

    assert await keys_of(store) == []


async def test_many_keys_are_deleted_at_once(store: ObjectStorage) -> None:
    keys = [f"many/{number:05d}" for number in range(1100)]
    await asyncio.gather(*(store.put(key, [b"x"]) for key in keys[::10]))

    await store.delete(keys)

    assert await keys_of(store) == []


async def test_list_is_in_byte_order_of_the_whole_key(store: ObjectStorage) -> None:
    # '-' sorts before '/', and '/' before '0': a walk over folders alone would get this wrong.
    keys = ["a/b", "a-b", "a0", "a/B", "B", "a/b0", "a/b-c/d", "aa/b", "a/b,c"]
    for key in reversed(keys):
        await store.put(key, [b"x"])

    assert await keys_of(store) == sorted(keys)


async def test_list_takes_any_prefix(store: ObjectStorage) -> None:
    for key in ["log/1/0", "log/1/1", "log/10/0", "log/2/0", "logs/1"]:
        await store.put(key, [b"x"])

    assert await keys_of(store, "log/1") == ["log/1/0", "log/1/1", "log/10/0"]
    assert await keys_of(store, "log/1/") == ["log/1/0", "log/1/1"]
    assert await keys_of(store, "lo") == ["log/1/0", "log/1/1", "log/10/0", "log/2/0", "logs/1"]
    assert await keys_of(store, "log/1/1") == ["log/1/1"]
    assert await keys_of(store, "other") == []
    assert await keys_of(store, "other/x/") == []


async def test_list_starts_after_a_key_and_ends_at_the_limit(store: ObjectStorage) -> None:
    keys = ["a/0", "a/1/x", "a/1/y", "a/2", "b/0"]
    for key in keys:
        await store.put(key, [b"x"])

    assert await keys_of(store, start_after="a/1/x") == ["a/1/y", "a/2", "b/0"]
    assert await keys_of(store, "a/", start_after="a/1") == ["a/1/x", "a/1/y", "a/2"]
    assert await keys_of(store, "a/", start_after="a/1/z", limit=1) == ["a/2"]
    assert await keys_of(store, limit=2) == ["a/0", "a/1/x"]
    assert await keys_of(store, limit=0) == []
    assert await keys_of(store, "b/", start_after="a/9") == ["b/0"]
    assert await keys_of(store, "a/", start_after="b") == []


async def test_list_shows_every_object_right_after_its_creation(store: ObjectStorage) -> None:
    for number in range(20):
        await store.create(f"fresh/{number:02d}", [b"x"])

        assert len(await store.list("fresh/")) == number + 1


async def test_empty_store_lists_nothing(store: ObjectStorage) -> None:
    assert await store.list("") == []


async def test_unusual_keys_are_refused(store: ObjectStorage) -> None:
    for key in ("", "/a", "a/", "a//b", "../a", "a/../b", "a/.hidden", "a b", "ä", "a\0b", "a" * 801):
        for operation in (store.create(key, [b"x"]), store.put(key, [b"x"]), store.get(key)):
            with pytest.raises(InvalidKey):
                await operation


async def test_nothing_outside_of_the_prefix_is_deleted(store: ObjectStorage) -> None:
    for key in ("", "/a", "../a", "a/../b", "."):
        with pytest.raises(InvalidKey):
            await store.delete([key])


async def test_close_can_be_called_twice(store: ObjectStorage) -> None:
    await store.create("node/1", [b"x"])

    await store.close()
    await store.close()
