"""Decompressing and compressing of batches for the event loop: what takes long is a worker's, within an account.

A batch of some kilobytes may hold 64 MiB of records, so what one decompresses to is bounded and counted, not what it
is. Memory is drawn before it is filled, in line with others, and never while some is held: nobody waits for ever, and a
batch that turns out larger than was drawn for it is given back and begun again with four times as much.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from automq.core.record_walk import Data
from automq.partition.record_validation import DECOMPRESSED_BYTES_MAX, content_of
from automq.partition.records_work import COMPRESSED_IN_PLACE_BYTES_MAX, CONTENT_IN_PLACE_BYTES_MAX, compressed
from automq.partition.validation import AppendRules
from automq.protocol.compression import FIRST_OUTPUT_BYTES, DecompressedTooLarge
from automq.protocol.records import COMPRESSION_MASK, HEADER_BYTES, RecordBatch
from automq.runtime.budget import ByteBudget
from automq.runtime.workers import Workers

GROWTH: Final = 4


class ContentWorker:
    """Of one broker."""

    def __init__(self, workers: Workers, account: ByteBudget, *, limit: int | None = None) -> None:
        """What is decompressed at a time is at most `limit` bytes, a quarter of `account`, or one batch.

        It is counted in `account`.
        """
        self._workers, self._account = workers, account
        self._admission = ByteBudget(min(DECOMPRESSED_BYTES_MAX, account.limit // 4) if limit is None else limit)

    @asynccontextmanager
    async def content_of(self, batch: RecordBatch) -> AsyncGenerator[Data, None]:
        """The records, decompressed, for as long as the block lasts; `batch` must stay as it is. Raises ApiError."""
        if not batch.attributes & COMPRESSION_MASK:
            yield batch.view[HEADER_BYTES:]
            return
        if batch.size <= COMPRESSED_IN_PLACE_BYTES_MAX:
            try:
                content = content_of(batch, bytes_max=CONTENT_IN_PLACE_BYTES_MAX)
            except DecompressedTooLarge:
                size = GROWTH * CONTENT_IN_PLACE_BYTES_MAX
            else:
                yield content
                return
        else:
            size = max(FIRST_OUTPUT_BYTES, GROWTH * batch.size)
        while True:
            size = min(size, DECOMPRESSED_BYTES_MAX)
            await self._admission.acquire(size)
            self._account.charge(size)
            try:
                try:
                    content = await self._workers.run(content_of, batch, bytes_max=size)
                except DecompressedTooLarge:
                    pass
                else:
                    yield content
                    return
            finally:
                self._account.release(size)
                self._admission.release(size)
            size *= GROWTH

    async def compress(self, batch: RecordBatch, content: Data, rules: AppendRules) -> memoryview:
        """As `records_work.compressed`."""
        return await self._workers.run(compressed, batch, content, rules)
