"""Deletes behind everybody's back: coalesced, bounded, repeated, and never in anybody's way."""

import asyncio
from collections.abc import Sequence

import pytest

from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import (
    BucketNotFound,
    ObjectNotFound,
    StoreAccessDenied,
    StoreCredentialsRejected,
    StoreError,
    StoreUnavailable,
    StoreUnsupported,
)
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.wal.trimmer import DELETES_AT_ONCE, LONGEST_PAUSE_S, SlotTrimmer

pytestmark = pytest.mark.looptime


class DeletingStore(MemoryStore):
    """Records its deletes; fails those that a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.deletes: list[list[str]] = []
        self.failures: list[StoreError] = []
        self.refuses = False
        self.seconds = 0.0

    async def delete(self, keys: Sequence[str]) -> None:
        self.deletes.append(list(keys))
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if self.refuses:
            raise StoreAccessDenied("no deletes")


def a_trimmer(store: DeletingStore) -> tuple[SlotTrimmer, Tasks, list[str]]:
    crashes: list[str] = []
    tasks = Tasks("test", on_crash=lambda name, error: crashes.append(f"{name}: {error!r}"))
    trimmer = SlotTrimmer(
        store=store,
        key_of=lambda sequence: f"wal/{sequence}",
        entropy=SeededEntropy(1),
        tasks=tasks,
        metrics=Metrics(),
    )
    return trimmer, tasks, crashes


async def test_only_what_lies_below_is_deleted_and_only_once() -> None:
    store = DeletingStore()
    trimmer, tasks, _ = a_trimmer(store)

    trimmer.trim(2)
    await asyncio.sleep(1)
    trimmer.trim(2)
    trimmer.trim(1)
    trimmer.trim(4)
    await asyncio.sleep(1)

    assert store.deletes == [["wal/0", "wal/1"], ["wal/2", "wal/3"]]
    assert (trimmer.trimmed_to, trimmer.deleted_below, len(tasks)) == (4, 4, 0)


async def test_b8_commits_while_a_delete_is_slow_are_made_up_for_by_one() -> None:
    store = DeletingStore()
    store.seconds = 30
    trimmer, _, _ = a_trimmer(store)
    for position in range(1, 101):
        trimmer.trim(position)
        await asyncio.sleep(0.2)
    await asyncio.sleep(100)

    assert [len(keys) for keys in store.deletes] == [1, 99]


async def test_b9_refused_deletes_ask_for_one_bounded_batch_and_seldom() -> None:
    """A day of uploads against a store that never deletes: what is asked does not grow with what waits."""
    store = DeletingStore()
    store.refuses = True
    trimmer, _, _ = a_trimmer(store)
    for hour in range(24):
        trimmer.trim(14_400 * (hour + 1))
        await asyncio.sleep(3600)

    assert {len(keys) for keys in store.deletes} == {DELETES_AT_ONCE}
    assert len(store.deletes) <= 24 * 3600 / (LONGEST_PAUSE_S / 2) + 20

    store.refuses = False
    await asyncio.sleep(LONGEST_PAUSE_S)
    assert trimmer.deleted_below == 24 * 14_400


async def test_b9_what_is_done_is_not_done_again_after_a_failure() -> None:
    store = DeletingStore()
    store.seconds = 1
    trimmer, _, _ = a_trimmer(store)
    trimmer.trim(2500)
    await asyncio.sleep(1.5)
    store.failures = [StoreUnavailable("503"), StoreUnavailable("503")]
    await asyncio.sleep(100)

    assert [keys[0] for keys in store.deletes] == ["wal/0", "wal/1000", "wal/1000", "wal/1000", "wal/2000"]


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("503"),
        StoreAccessDenied("no"),
        StoreCredentialsRejected("no"),
        BucketNotFound("gone"),
        ObjectNotFound("404 to a delete"),
        StoreUnsupported("no deletes"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_error_of_the_store_ends_it(error: StoreError, caplog: pytest.LogCaptureFixture) -> None:
    store = DeletingStore()
    store.failures = [error] * 5
    trimmer, _, crashes = a_trimmer(store)
    trimmer.trim(3)
    await asyncio.sleep(300)

    assert (trimmer.deleted_below, crashes) == (3, [])
    assert [record.message for record in caplog.records if "deleted" in record.message] == [
        "wal slots cannot be deleted; tried again until they are"
    ]


async def test_stopped_it_deletes_nothing_more() -> None:
    store = DeletingStore()
    store.refuses = True
    trimmer, tasks, _ = a_trimmer(store)
    trimmer.trim(3)
    await asyncio.sleep(1)
    trimmer.stop()
    asked = len(store.deletes)
    await asyncio.sleep(600)

    assert (len(store.deletes), len(tasks)) == (asked, 0)


@pytest.mark.parametrize("refuses", [False, True])
async def test_an_orderly_end_waits_for_one_attempt(refuses: bool) -> None:
    store = DeletingStore()
    store.refuses, store.seconds = refuses, 0.5
    trimmer, _, _ = a_trimmer(store)
    started = asyncio.get_running_loop().time()
    await trimmer.attempt(10)
    trimmer.trim(3)

    await trimmer.attempt(10)

    assert len(store.deletes) == 1
    assert asyncio.get_running_loop().time() - started == 0.5


async def test_an_orderly_end_does_not_wait_long() -> None:
    store = DeletingStore()
    store.seconds = 100
    trimmer, _, _ = a_trimmer(store)
    trimmer.trim(3)
    await trimmer.attempt(2)

    assert asyncio.get_running_loop().time() <= 3
