"""What an idle broker costs in a month at an S3 store, counted by the server that it asks.

Prices are Amazon's list prices of S3 Standard in us-east-1: PUT, COPY, POST and LIST 0.005 $ a thousand, GET and all
others 0.0004 $; DELETE and the abortion of an upload are free.
"""

import asyncio
import pathlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.support.fault_proxy import FaultProxy, Seen, run_fault_proxy
from tests.support.process import Broker
from tests.support.s3_server import run_s3_server, write_credentials

PUT_DOLLARS = 0.005 / 1000
GET_DOLLARS = 0.0004 / 1000
HOURS_A_MONTH = 730
DOLLARS_A_MONTH_MAX = 5.0
# From the start to rest: the first snapshot, what the claim left to do.
SETTLE_SECONDS = 10


class CountingServer:
    """An S3 server that remembers what it was asked, in threads of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self.proxy: FaultProxy | None = None
        self.uri = ""

    def __enter__(self) -> "CountingServer":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def seen(self) -> Sequence[Seen]:
        assert self.proxy is not None
        return self.proxy.seen

    def _run(self) -> None:
        with run_s3_server() as server:
            self._loop.run_until_complete(self._serve(server.endpoint, server.make_bucket()))
        self._loop.close()

    async def _serve(self, endpoint: str, bucket: str) -> None:
        async with run_fault_proxy(endpoint) as proxy:
            self.proxy = proxy
            self.uri = f"s3://{bucket}/idle?endpoint={proxy.endpoint}&region=us-east-1"
            self._ready.set()
            await self._end.wait()


def price(seen: Seen) -> float:
    """Dollars of one request."""
    if seen.method in ("PUT", "POST"):
        return PUT_DOLLARS
    if seen.method == "DELETE":
        return 0.0
    is_listing = "list-type" in seen.path or "uploads" in seen.path
    return PUT_DOLLARS if is_listing else GET_DOLLARS


def measure(folder: pathlib.Path, *, seconds: float) -> Iterator[tuple[str, float, str]]:
    """Figures of one idle broker with one topic: name, value, unit."""
    with CountingServer() as server:
        broker = Broker(
            folder / "idle-bill",
            automq__storage__uri=server.uri,
            automq__storage__credentials__dir=write_credentials(folder / "idle-bill-credentials"),
        )
        try:
            broker.start()
            time.sleep(SETTLE_SECONDS)
            counted = broker.metric("automq_store_requests_total")
            before, began = len(server.seen), time.monotonic()
            time.sleep(seconds)
            requests, passed = list(server.seen[before:]), time.monotonic() - began
            counted = broker.metric("automq_store_requests_total") - counted
        finally:
            broker.stop()
    a_month = HOURS_A_MONTH * 3600 / passed
    yield "idle broker on S3: requests a month", sum(map(price, requests)) * a_month, "$"
    for kind, count in sorted(Counter(seen.method for seen in requests).items()):
        yield f"idle broker on S3: {kind} a second", count / passed, "/s"
    yield "idle broker on S3: requests counted by it, of those seen", counted / len(requests), ""
