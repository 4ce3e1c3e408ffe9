"""Listings of our own keys, however many strangers lie between them."""

import logging

import pytest

from automq.s3stream.ports import ObjectInfo
from automq.s3stream.store.listing import NAMED_MAX, Strangers, list_own, select_own
from automq.s3stream.store.memory import MemoryStore


def number_of(key: str) -> int | None:
    digits = key.removeprefix("numbers/")
    return int(digits) if digits.isdigit() else None


async def a_store() -> MemoryStore:
    """Ten numbers, and three strangers after each."""
    store = MemoryStore()
    for number in range(10):
        for key in (f"{number}", f"{number}.bak", f"{number}.txt~", f"{number}-copy"):
            await store.put(f"numbers/{key}", [b"x"])
    return store


async def test_k4_strangers_are_passed_over() -> None:
    found = await list_own(await a_store(), "numbers/", number_of, strangers=Strangers())
    assert [listed.parsed for listed in found] == list(range(10))
    assert found[3].info.key == "numbers/3"


@pytest.mark.parametrize("limit", range(1, 12))
async def test_k4_a_page_of_strangers_is_not_the_end(limit: int) -> None:
    found = await list_own(
        await a_store(), "numbers/", number_of, start_after="numbers/1", limit=limit, strangers=Strangers()
    )
    assert [listed.parsed for listed in found] == list(range(2, 10))[:limit]


def test_a_stranger_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    strangers = Strangers()
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        assert select_own([ObjectInfo("numbers/\n", 0)], number_of, strangers=strangers) == []
    (record,) = caplog.records
    assert record.__dict__["key"] == repr("numbers/\n")


def test_many_strangers_do_not_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    strangers = Strangers()
    for number in range(NAMED_MAX + 100):
        strangers.name(f"stranger {number}")
    assert len(caplog.records) == NAMED_MAX
