"""Compaction jobs done by a process of their own, at the lowest priority: the event loop of the broker never feels one.

The process lives for one job. It is asked on its standard input and answers on its standard output, both in
MessagePack; when its input ends before the job does, the broker is gone, and so is it. While it works it reports every
second what it has asked the store, so that a job that is cut short is counted, too.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from automq.runtime.telemetry import Metrics
from automq.s3stream.compaction.job import CompactionJob, Written, WrittenObject, encode_job
from automq.s3stream.model import DataMissing
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.requests import Request
from automq.server.observability.store_requests import StoreRequests

log = logging.getLogger(__name__)

# A job that takes longer is hopeless: its outputs expire after an hour.
DEADLINE_S: Final = 1800.0
LENGTH_BYTES: Final = 4
MODULE: Final = "automq.server.compaction.main"


class WorkOrder(msgspec.Struct, frozen=True, array_like=True):
    """What the process is told: where the store is, and the job."""

    storage_uri: str
    credentials_folder: str | None
    read_bytes: int
    job: bytes


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What the process says: requests and CPU seconds since its last report, and with the last one the answer."""

    requests: tuple[Request, ...]
    cpu_s: float
    written: Written | None = None


def counting(requests: StoreRequests, metrics: Metrics) -> Callable[[Report], None]:
    """Counts what reports say as if this process had done it."""
    cpu = metrics.counter("automq_compaction_cpu_seconds", "CPU of the processes that do compaction jobs")

    def count(report: Report) -> None:
        for request in report.requests:
            requests.add(request)
        cpu.inc(report.cpu_s)

    return count


def frame(body: bytes) -> bytes:
    """A message on a pipe: its length, then itself."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class ProcessWorker:
    """Implements `CompactionWorker`."""

    def __init__(
        self,
        *,
        storage_uri: str,
        credentials_folder: str | None,
        read_bytes: int,
        on_report: Callable[[Report], None],
    ) -> None:
        self._on_report = on_report
        self._storage_uri = storage_uri
        self._credentials_folder = credentials_folder
        self._read_bytes = read_bytes

    async def run(self, job: CompactionJob) -> Sequence[WrittenObject]:
        order = WorkOrder(self._storage_uri, self._credentials_folder, self._read_bytes, encode_job(job))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                return _objects(await self._ask(process, order))
        except TimeoutError:
            raise StoreUnavailable(f"a compaction job took more than {DEADLINE_S:.0f} s") from None
        finally:
            # Cancelled, too: whoever stops the broker does not wait for a job.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, process: asyncio.subprocess.Process, order: WorkOrder) -> Written:
        """What the process answers. Raises StoreUnavailable when it ends without an answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(frame(msgspec.msgpack.encode(order)))
            await process.stdin.drain()
            while True:
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
                report = msgspec.msgpack.decode(await process.stdout.readexactly(length), type=Report)
                self._on_report(report)
                if report.written is not None:
                    return report.written
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError) as error:
            raise StoreUnavailable(f"the compaction process ended without an answer: {error}") from error


def _objects(written: Written) -> Sequence[WrittenObject]:
    if written.damaged is not None:
        raise DataMissing(key=written.damaged, what=written.error or "a source")
    if written.error is not None:
        raise StoreUnavailable(f"a compaction job failed: {written.error}")
    return written.objects
