"""Logs of dead brokers, made without a broker: slots full of small batches."""

import struct

from crc32c import crc32c

from automq.ids import BrokerEpoch
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.wal.format import (
    NONCE_BYTES,
    RECORD_HEADER,
    SLOT_HEADER_BYTES,
    SlotId,
    SlotKind,
    seal_slot,
)
from tests.support.engine import CLUSTER, NODE, Ledger

SLOT_BYTES = 4 * 1024 * 1024


async def fill_log(
    store: ObjectStorage, ledger: Ledger, *, size: int, batch_bytes: int = 120, streams: int = 100, epoch: int = 1
) -> int:
    """Slots of (NODE, epoch) with `size` bytes of batches of one record each, in turn for all streams; how many."""
    batch = bytes(batch_bytes)
    crc = crc32c(batch)
    ids = [ledger.create_stream(number + 1) for number in range(streams)]
    next_offset = dict.fromkeys(ids, 0)
    sequence = written = 0
    turn = 0
    while written < size:
        body = bytearray(SLOT_HEADER_BYTES)
        headers_crc = count = 0
        while len(body) + RECORD_HEADER.size + batch_bytes <= SLOT_BYTES and written < size:
            stream = ids[turn % streams]
            turn += 1
            header = RECORD_HEADER.pack(stream, 0, next_offset[stream], 1, 1, batch_bytes, crc)
            next_offset[stream] += 1
            headers_crc = crc32c(header, headers_crc)
            body += header
            body += batch
            written += batch_bytes
            count += 1
        slot = SlotId(cluster_id=CLUSTER, node=NODE, epoch=BrokerEpoch(epoch), sequence=sequence)
        seal_slot(
            memoryview(body),
            start=0,
            end=len(body),
            slot=slot,
            kind=SlotKind.DATA,
            nonce=struct.pack(f">{NONCE_BYTES - 8}xQ", sequence),
            records=count,
            crc=headers_crc,
            durable_below=sequence,
        )
        await store.create(slot.key, [bytes(body)])
        sequence += 1
    return sequence
