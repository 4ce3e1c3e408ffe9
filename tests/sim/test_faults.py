"""The faulty store: each fate does to caller and bucket what it says, and dead callers' PUTs still land."""

import asyncio
import random

import pytest

from automq.s3stream.ports import (
    ObjectExists,
    ObjectNotFound,
    StoreAccessDenied,
    StoreConflict,
    StoreUnavailable,
)
from automq.s3stream.store.memory import MemoryStore
from tests.support.faults import Fate, FaultRates, SimStore
from tests.support.sim_loop import Process, SimLoop, run_world


def run(main, seed=1):
    loop = SimLoop(seed)
    store = SimStore(MemoryStore(), loop, random.Random(seed))
    try:
        return run_world(loop, main(loop, store))
    finally:
        loop.end()


def fated(fate, *, operation="create"):
    return lambda sent: fate if sent.name == operation else None


async def in_bucket(store, key):
    try:
        return await store.inner.get(key)
    except ObjectNotFound:
        return None


def test_without_faults_it_is_a_store():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        await facade.create("a/1", [b"one", memoryview(b"two")])
        with pytest.raises(ObjectExists):
            await facade.create("a/1", [b"other"])
        await facade.put("a/2", [b"x"])
        assert await facade.get("a/1") == b"onetwo"
        assert bytes(await facade.get_range("a/1", 2, 4)) == b"et"
        assert [info.key for info in await facade.list("a/")] == ["a/1", "a/2"]
        await facade.delete(["a/1", "a/9"])
        with pytest.raises(ObjectNotFound):
            await facade.get("a/1")
        assert loop.time() > 0

    run(main)


@pytest.mark.parametrize(
    ("fate", "error", "at_once", "after_a_minute"),
    [
        (Fate.REFUSED, StoreUnavailable, None, None),
        (Fate.LOST, StoreUnavailable, b"x", b"x"),
        (Fate.LATE, StoreUnavailable, None, b"x"),
        (Fate.CONFLICT, StoreConflict, None, None),
        (Fate.SLOW, None, b"x", b"x"),
    ],
)
def test_fate_of_a_create(fate, error, at_once, after_a_minute):
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        store.direct = fated(fate)
        if error is None:
            await facade.create("k", [b"x"])
        else:
            with pytest.raises(error):
                await facade.create("k", [b"x"])
        first = await in_bucket(store, "k")
        await asyncio.sleep(60)
        return first, await in_bucket(store, "k")

    assert run(main) == (at_once, after_a_minute)


@pytest.mark.parametrize("operation", ["create", "create_bulk", "put"])
@pytest.mark.parametrize(("verifies", "kept"), [(True, None), (False, b"ab")])
def test_half_a_put_is_kept_by_a_store_that_verifies_nothing(operation, verifies, kept):
    async def main(loop, store):
        store.verifies_checksums = verifies
        store.direct = fated(Fate.CUT, operation=operation)
        with pytest.raises(StoreUnavailable):
            await getattr(store.facade(Process(loop, "a")), operation)("k", [b"abcd"])
        return await in_bucket(store, "k")

    assert run(main) == kept


def test_half_a_create_changes_nothing_that_is_there():
    async def main(loop, store):
        store.verifies_checksums = False
        await store.inner.create("k", [b"whole"])
        store.direct = fated(Fate.CUT)
        with pytest.raises(StoreUnavailable):
            await store.facade(Process(loop, "a")).create("k", [b"abcd"])
        return await in_bucket(store, "k")

    assert run(main) == b"whole"


def test_a_create_that_a_proxy_tries_again_hears_of_itself():
    async def main(loop, store):
        store.direct = fated(Fate.TWICE)
        with pytest.raises(ObjectExists):
            await store.facade(Process(loop, "a")).create("k", [b"x"])
        return await in_bucket(store, "k")

    assert run(main) == b"x"


def test_a_duplicate_of_a_put_comes_late():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        store.direct = fated(Fate.REPEATED, operation="put")
        await facade.put("k", [b"old"])
        store.direct = lambda operation: None
        await facade.put("k", [b"new"])
        first = await in_bucket(store, "k")
        await asyncio.sleep(60)
        return first, await in_bucket(store, "k")

    assert run(main) == (b"new", b"old")


def test_some_operations_are_refused_while_others_work():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        store.outage(10, names=("create", "delete"), error=StoreAccessDenied)
        await facade.put("k", [b"x"])
        assert await facade.get("k") == b"x"
        with pytest.raises(StoreAccessDenied):
            await facade.create("l", [b"x"])
        with pytest.raises(StoreAccessDenied):
            await facade.delete(["k"])
        await asyncio.sleep(11)
        await facade.delete(["k"])
        return await in_bucket(store, "k")

    assert run(main) is None


