"""A dead broker's log of any size is recovered within one account: `make recovery MIB=4096` is the long form.

The log is never anywhere as a whole: its slots are made when they are read, and objects are counted, not kept.
"""

import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from crc32c import crc32c

from automq.ids import BrokerEpoch, StreamEpoch
from automq.runtime.ledger import Account, split_memory
from automq.s3stream.ports import Buffer, ObjectExists, ObjectInfo
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload.dead_log import RECORD_BYTES
from automq.s3stream.wal.format import (
    NONCE_BYTES,
    RECORD_HEADER,
    SLOT_HEADER_BYTES,
    SlotId,
    SlotKind,
    parse_slot_key,
    seal_slot,
)
from tests.support.engine import CLUSTER, NODE, SMALL, Engine, Ledger

MIB: Final = 1 << 20
LOG_MIB: Final = int(os.environ.get("RECOVERY_MIB", "256"))
SLOT_BYTES: Final = 4 * MIB
BATCH_BYTES: Final = 16_384
STREAMS: Final = 8
BATCHES: Final = SLOT_BYTES // BATCH_BYTES
SLOTS: Final = LOG_MIB * MIB // SLOT_BYTES
PAYLOAD: Final = bytes(BATCH_BYTES)
PAYLOAD_CRC: Final = crc32c(PAYLOAD)

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(1800)]


class LongLog(MemoryStore):
    """A store that has `SLOTS` slots of the dead broker, and of objects keeps nothing but how large they were."""

    def __init__(self) -> None:
        super().__init__()
        self.left = set(range(SLOTS))
        self.object_bytes = 0

    def _sequence(self, key: str) -> int | None:
        slot = parse_slot_key(key)
        return slot.sequence if slot is not None and slot.sequence in self.left else None

    async def get(self, key: str) -> bytes:
        sequence = self._sequence(key)
        return await super().get(key) if sequence is None else bytes(slot_of(sequence))

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        sequence = self._sequence(key)
        return await super().get_range(key, start, end) if sequence is None else slot_of(sequence)[start:end]

    async def create(self, key: str, body: Sequence[Buffer]) -> None:
        if self._sequence(key) is not None:
            raise ObjectExists(key)
        await super().create(key, body)

    async def create_bulk(self, key: str, body: Sequence[Buffer]) -> None:
        self.object_bytes += sum(memoryview(part).nbytes for part in body)

    async def list(self, prefix: str, *, start_after: str = "", limit: int = 1_000_000) -> list[ObjectInfo]:
        slots = [ObjectInfo(slot_id(sequence).key, SLOT_BYTES, None) for sequence in self.left]
        others = await super().list(prefix, start_after=start_after, limit=limit)
        shown = [info for info in slots if info.key.startswith(prefix) and info.key > start_after]
        return sorted([*shown, *others], key=lambda info: info.key)[:limit]

    async def delete(self, keys: Sequence[str]) -> None:
        gone = {sequence for key in keys if (sequence := self._sequence(key)) is not None}
        self.left -= gone
        await super().delete([key for key in keys if parse_slot_key(key) is None])


def slot_id(sequence: int) -> SlotId:
    return SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(1), sequence=sequence)


def slot_of(sequence: int) -> bytearray:
    """One batch after the other of every stream."""
    data, crc = bytearray(SLOT_HEADER_BYTES), 0
    for number in range(BATCHES):
        base = sequence * (BATCHES // STREAMS) + number // STREAMS
        header = RECORD_HEADER.pack(1 + number % STREAMS, StreamEpoch(0), base, 0, 1, BATCH_BYTES, PAYLOAD_CRC)
        crc = crc32c(header, crc)
        data += header
        data += PAYLOAD
    seal_slot(
        memoryview(data),
        start=0,
        end=len(data),
        slot=slot_id(sequence),
        kind=SlotKind.DATA,
        nonce=bytes(NONCE_BYTES),
        records=BATCHES,
        crc=crc,
        durable_below=sequence,
    )
    return data


async def test_a_log_of_any_size_is_recovered_within_its_account() -> None:
    ledger, store = Ledger(), LongLog()
    dead = Engine(ledger, store)
    for number in range(STREAMS):
        ledger.create_stream(1 + number)
    # What a broker of 1 GiB has for it.
    limit = split_memory(1 << 30)[Account.RECOVERY]
    successor = Engine(ledger, store, epoch=2, settings=replace(SMALL, recovery_bytes=limit))
    account = successor.memory[Account.RECOVERY]
    most = 0
    create_bulk = store.create_bulk

    async def watched(key: str, body: Sequence[Buffer]) -> None:
        nonlocal most
        most = max(most, account.used)
        await create_bulk(key, body)

    store.create_bulk = watched  # type: ignore[method-assign]
    fenced = ledger.fence(dead.me, successor.me)
    tracemalloc.start()
    recovered = await successor.storage.recover(*dead.me, fenced)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (recovered.unplaced, recovered.fence) == ((), SLOTS)
    assert {state.end for state in ledger.streams.values()} == {SLOTS * BATCHES // STREAMS}
    assert store.object_bytes >= SLOTS * BATCHES * BATCH_BYTES
    # It would not fit.
    assert 5 * limit < SLOTS * SLOT_BYTES
    assert most > limit // 4
    assert most <= limit + 2 * (SLOT_BYTES + BATCHES * RECORD_BYTES)
    assert peak < 3 * limit
    assert account.used == 0
    await successor.tasks.close()
