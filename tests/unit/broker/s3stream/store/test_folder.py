"""Keys as paths: a walk over folders lists exactly what a sorted map would."""

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.memory import MemoryStore
from tests.support.faults import run_now

PARTS = st.sampled_from(["a", "b", "a-b", "a0", "A", "ab", "a.b", "~", "0"])
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
POSITIONS = st.one_of(st.just(""), KEYS, KEYS.map(lambda key: key + "/"), KEYS.map(lambda key: key[:-1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, max_size=12), st.lists(st.tuples(POSITIONS, POSITIONS, st.integers(0, 5)), max_size=8))
def test_listing_is_that_of_a_sorted_map(keys: list[str], questions: list[tuple[str, str, int]]) -> None:
    memory = MemoryStore()
    with tempfile.TemporaryDirectory() as root:
        files = FileStore(f"{root}/store", workers=InlineWorkers(), entropy=SeededEntropy(1))
        for key in keys:
            try:
                run_now(memory.put(key, [key.encode()]))
            except InvalidKey:
                continue
            run_now(files.put(key, [key.encode()]))

        assert run_now(files.list("")) == run_now(memory.list(""))
        for prefix, start_after, limit in questions:
            expected = run_now(memory.list(prefix, start_after=start_after, limit=limit))
            assert run_now(files.list(prefix, start_after=start_after, limit=limit)) == expected
        run_now(files.close())


def test_prefix_that_points_elsewhere_lists_nothing() -> None:
    with tempfile.TemporaryDirectory() as root:
        outside = FileStore(root, workers=InlineWorkers(), entropy=SeededEntropy(1))
        run_now(outside.put("secret", [b"x"]))
        inside = FileStore(f"{root}/store", workers=InlineWorkers(), entropy=SeededEntropy(2))
        run_now(inside.put("a/b", [b"x"]))

        for prefix in ("../", "/", "a//", "a/../", "./", ".tmp/"):
            assert run_now(inside.list(prefix)) == []
        run_now(inside.close())
        run_now(outside.close())
