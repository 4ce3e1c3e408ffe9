"""What a broker has to do, as its heartbeats tell: rates of its partitions, how busy its loop is, what is not uploaded.

Partitions are measured every `MEASURE_S`, in bounded turns; heartbeats go out more often and say only what is new.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from automq.controller.model import BrokerLoad, PartitionLoad
from automq.partition.load import FORGET_S, NOTHING_MEASURED, PartitionLoads
from automq.partition.manager import PartitionManager
from automq.runtime.clock import Clock
from automq.runtime.turns import in_turns
from automq.s3stream.storage import Storage

MEASURE_S: Final = 5.0
"""The balancer looks half as often. Ten thousand busy partitions cost 50 ms each time. A new controller, or one that
missed a heartbeat, knows no more of single partitions for so long."""


class LoadReport:
    """Of one incarnation. `loop_cpu_s` is the CPU time of the event loop's thread so far."""

    def __init__(
        self, *, partitions: PartitionManager, storage: Storage, clock: Clock, loop_cpu_s: Callable[[], float]
    ) -> None:
        self._partitions, self._storage = partitions, storage
        self._clock, self._loop_cpu_s = clock, loop_cpu_s
        now_s = clock.monotonic()
        self._loads = PartitionLoads(partitions.traffic, now_s=now_s)
        self._measured = NOTHING_MEASURED
        self._is_reported = False
        self._busy = 0.0
        self._busy_at = now_s, loop_cpu_s()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(MEASURE_S)
            self._measured = await in_turns(self._loads.measure(self._clock.monotonic()))
            self._is_reported = False

    def load(self) -> BrokerLoad:
        """For a heartbeat."""
        measured, is_unchanged, self._is_reported = self._measured, self._is_reported, True
        return BrokerLoad(
            in_bytes_per_second=int(measured.in_bytes),
            out_bytes_per_second=int(measured.out_bytes),
            request_cpu_percent=round(100 * self._busy_share()),
            partitions=self._partitions.open_count,
            unuploaded_bytes=sum(block.size for block in self._storage.append.cache.waiting()),
            heaviest=None if is_unchanged else [PartitionLoad(*rate) for rate in measured.heaviest],
        )

    def _busy_share(self) -> float:
        """Of a core, as an average that forgets."""
        now = self._clock.monotonic(), self._loop_cpu_s()
        passed_s, busy_s = now[0] - self._busy_at[0], now[1] - self._busy_at[1]
        if passed_s > 0:
            self._busy_at = now
            self._busy += (busy_s / passed_s - self._busy) * (1 - math.exp(-passed_s / FORGET_S))
        return self._busy
