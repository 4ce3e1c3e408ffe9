"""What heartbeats tell of a broker's load."""

import asyncio

import pytest

from automq.controller.model import BrokerLoad
from automq.protocol.apis import ApiKey
from automq.server.observability.load_report import MEASURE_S, LoadReport
from tests.support.batches import build_batch
from tests.support.data_path import DataPath, fetch_request, produce_request

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Loop:
    """Half a core busy since it was made."""

    def __init__(self, path: DataPath) -> None:
        self._now = path.clock.monotonic
        self._began = self._now()

    def cpu_s(self) -> float:
        return (self._now() - self._began) / 2


async def test_load_is_told_by_partition_and_only_when_it_was_measured_anew() -> None:
    path = await DataPath().start()
    path.create_topic(partitions=2)
    report = LoadReport(
        partitions=path.partitions,
        storage=path.engine.storage,
        clock=path.engine.storage.read.clock,
        loop_cpu_s=Loop(path).cpu_s,
    )
    running = asyncio.ensure_future(report.run())
    assert report.load() == BrokerLoad(partitions=2, heaviest=[])
    client = path.connect()
    batch = build_batch([b"x" * 50_000], timestamp_ms=0)
    await client.call(ApiKey.PRODUCE, 9, produce_request(batch))
    assert report.load().unuploaded_bytes >= len(batch)
    await client.call(ApiKey.FETCH, 12, fetch_request(0, 0))
    await asyncio.sleep(MEASURE_S)

    told = report.load()
    assert told.heaviest is not None
    (heaviest,) = told.heaviest
    (partition,) = [found for found in path.partitions.all() if found.name.partition == 0]
    assert heaviest.stream == partition.stream_id
    assert heaviest.in_bytes == heaviest.out_bytes == told.in_bytes_per_second == told.out_bytes_per_second
    assert 5_000 < heaviest.in_bytes < 20_000
    assert 0 < told.request_cpu_percent < 50
    assert report.load().heaviest is None
    await asyncio.sleep(50 * MEASURE_S)
    assert report.load().request_cpu_percent == pytest.approx(50, abs=1)
    running.cancel()
    await path.close()
