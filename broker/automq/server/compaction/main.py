"""`python -m automq.server.compaction.main`: one compaction job. Asked and answered as `compaction_process` says."""

import asyncio
import os
import sys
from typing import BinaryIO

import msgspec

from automq.runtime.allocator import configure_allocator
from automq.runtime.clock import SystemClock
from automq.runtime.cpu import process_cpu_s
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.compaction.job import FormatMismatch, Written, decode_job
from automq.s3stream.compaction.worker import InProcessWorker
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import ObjectStorage, StoreError
from automq.s3stream.store.counted import CountedStore
from automq.s3stream.store.requests import ReportsRequests, RequestTally
from automq.s3stream.store.uri import open_store, parse_store_uri
from automq.server.compaction.process import LENGTH_BYTES, Report, WorkOrder, frame

LOWEST_PRIORITY = 19
# An output whole: in parts it would be several requests. No producer shares this process's memory or threads.
SINGLE_PUT_BYTES_MAX = 128 * 1024 * 1024
REPORT_S = 1.0


class Reporter:
    """Tells the broker what was asked of the store."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.tally = RequestTally()
        self._cpu_s = 0.0

    def begin(self) -> None:
        """Report now and then, from the running event loop."""
        self.report()
        asyncio.get_running_loop().call_later(REPORT_S, self.begin)

    def report(self, written: Written | None = None) -> None:
        """Everything since the last time; with `written` for the last time."""
        cpu_s = process_cpu_s()
        report = Report(tuple(self.tally.take()), cpu_s - self._cpu_s, written)
        self._cpu_s = cpu_s
        self._output.write(frame(msgspec.msgpack.encode(report)))
        self._output.flush()


async def work(order: WorkOrder, tally: RequestTally) -> Written:
    """Do it; whatever the store answers is an answer."""
    workers = ThreadWorkers()
    opened = open_store(
        parse_store_uri(order.storage_uri),
        workers=workers,
        entropy=SystemEntropy(),
        credentials_folder=order.credentials_folder,
        single_put_bytes_max=SINGLE_PUT_BYTES_MAX,
    )
    store: ObjectStorage = opened
    if isinstance(opened, ReportsRequests):
        opened.on_request(tally.add)
    else:
        store = counted = CountedStore(opened)
        counted.on_request(tally.add)
    try:
        job = decode_job(order.job)
        worker = InProcessWorker(store=store, clock=SystemClock(), read_bytes=order.read_bytes)
        return Written(objects=tuple(await worker.run(job)))
    except StoreDamaged as error:
        return Written(damaged=error.key, error=str(error))
    except (StoreError, FormatTooNew, FormatMismatch) as error:
        return Written(error=str(error) or type(error).__name__)
    finally:
        await store.close()
        workers.close()


async def _run(order: WorkOrder) -> None:
    """The job, unless the broker goes first: then this process ends at once."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    reporter = Reporter(sys.stdout.buffer)
    reporter.begin()
    reporter.report(await work(order, reporter.tally))


def main() -> None:
    """The whole life of the process."""
    os.nice(LOWEST_PRIORITY)
    configure_allocator()
    length = int.from_bytes(sys.stdin.buffer.read(LENGTH_BYTES), "big")
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(length), type=WorkOrder)
    asyncio.run(_run(order))


if __name__ == "__main__":
    main()
