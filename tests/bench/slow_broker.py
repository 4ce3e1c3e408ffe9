"""`python -m tests.bench.slow_broker FILE`: a broker whose folder answers like a bucket.

A PUT takes 50 ms, a GET 20, and what the folder takes.
"""

import asyncio
import dataclasses
import pathlib
import sys
from typing import Final

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.s3stream.ports import Buffer
from automq.s3stream.store.file import FileStore
from automq.s3stream.store.uri import parse_store_uri
from automq.server.config.settings import load_settings
from automq.server.observability.logs import log_to_stderr
from automq.server.platform import system_platform
from automq.server.runner import run_process
from tests.bench.slow_puts import SlowPuts

GET_S: Final = 0.020


class SlowStore(SlowPuts, FileStore):
    """A folder with the latency of a bucket."""

    async def get(self, key: str) -> bytes:
        await asyncio.sleep(GET_S)
        return await super().get(key)

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        await asyncio.sleep(GET_S)
        return await super().get_range(key, start, end)


def main() -> int:
    settings = load_settings(file=pathlib.Path(sys.argv[1]))
    log_to_stderr()
    folder = parse_store_uri(settings.cluster.storage_uri).folder
    store = SlowStore(folder, workers=ThreadWorkers(), entropy=SystemEntropy())
    platform = dataclasses.replace(system_platform(), open_store=lambda _settings, _metrics: store)
    return int(run_process(settings, platform=platform))


if __name__ == "__main__":
    sys.exit(main())
