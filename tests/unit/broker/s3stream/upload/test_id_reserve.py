"""Ids prepared ahead: asked for as uploads need them, used once, and not for longer than the controller keeps them."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import cast

import pytest

from automq.controller.model import ControllerSettings
from automq.ids import ObjectId
from automq.s3stream.ports import ObjectManager, StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload.id_reserve import AHEAD_MAX, KEPT_S, IdReserve
from tests.support.engine import Engine, HeldStore, Ledger, append

pytestmark = pytest.mark.looptime


class Preparing:
    """Gives ids as a controller does, some time later."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.failures = 0
        self._next = itertools.count(1)

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        await asyncio.sleep(0.05)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no store")
        self.asked.append(count)
        return [ObjectId(next(self._next)) for _ in range(count)]


def a_reserve() -> tuple[IdReserve, Preparing]:
    preparing = Preparing()
    return IdReserve(cast(ObjectManager, preparing)), preparing


async def test_one_that_uploads_often_asks_once_for_many_uploads() -> None:
    reserve, preparing = a_reserve()
    taken: list[ObjectId] = []
    for _ in range(200):
        taken += await reserve.take(1)
        await asyncio.sleep(6.7)
    assert taken == sorted(set(taken))
    assert len(taken) == 200
    assert sum(preparing.asked) < 200 + AHEAD_MAX + 1
    assert len(preparing.asked) <= 5 + 200 // AHEAD_MAX
    assert max(preparing.asked) == AHEAD_MAX + 1


async def test_one_that_uploads_seldom_asks_for_what_it_uses() -> None:
    reserve, preparing = a_reserve()
    for _ in range(20):
        await reserve.take(2)
        await asyncio.sleep(KEPT_S)
    assert preparing.asked == [2] * 20


async def test_ids_are_used_while_the_controller_has_nearly_all_of_their_time_left() -> None:
    assert ControllerSettings().object_expiry_ms / 1000 > KEPT_S * 10
    reserve, preparing = a_reserve()
    for _ in range(8):
        await reserve.take(1)
    given = sum(preparing.asked)
    await asyncio.sleep(KEPT_S)
    assert await reserve.take(1) == [given + 1]


async def test_those_who_ask_at_the_same_time_get_different_ids() -> None:
    reserve, _preparing = a_reserve()
    taken = await asyncio.gather(*(reserve.take(1 + number % 3) for number in range(30)))
    ids = [object_id for some in taken for object_id in some]
    assert len(set(ids)) == len(ids)
    assert [len(some) for some in taken] == [1 + number % 3 for number in range(30)]


async def test_a_controller_that_does_not_answer_costs_no_id() -> None:
    reserve, preparing = a_reserve()
    preparing.failures = 1
    with pytest.raises(StoreUnavailable):
        await reserve.take(1)
    assert await reserve.take(1) == [1]


async def test_what_was_prepared_with_a_refused_id_is_not_tried() -> None:
    # The controller's clock leapt: every id of the reserve cost an upload in vain.
    reserve, preparing = a_reserve()
    for _ in range(8):
        await reserve.take(1)
    prepared = sum(preparing.asked)
    reserve.forget()
    assert await reserve.take(1) == [prepared + 1]


async def test_one_refused_object_is_one_upload_in_vain_however_many_ids_were_prepared_with_it() -> None:
    ledger, store = Ledger(), HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    stream = engine.storage.open_stream(ledger.create_stream(1))
    for _ in range(8):
        append(stream)
        await engine.storage.upload.flush()
    puts: list[str] = []

    async def after(name: str, key: str) -> None:
        if name == "create_bulk":
            puts.append(key)

    store.after = after
    ledger.expire_prepared()
    append(stream)

    await engine.storage.upload.flush()

    assert len(puts) == 2
