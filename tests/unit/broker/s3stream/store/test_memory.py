"""The memory store beyond the contract: it never waits, and it refuses keys that some stores cannot hold together."""

import pytest

from automq.s3stream.store.keys import InvalidKey
from automq.s3stream.store.memory import MemoryStore
from tests.support.faults import run_now


def test_it_answers_without_waiting() -> None:
    store = MemoryStore()

    run_now(store.create("a/b", [b"x"]))
    run_now(store.put("a/c", [b"y"]))
    run_now(store.delete(["a/b"]))

    assert [info.key for info in run_now(store.list(""))] == ["a/c"]
    assert run_now(store.get("a/c")) == b"y"


def test_no_key_lies_below_another() -> None:
    store = MemoryStore()
    run_now(store.create("a/b", [b"x"]))

    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(InvalidKey):
            run_now(store.create(key, [b"x"]))
    run_now(store.create("a/b-c", [b"x"]))
