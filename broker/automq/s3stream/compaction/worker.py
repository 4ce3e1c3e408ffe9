"""Who does compaction jobs: a port, and the adapter that does them in this very process, at a bounded rate."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from automq.runtime.clock import Clock
from automq.s3stream.compaction.job import CompactionJob, WrittenObject
from automq.s3stream.compaction.merge import READ_BYTES, Merge
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.requests import Purpose, serving


class CompactionWorker(Protocol):
    """One job at a time."""

    async def run(self, job: CompactionJob) -> Sequence[WrittenObject]:
        """Put every output of the job, and say what they are. After an error some may be put: nothing refers to them.

        Raises StoreDamaged for a source that is damaged, missing, or not what the job says; StoreError when the store
        failed.
        """
        ...


class InProcessWorker:
    """Reads and writes by the given store."""

    def __init__(self, *, store: ObjectStorage, clock: Clock, read_bytes: int = READ_BYTES) -> None:
        self._store = store
        self._clock = clock
        self._read_bytes = read_bytes

    async def run(self, job: CompactionJob) -> Sequence[WrittenObject]:
        pace = Pace(job.bytes_per_second, self._clock)
        with serving(Purpose.COMPACTION):
            return await Merge(job, store=self._store, pace=pace.read, read_bytes=self._read_bytes).run()


class Pace:
    """Keeps what is read at a rate: who reads waits until the bytes before are paid for."""

    def __init__(self, bytes_per_second: int, clock: Clock) -> None:
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._free_s = clock.monotonic()

    async def read(self, size: int) -> None:
        """So many bytes more were read; return when the next may be."""
        if not self._bytes_per_second:
            return
        now_s = self._clock.monotonic()
        self._free_s = max(self._free_s, now_s) + size / self._bytes_per_second
        await asyncio.sleep(self._free_s - now_s)
