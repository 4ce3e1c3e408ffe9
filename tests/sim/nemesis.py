"""What goes wrong in a run, and when: drawn from the seed, acted out against the cluster.

Faults of one kind are common in some seeds and absent in others, so that rare combinations get their turn.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.sim.store_faults import PARTS, StoreFaults
from tests.support.cluster import Cluster, Incarnation
from tests.support.faults import WRITES


class Nemesis:
    """Acts until its time is over, then heals everything and leaves one process able to serve."""

    def __init__(self, cluster: Cluster, dice: random.Random, *, seconds: float, least_faults: int = 6) -> None:
        self._cluster = cluster
        self._dice = dice
        self._seconds = seconds
        self._least_faults = least_faults
        self._current: Incarnation | None = None
        self._restarting = 0
        store = StoreFaults(cluster, dice)
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._crash,
            self._crash,
            self._stop_and_restart,
            self._pause,
            self._take_over,
            self._take_over,
            store.outage,
            store.outage,
            self._cut_off,
            store.flaky_store,
            store.flaky_store,
            self._reset_connections,
            self._slow_network,
            self._crash_in_the_middle,
            store.outage_of_some_operations,
            store.outage_of_some_operations,
            self._start_that_dawdles,
            self._strangers_in_the_bucket,
            self._clock_jump,
            self._long_outage_of_the_wal,
        ]
        self._kinds = dice.sample(kinds, dice.randint(4, len(kinds)))

    async def run(self, first: Incarnation) -> None:
        """Act out the schedule."""
        cluster, dice = self._cluster, self._dice
        self._current = first
        began = cluster.loop.time()
        mean_s = self._seconds / (self._least_faults + dice.uniform(1, 8))
        while cluster.loop.time() - began < self._seconds or len(cluster.faults) < self._least_faults:
            await asyncio.sleep(dice.uniform(0.1, 2 * mean_s) * dice.choice((0.3, 1, 1)))
            await dice.choice(self._kinds)()
        await self._heal()

    async def _heal(self) -> None:
        cluster = self._cluster
        cluster.store.heal()
        cluster.network.rates.reset = cluster.network.rates.slow = 0.0
        for made in cluster.incarnations:
            made.process.resume()
        await asyncio.sleep(1)
        if self._current is None or not self._current.process.alive or self._current.ended:
            self._current = cluster.start()
        cluster.trace("healed")

    def _replace(self) -> None:
        self._current = self._cluster.start()

    async def _crash(self) -> None:
        current = self._current
        if current is None or not current.process.alive:
            self._replace()
            return
        self._cluster.fault(f"kill {current.process.name}")
        self._cluster.kill(current)
        await asyncio.sleep(self._dice.choice((0.0, 0.1, self._dice.uniform(0, 6))))
        self._replace()

    async def _crash_in_the_middle(self) -> None:
        """Kill when the next write to some part of the bucket is applied, before its answer arrives."""
        cluster, current = self._cluster, self._current
        if current is None or not current.process.alive:
            self._replace()
            return
        part = self._dice.choice(PARTS)
        skip = self._dice.randint(0, 3)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def watch(operation, error) -> None:
            nonlocal skip
            if operation.process is not current.process or part not in operation.key or done.done():
                return
            if operation.name not in WRITES:
                return
            skip -= 1
            if skip < 0:
                cluster.fault(f"kill {current.process.name} after {operation.name} {operation.key}")
                cluster.kill(current)
                done.set_result(None)

        cluster.store.on_applied.append(watch)
        await asyncio.wait([done], timeout=6)
        done.cancel()
        cluster.store.on_applied.remove(watch)
        if not current.process.alive:
            await asyncio.sleep(self._dice.uniform(0, 1))
            self._replace()

    async def _stop_and_restart(self) -> None:
        current = self._current
        if current is None or not current.process.alive or current.broker is None or current.process.paused:
            return
        self._cluster.fault(f"stop {current.process.name}")
        current.process.call_soon(current.broker.stop)
        if self._dice.random() < 0.3:
            await asyncio.sleep(self._dice.uniform(0, 0.5))
            self._cluster.kill(current)
        else:
            for _ in range(300):
                if current.ended:
                    break
                await asyncio.sleep(0.1)
            if not current.ended:
                self._cluster.kill(current)
        self._replace()

    async def _pause(self) -> None:
        current = self._current
        if current is None:
            return
        self._cluster.fault(f"pause {current.process.name}")
        current.process.pause()
        await asyncio.sleep(self._dice.choice((0.3, self._dice.uniform(1, 12))))
        current.process.resume()

    async def _take_over(self) -> None:
        """The supervisor believes a broker dead that is only slow, and starts another of the same node id."""
        cluster, old, dice = self._cluster, self._current, self._dice
        if old is None or not old.process.alive:
            self._replace()
            return
        cluster.fault(f"take over from {old.process.name}")
        how = dice.choice(("paused", "paused", "cut off", "healthy"))
        if how == "paused":
            old.process.pause()
        elif how == "cut off":
            cluster.store.outage(dice.uniform(2, 20), process=old.process)
        await asyncio.sleep(dice.uniform(0, 2))
        self._replace()
        # Woken up in the middle of the new one's start, or long after it.
        cluster.loop.call_later(dice.choice((0.2, 1, 4, 15)) * dice.uniform(0.5, 1.5), old.process.resume)
        await asyncio.sleep(dice.uniform(0, 4))

    async def _strangers_in_the_bucket(self) -> None:
        """A console shows folders by making markers of them; somebody edits a file beside our keys."""
        bucket, dice = self._cluster.bucket, self._dice
        keys = bucket.find()
        folders = {key[: key.rindex("/") + 1] for key in keys if "/" in key}
        strangers = [*sorted(folders), *(f"{key}~" for key in dice.sample(keys, min(len(keys), 3))), "notes.txt"]
        made = dice.sample(strangers, dice.randint(1, min(len(strangers), 4)))
        for key in made:
            bucket.place(key, b"" if key.endswith("/") else b"what somebody wrote")
        self._cluster.strangers.update(made)
        self._cluster.fault(f"strangers in the bucket: {', '.join(made)}")

    async def _start_that_dawdles(self) -> None:
        """A second process stops in the middle of its start, and the first goes on: what it has read grows old."""
        cluster, dice = self._cluster, self._dice
        if self._current is None or not self._current.process.alive:
            self._replace()
            return
        cluster.fault(f"a start beside {self._current.process.name} that dawdles")
        self._replace()
        await asyncio.sleep(dice.uniform(0.05, 1.5))
        dawdler = self._current
        dawdler.process.pause()
        await asyncio.sleep(dice.uniform(2, 12))
        dawdler.process.resume()

    async def _long_outage_of_the_wal(self) -> None:
        """Long enough for memory to fill up."""
        seconds = self._dice.uniform(5, 20)
        self._cluster.fault(f"store outage of /wal/ for {seconds:.1f} s")
        self._cluster.store.outage(seconds, part="/wal/")
        await asyncio.sleep(seconds)

    async def _clock_jump(self) -> None:
        if self._current is not None:
            jump_ms = self._dice.randint(-100_000, 100_000)
            self._cluster.fault(f"the clock of {self._current.process.name} jumps by {jump_ms} ms")
            self._current.clock.skew_ms += jump_ms
            self._cluster.clock_jumped_at = self._cluster.loop.time()

    async def _cut_off(self) -> None:
        if self._current is not None:
            seconds = self._dice.uniform(0.5, 8)
            self._cluster.fault(f"{self._current.process.name} does not reach the store for {seconds:.1f} s")
            self._cluster.store.outage(seconds, process=self._current.process)

    async def _reset_connections(self) -> None:
        self._cluster.fault(f"{self._cluster.network.reset()} connections reset")

    async def _slow_network(self) -> None:
        rates = self._cluster.network.rates
        self._cluster.fault("slow network that loses connections")
        rates.slow, rates.reset = self._dice.uniform(0, 0.2), self._dice.uniform(0, 0.02)
        await asyncio.sleep(self._dice.uniform(1, 5))
        rates.slow = rates.reset = 0.0
