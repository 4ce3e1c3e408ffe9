"""Creating exactly once: every answer a store may give, in every order."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import looptime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import CorruptData, FormatTooNew, StoreDamaged
from automq.s3stream.ports import (
    Buffer,
    ObjectExists,
    StoreAccessDenied,
    StoreConflict,
    StoreCredentialsRejected,
    StoreError,
    StoreUnavailable,
)
from automq.s3stream.store import conditional
from automq.s3stream.store.conditional import KeyTaken, Verdict, create_once
from automq.s3stream.store.memory import MemoryStore
from tests.support.rewrite import rewritten

pytestmark = pytest.mark.looptime

LOST = "lost"
"""Applied, and then no answer."""


class ScriptedStore(MemoryStore):
    """Meets each create, and each get, with the next entry of a script; then it works."""

    def __init__(self, creates: Sequence[object] = (), gets: Sequence[object] = ()) -> None:
        super().__init__()
        self.creates, self.gets = list(creates), list(gets)
        self.bodies: list[bytes] = []

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        self.bodies.append(b"".join(body))
        step = self.creates.pop(0) if self.creates else None
        if step == LOST:
            try:
                await super().create(key, body)
            except ObjectExists:
                pass
            raise StoreUnavailable("lost")
        if isinstance(step, StoreError):
            raise step
        await super().create(key, body)

    async def get(self, key: str) -> bytes:
        step = self.gets.pop(0) if self.gets else None
        if isinstance(step, StoreError):
            raise step
        if callable(step):
            await step(self)
        return await super().get(key)


def decode(data: bytes) -> bytes:
    """A format of words and padding: whole when it ends in one of the writers' last letters."""
    word = data.rstrip(b".")
    if word.startswith(b"newer"):
        raise FormatTooNew(key="key", version=2, supported=1)
    if not word.startswith((b"ours", b"theirs", b"writer")):
        raise CorruptData(key="key", offset=0, length=len(data), what="word")
    return word


async def create(store: MemoryStore, body: bytes = b"ours", **options) -> None:
    await create_once(store, "key", [body], decode=decode, entropy=SeededEntropy(1), **options)


async def test_created_key_is_ours() -> None:
    store = ScriptedStore()

    await create(store)

    assert await store.get("key") == b"ours"


@pytest.mark.parametrize(
    "failure",
    [
        StoreConflict("409"),
        StoreUnavailable("503"),
        StoreCredentialsRejected("rotating"),
        StoreAccessDenied("policy"),
        LOST,
    ],
    ids=str,
)
async def test_every_failure_is_asked_again_with_the_same_bytes(failure: object) -> None:
    store = ScriptedStore([failure, failure, failure])

    await create(store)

    assert await store.get("key") == b"ours"
    assert store.bodies == [b"ours"] * 4


async def test_own_earlier_try_whose_answer_was_lost_is_a_success() -> None:
    store = ScriptedStore([LOST])

    await create(store)

    assert len(store.bodies) == 2


async def test_anothers_body_means_taken_and_is_carried() -> None:
    store = ScriptedStore()
    await store.put("key", [b"theirs"])

    with pytest.raises(KeyTaken, match="key was created by another writer") as taken:
        await create(store)

    assert taken.value.key == "key"
    assert taken.value.body == b"theirs"


@pytest.mark.parametrize("body", [b"ours and more", b"theirs", b"newer than we know"])
async def test_whole_value_that_differs_is_anothers(body: bytes) -> None:
    store = ScriptedStore()
    await store.put("key", [body])

    with pytest.raises(KeyTaken):
        await create(store)

    assert await store.get("key") == body


@pytest.mark.parametrize("body", [b"", b"o", b"our"])
async def test_f1_half_put_of_our_own_is_damage_and_no_fence(body: bytes) -> None:
    store = ScriptedStore()
    await store.put("key", [body])

    with pytest.raises(
        StoreDamaged, match=f"first {len(body)} of the 4 bytes.*prefix of our own body.*half a PUT"
    ) as damage:
        await create(store)

    assert damage.value.key == "key"
    assert await store.get("key") == body


async def test_f1_half_put_that_the_format_takes_for_whole_is_damage_too() -> None:
    store = ScriptedStore()
    await store.put("key", [b"ours.."])

    with pytest.raises(StoreDamaged, match="first 6 of the 8 bytes"):
        await create(store, b"ours....")


@pytest.mark.parametrize("body", [b"Ours", b"thei", b"\0" * 4, b"another kind of thing"])
async def test_f1_what_does_not_decode_is_damage_and_left_as_it_is(body: bytes) -> None:
    store = ScriptedStore([LOST], gets=[lambda store: store.put("key", [body])])

    with pytest.raises(CorruptData):
        await create(store)

    assert await store.get("key") == body
    assert len(store.bodies) == 2


async def test_our_own_bytes_with_other_padding_are_ours() -> None:
    store = ScriptedStore()
    await store.put("key", [b"ours...."])

    await create(store, b"ours.")

    assert await store.get("key") == b"ours...."


async def test_key_that_vanishes_before_it_can_be_read_is_taken() -> None:
    async def vanish(store: MemoryStore) -> None:
        await store.delete(["key"])

    store = ScriptedStore(gets=[vanish])
    await store.put("key", [b"ours"])

    with pytest.raises(KeyTaken) as taken:
        await create(store)

    assert taken.value.body is None


async def test_read_that_fails_is_repeated() -> None:
    store = ScriptedStore([LOST], gets=[StoreUnavailable("503"), StoreCredentialsRejected("rotating")])

    await create(store)

    assert len(store.bodies) == 4


