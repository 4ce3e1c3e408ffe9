"""What the simulation has found, each as a small story of its own."""

import asyncio

import pytest

from automq.s3stream.store.memory import MemoryStore
from tests.support.engine import Engine, HeldStore, Ledger, append
from tests.support.sim_loop import SimLoop, run_world


@pytest.mark.parametrize("seed", range(8))
def test_blocks_that_become_durable_together_begin_their_upload_in_order(seed):
    """Two later blocks took both places of uploads in flight and waited for the earlier one, which never got any.

    Found by seed 315 with little memory: the broker took no more records, for ever.
    """
    loop = SimLoop(seed)

    async def main() -> list[int]:
        ledger = Ledger()
        store = HeldStore(MemoryStore())
        engine = Engine(ledger, store)
        engine.storage.start()
        stream = engine.storage.open_stream(ledger.create_stream(1))
        gate = asyncio.Event()

        async def before(name: str, key: str) -> None:
            if name == "create":
                await gate.wait()

        store.before = before
        uploads = []
        for _ in range(6):
            append(stream)
            uploads.append(asyncio.ensure_future(engine.storage.upload.flush()))
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        gate.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*uploads)
        return [commit.ranges[0].start for commit in ledger.commits]

    try:
        assert run_world(loop, main()) == [0, 1, 2, 3, 4, 5]
    finally:
        loop.end()
