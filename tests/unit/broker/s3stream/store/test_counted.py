"""Operations of a store without requests of its own count as requests."""

import asyncio
from collections.abc import Sequence

import pytest

from automq.s3stream.ports import Buffer, ObjectExists, ObjectNotFound, StoreUnavailable
from automq.s3stream.store.counted import CountedStore
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.store.requests import Operation, Purpose, ReportsRequests, Request, RequestOutcome, serving


class HangingStore(MemoryStore):
    async def put(self, key: str, body: Sequence[Buffer]) -> None:
        await asyncio.sleep(3600)


class BrokenStore(MemoryStore):
    async def delete(self, keys: Sequence[str]) -> None:
        raise StoreUnavailable("out of order")


def counted(inner: MemoryStore) -> tuple[CountedStore, list[Request]]:
    requests: list[Request] = []
    store = CountedStore(inner)
    assert isinstance(store, ReportsRequests)
    store.on_request(requests.append)
    return store, requests


async def test_operations_are_requests_with_bytes_and_outcome() -> None:
    store, requests = counted(MemoryStore())

    await store.create("c/data/1", [b"ab", b"c"])
    with pytest.raises(ObjectExists):
        await store.create_bulk("c/data/1", [b"x"])
    assert await store.get_range("c/data/1", 1, 3) == b"bc"
    with pytest.raises(ObjectNotFound):
        await store.get("c/wal/1")

    assert [(one.operation, one.purpose, one.outcome, one.sent_bytes, one.received_bytes) for one in requests] == [
        (Operation.PUT_OBJECT, Purpose.UPLOAD, RequestOutcome.SUCCESS, 3, 0),
        (Operation.PUT_OBJECT, Purpose.UPLOAD, RequestOutcome.REFUSED, 1, 0),
        (Operation.GET_OBJECT, Purpose.READ, RequestOutcome.SUCCESS, 0, 2),
        (Operation.GET_OBJECT, Purpose.WAL, RequestOutcome.REFUSED, 0, 0),
    ]


async def test_what_failed_or_was_given_up_is_counted_too() -> None:
    store, requests = counted(BrokenStore())
    with pytest.raises(StoreUnavailable):
        await store.delete(["c/data/1"])
    hanging, others = counted(HangingStore())
    task = asyncio.create_task(hanging.put("c/data/1", [b"a"]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    assert [one.outcome for one in requests + others] == [RequestOutcome.FAILED, RequestOutcome.NO_ANSWER]


async def test_what_serves_compaction_is_no_upload_and_no_read() -> None:
    store, requests = counted(MemoryStore())

    async def work() -> None:
        await store.put("c/data/1", [b"a"])

    with serving(Purpose.COMPACTION):
        # Tasks that the work starts serve the same.
        await asyncio.create_task(work())
        await store.get("c/data/1")
    await store.get("c/data/1")

    assert [one.purpose for one in requests] == [Purpose.COMPACTION, Purpose.COMPACTION, Purpose.READ]
