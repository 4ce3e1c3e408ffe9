"""`python -m automq.server.compaction_main`: one compaction job. Asked and answered as `compaction_process` says."""

import asyncio
import os
import sys

import msgspec

from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.compaction.job import FormatMismatch, Written, decode_job
from automq.s3stream.compaction.worker import InProcessWorker
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import StoreError
from automq.s3stream.store.uri import open_store, parse_store_uri
from automq.server.compaction_process import LENGTH_BYTES, WorkOrder, frame

LOWEST_PRIORITY = 19


async def work(order: WorkOrder) -> Written:
    """Do it; whatever the store answers is an answer."""
    workers = ThreadWorkers()
    store = open_store(
        parse_store_uri(order.storage_uri),
        workers=workers,
        entropy=SystemEntropy(),
        credentials_folder=order.credentials_folder,
    )
    try:
        job = decode_job(order.job)
        worker = InProcessWorker(store=store, clock=SystemClock(), read_bytes=order.read_bytes)
        return Written(sizes=tuple(await worker.run(job)))
    except StoreDamaged as error:
        return Written(damaged=error.key, error=str(error))
    except (StoreError, FormatTooNew, FormatMismatch) as error:
        return Written(error=str(error) or type(error).__name__)
    finally:
        await store.close()
        workers.close()


async def _run(order: WorkOrder) -> Written:
    """The job, unless the broker goes first: then this process ends at once."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(1))
    return await work(order)


def main() -> None:
    """The whole life of the process."""
    os.nice(LOWEST_PRIORITY)
    length = int.from_bytes(sys.stdin.buffer.read(LENGTH_BYTES), "big")
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(length), type=WorkOrder)
    sys.stdout.buffer.write(frame(msgspec.msgpack.encode(asyncio.run(_run(order)))))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