async def test_outage_of_an_hour_is_waited_out(looptime: looptime.LoopTimeProxy) -> None:
    loop = asyncio.get_running_loop()
    store = ScriptedStore()
    working = store.create

    async def down(key: str, body: Sequence[Buffer]) -> None:
        if loop.time() < 3600:
            raise StoreUnavailable("down")
        await working(key, body)

    store.create = down  # type: ignore[method-assign]

    await create(store)

    # After its end nobody waits longer than the longest pause.
    assert 3600 <= loop.time() <= 3600 + conditional.LONGEST_PAUSE_S


async def test_pauses_grow_from_short_to_longest(looptime: looptime.LoopTimeProxy) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    class DownStore(MemoryStore):
        async def create(self, key: str, body: Sequence[Buffer]) -> None:
            times.append(loop.time())
            if len(times) == 14:
                return
            raise StoreUnavailable("down")

    await create(DownStore())

    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert 0 < pauses[0] <= conditional.FIRST_PAUSE_S
    assert max(pauses) <= conditional.LONGEST_PAUSE_S
    assert pauses[-1] >= conditional.LONGEST_PAUSE_S / 2


async def test_trouble_is_told_at_every_failure_and_its_end_once() -> None:
    failures = [StoreUnavailable("503"), StoreCredentialsRejected("refused")]
    told: list[StoreError | None] = []

    await create(ScriptedStore(failures), on_trouble=told.append)

    assert told == [*failures, None]


async def test_no_trouble_is_not_told() -> None:
    told: list[StoreError | None] = []

    await create(ScriptedStore(), on_trouble=told.append)

    assert told == []


async def test_cancelling_stops_asking() -> None:
    store = ScriptedStore([StoreUnavailable("down")] * 1000)
    creating = asyncio.get_running_loop().create_task(create(store))
    await asyncio.sleep(12)

    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating

    asked = len(store.bodies)
    await asyncio.sleep(60)
    assert len(store.bodies) == asked


async def test_memory_that_is_no_bytes_is_compared_as_well() -> None:
    store = ScriptedStore([LOST])

    await create_once(store, "key", [bytearray(b"ou"), memoryview(b"rs")], decode=decode, entropy=SeededEntropy(1))

    assert store.bodies == [b"ours"] * 2


@given(
    st.lists(
        st.lists(st.sampled_from([LOST, StoreConflict("409"), StoreUnavailable("503"), None]), max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_of_any_writers_with_any_failures_exactly_one_is_told_that_the_key_is_its_own(
    scripts: list[list[object]],
) -> None:
    """Writers take turns; each has its own script of failures on the way to one common store."""

    async def write() -> tuple[list[bool], bytes]:
        common = MemoryStore()
        outcomes: list[bool] = []
        for number, script in enumerate(scripts):
            store = ScriptedStore([step for step in script if step is not None])
            store._bodies, store._keys = common._bodies, common._keys
            try:
                await create(store, b"writer %d" % number)
                outcomes.append(True)
            except KeyTaken:
                outcomes.append(False)
        return outcomes, await common.get("key")

    loop = looptime.new_event_loop()
    try:
        outcomes, stored = loop.run_until_complete(write())
    finally:
        loop.close()

    assert outcomes.count(True) == 1
    assert stored == b"writer %d" % outcomes.index(True)


_UNKNOWN = "verdict, failure = (Verdict.UNKNOWN, error)"
CONFLICT = f"except StoreConflict as error:\n            {_UNKNOWN}"
NO_ANSWER = f"{CONFLICT}\n        except StoreError as error:\n            {_UNKNOWN}"


def _told(answer: str, verdict: Verdict) -> Callable[..., None]:
    """`create_once` that takes `answer` for `verdict`."""
    made: Callable[..., None] = rewritten(create_once, (answer, answer.replace("Verdict.UNKNOWN", str(verdict))))
    return made


@pytest.mark.parametrize(
    ("rule", "instead", "creates", "held"),
    [
        ("judge_found", lambda found, body: Verdict.TAKEN, [LOST], None),
        ("judge_found", lambda found, body: Verdict.LANDED, [], b"theirs"),
        ("judge_foreign", lambda key, found, body, decode: Verdict.TAKEN, [], b"our"),
        ("judge_foreign", lambda key, found, body, decode: Verdict.LANDED, [], b"theirs"),
        ("create_once", _told(CONFLICT, Verdict.TAKEN), [StoreConflict("409")], None),
        ("create_once", _told(NO_ANSWER, Verdict.LANDED), [StoreUnavailable("503")], None),
        ("create_once", _told(NO_ANSWER, Verdict.TAKEN), [StoreUnavailable("503")], None),
    ],
)
async def test_every_rule_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    instead: Callable[..., Verdict],
    creates: list[object],
    held: bytes | None,
) -> None:
    """With the rule removed, the writer is told something else, or something else is stored."""

    async def outcome() -> tuple[str, bool]:
        store = ScriptedStore(creates)
        if held is not None:
            await store.put("key", [held])
        try:
            await create(store)
            return "ours", bool(await store.list("key"))
        except (KeyTaken, StoreDamaged) as error:
            return type(error).__name__, bool(await store.list("key"))

    right = await outcome()
    if rule == create_once.__name__:
        monkeypatch.setattr(create_once, "__code__", instead.__code__)
    else:
        monkeypatch.setattr(conditional, rule, instead)

    assert await outcome() != right
