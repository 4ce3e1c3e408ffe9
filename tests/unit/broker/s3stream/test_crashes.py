"""The engine killed, paused and fenced at random, on a store that fails as stores do, in virtual time.

Every acknowledged batch must be readable from the next incarnation, exactly once, in order, and nothing twice; a zombie
that wakes up must not acknowledge anything more.
"""

import asyncio
import random

import pytest

from automq.s3stream.model import BrokerFenced, StorageFull, StreamError
from automq.s3stream.ports import StoreError
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from tests.support.engine import Engine, Ledger, a_piece, append, read_all
from tests.support.faults import FaultRates, SimStore
from tests.support.sim_loop import Process, SimLoop, run_world

STREAMS = 3
LIVES = 5


class World:
    """One bucket, one ledger, and one broker after another."""

    def __init__(self, seed: int) -> None:
        self.loop = SimLoop(seed)
        self.dice = random.Random(seed)
        self.store = SimStore(MemoryStore(), self.loop, self.dice)
        self.ledger = Ledger()
        self.stream_ids = [self.ledger.create_stream(n + 1) for n in range(STREAMS)]
        self.acknowledged = dict.fromkeys(self.stream_ids, 0)
        """One past the last offset that a broker said was durable."""
        self.epoch = 0

    async def live(self) -> None:
        """Broker after broker; each ends at an unforeseen moment, the last one is read back."""
        previous: Engine | None = None
        for _ in range(LIVES):
            self.epoch += 1
            process = Process(self.loop, f"broker {self.epoch}")
            engine = await self.start(process, previous)
            work = process.spawn(self.produce(engine))
            self.store.rates = FaultRates(refused=0.03, lost=0.04, late=0.03, conflict=0.02, slow=0.05)
            if self.dice.random() < 0.3:
                self.store.outage(self.dice.uniform(0.5, 8))
            await asyncio.sleep(self.dice.uniform(0.01, 6))
            if self.dice.random() < 0.3:
                process.pause()
                self.loop.call_later(self.dice.uniform(1, 30), process.resume)
            else:
                process.kill()
            self.store.heal()
            previous = engine
            assert not work.done() or work.exception() is None
        self.epoch += 1
        process = Process(self.loop, f"broker {self.epoch}")
        assert previous is not None
        engine = await self.start(process, previous)
        await process.spawn(self.check(engine))
        await asyncio.sleep(60)
        await process.spawn(self.check(engine))

    async def start(self, process: Process, previous: Engine | None) -> Engine:
        engine = Engine(self.ledger, self.store.facade(process), epoch=self.epoch, seed=f"{self.dice.random()}")

        async def recover() -> None:
            if previous is None:
                engine.storage.start()
                return
            while True:
                try:
                    await engine.recover(previous)
                except StoreError:
                    await asyncio.sleep(0.5)
                else:
                    return

        await process.spawn(recover())
        return engine

    async def produce(self, engine: Engine) -> None:
        dice = random.Random(self.dice.random())
        streams = [engine.storage.open_stream(stream_id) for stream_id in self.stream_ids]
        for stream in streams:
            assert stream.next_offset >= self.acknowledged[stream.stream_id]
            stream.checkpoint_source = lambda forced, stream=stream: a_piece(b"%d" % stream.next_offset, kept=2)
        while True:
            for stream in streams:
                for _ in range(dice.randrange(3)):
                    try:
                        position = append(stream, dice.randint(1, 4), size=dice.randint(50, 9000))
                    except StorageFull:
                        break
                    except BrokerFenced:
                        return
                    self.watch(engine, stream, position)
            await asyncio.sleep(dice.uniform(0, 0.05))

    def watch(self, engine: Engine, stream: Stream, position: int) -> None:
        end = stream.next_offset

        def durable(error: Exception | None) -> None:
            if error is not None:
                assert isinstance(error, StreamError)
                return
            assert stream.confirmed_offset >= end
            assert engine.fences == [], "an acknowledgement from a process that knows it is fenced"
            self.acknowledged[stream.stream_id] = max(self.acknowledged[stream.stream_id], end)

        engine.storage.append.when_durable(position, durable)

    async def check(self, engine: Engine) -> None:
        """Everything acknowledged is there; offsets are dense; checkpoints describe a committed end."""
        for stream_id in self.stream_ids:
            stream = engine.storage.open_stream(stream_id)
            assert stream.next_offset >= self.acknowledged[stream_id]
            bases = await read_all(stream, max_bytes=20_000)
            assert bases == sorted(set(bases))
            assert bases[:1] in ([], [0])
            commits = [r for commit in self.ledger.commits for r in commit.ranges if r.stream == stream_id]
            assert commits
            for piece in stream.checkpoints():
                assert await stream.read_checkpoint(piece) == b"%d" % piece.offset
                assert piece.offset <= stream.next_offset


def run(seed: int) -> World:
    world = World(seed)
    try:
        run_world(world.loop, world.live())
    finally:
        world.loop.end()
    return world


@pytest.mark.parametrize("seed", range(25))
def test_nothing_acknowledged_is_ever_lost(seed: int) -> None:
    world = run(seed)

    assert world.store.violations == []


def test_a_seed_repeats_exactly() -> None:
    first, second = run(3), run(3)

    assert first.acknowledged == second.acknowledged
    assert [c.trim_to for c in first.ledger.commits] == [c.trim_to for c in second.ledger.commits]