def test_404_to_a_delete_is_a_switch():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        await facade.delete(["k"])
        store.answers_404_to_deletes = True
        with pytest.raises(ObjectNotFound):
            await facade.delete(["k"])

    run(main)


@pytest.mark.parametrize("limit", [3, 4, 1_000_000])
def test_a_listing_in_pages_misses_nothing_that_stayed(limit):
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        for number in range(6):
            await store.inner.create(f"k{number}", [b"x"])
        store.page_keys = 2
        first = store.operations
        listing = asyncio.ensure_future(facade.list("k", start_after="k0", limit=limit))
        while store.operations < first + 2:
            await asyncio.sleep(0.001)
        await store.inner.delete(["k1"])
        await store.inner.create("k9", [b"x"])
        return [info.key for info in await listing]

    # The key that went after its page was made is still in it; the one that came before its page was made is in it.
    assert run(main) == ["k1", "k2", "k3", "k4", "k5", "k9"][:limit]


def test_reads_fail_but_are_never_late():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        await facade.create("k", [b"x"])
        store.direct = fated(Fate.LATE, operation="get")
        with pytest.raises(StoreUnavailable):
            await facade.get("k")

    run(main)


def test_put_of_a_killed_process_lands():
    async def main(loop, store):
        process = Process(loop, "a")
        process.spawn(store.facade(process).create("k", [b"x"]))
        await asyncio.sleep(0)
        process.kill()
        await asyncio.sleep(1)
        return await in_bucket(store, "k")

    assert run(main) == b"x"


def test_put_of_a_cancelled_caller_lands():
    async def main(loop, store):
        process = Process(loop, "a")
        task = process.spawn(store.facade(process).create("k", [b"x"]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(1)
        return await in_bucket(store, "k")

    assert run(main) == b"x"


def test_hung_create_never_answers():
    async def main(loop, store):
        store.direct = fated(Fate.HUNG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await store.facade(Process(loop, "a")).create("k", [b"x"])

    run(main)


def test_outage_ends_by_itself():
    async def main(loop, store):
        facade = store.facade(Process(loop, "a"))
        store.outage(10, part="wal/")
        await facade.create("meta/1", [b"x"])
        with pytest.raises(StoreUnavailable):
            await facade.create("wal/1", [b"x"])
        await asyncio.sleep(60)
        await facade.create("wal/2", [b"x"])

    run(main)


def test_outage_of_one_process_leaves_the_others_alone():
    async def main(loop, store):
        cut, other = Process(loop, "a"), Process(loop, "b")
        store.outage(10, process=cut)
        await store.facade(other).create("k", [b"x"])
        with pytest.raises(StoreUnavailable):
            await store.facade(cut).get("k")
        store.heal()
        await store.facade(cut).get("k")

    run(main)


def test_body_that_changes_on_its_way_is_a_violation():
    async def main(loop, store):
        process = Process(loop, "a")
        body = bytearray(b"x")
        process.spawn(store.facade(process).create("k", [body]))
        await asyncio.sleep(0)
        body[0] = 0
        await asyncio.sleep(1)
        return store.violations

    assert len(run(main)) == 1


def test_observers_see_what_took_effect():
    async def main(loop, store):
        seen = []
        store.on_applied.append(lambda operation, error: seen.append((operation.name, operation.key, error is None)))
        facade = store.facade(Process(loop, "a"))
        await facade.create("k", [b"x"])
        with pytest.raises(ObjectExists):
            await facade.create("k", [b"y"])
        return seen

    assert run(main) == [("create", "k", True), ("create", "k", False)]


def test_reader_is_told_in_its_own_time():
    async def main(loop, store):
        seen = []
        process = Process(loop, "a")
        facade = store.facade(process)
        facade.on_read = lambda key, data: seen.append((key, data, loop.time()))
        await store.inner.create("k", [b"x"])
        process.spawn(facade.get("k"))
        await asyncio.sleep(0.001)
        process.pause()
        await asyncio.sleep(10)
        assert seen == []
        process.resume()
        await asyncio.sleep(0.1)
        return seen

    assert run(main)[0][2] > 10


def test_rates_are_drawn_as_given():
    rates = FaultRates(refused=0.1, lost=0.1, late=0.1, conflict=0.1, slow=0.1, twice=0.1, repeated=0.1, cut=0.1)
    dice = random.Random(1)
    fates = [rates.draw(dice) for _ in range(4000)]

    for fate in set(Fate) - {Fate.OK, Fate.HUNG, Fate.HELD}:
        assert 300 < fates.count(fate) < 500
    assert 600 < fates.count(Fate.OK) < 1000
