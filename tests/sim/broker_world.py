"""A cluster for directed schedules: a topic of two partitions, an idempotent producer, and a hand on every operation.

world = BrokerWorld("name")
first = await world.broker()           # serves
await world.produce(5)                 # acknowledged when this returns
... hold operations, pause, kill ...
(afterwards) await world.check()       # liveness, and the judge of `history`
"""

import asyncio
import random
from collections.abc import Callable, Mapping

from tests.sim.actors import Producer, until_done
from tests.sim.history import History
from tests.sim.world import GROUP, TOPIC, World
from tests.support.client import Address, CallFailed, SimClient
from tests.support.cluster import PORT, Cluster, Incarnation
from tests.support.faults import Fate, Operation
from tests.support.sim_loop import Process, SimLoop

ASIDE = "aside"
CALM: Mapping[str, str] = {
    # What a schedule does not ask for does not happen by itself.
    "automq.wal.interval.ms": "5",
    "automq.wal.in.flight": "4",
    "automq.upload.interval.ms": "3600000",
    "log.retention.check.interval.ms": "3600000",
    "automq.compaction.enable": "false",
}


class BrokerWorld(World):
    """See the module."""

    acknowledged_min = 0

    def __init__(self, name: str, *, partitions: int = 2, settings: Mapping[str, str] | None = None) -> None:
        self.seed = name
        self.loop = SimLoop(name)
        self.dice = random.Random(f"world {name}")
        self.cluster = Cluster(name, self.loop, settings={**CALM, **(settings or {})})
        self.violations = self.cluster.violations
        self.history = History(
            partitions, violations=self.cluster.violations, is_stale=self.cluster.is_stale, now=self.loop.time
        )
        self.producers: list[Producer] = []
        self.administrator = None
        self.changing = []
        self.clients = []
        self.admin: SimClient | None = None
        self._by_name: dict[str, tuple[Process, Producer]] = {}

    async def broker(self, *, wait_s: float = 30.0) -> Incarnation:
        """A new process of node 1, which serves when this returns. The first makes the topic."""
        made = self.cluster.start()
        await self.serving(made, wait_s=wait_s)
        if self.admin is None:
            await self._prepare()
        return made

    async def serving(self, made: Incarnation, *, wait_s: float = 30.0) -> None:
        """Return when `made` serves."""
        async with asyncio.timeout(wait_s):
            while not made.is_serving:
                await asyncio.sleep(0.05)

    def address_of(self, made: Incarnation) -> Address:
        """Where `made` listens."""
        return made.process.name, PORT

    def loyal_reader(self, made: Incarnation) -> Process:
        """Somebody who asks `made` again and again, whoever has taken over."""
        process, client = self.client(f"loyal{len(self.clients)}")
        client.call_timeout_s = 1.0

        async def ask() -> None:
            while True:
                try:
                    await client.fetch_many(self.address_of(made), TOPIC, {0: 0}, 4096, max_wait_ms=100)
                except CallFailed:
                    pass
                await asyncio.sleep(0.05)

        process.spawn(ask())
        return process

    async def _prepare(self) -> None:
        process, self.admin = self.client("admin")
        for topic, partitions in ((TOPIC, self.history.partitions), (ASIDE, 1)):
            await process.spawn(
                until_done(
                    lambda topic=topic, partitions=partitions: self.admin.create_topic(topic, partitions, {}),
                    dice=self.dice,
                    history=self.history,
                    what="CreateTopics",
                )
            )
        self.add_producer("p")

    def add_producer(self, name: str) -> None:
        """A producer in a process of its own, with connections of its own."""
        process, client = self.client(name)
        producer = Producer(
            client, self.dice, self.history, name=name, topic=TOPIC, partitions=range(self.history.partitions)
        )
        self.producers.append(producer)
        self._by_name[name] = (process, producer)

    def producing(
        self, batches: int = 1, *, partition: int = 0, name: str = "p", records: int = 3
    ) -> asyncio.Task[None]:
        """That producer sends batches, one after the other; the task ends when all are acknowledged."""
        process, producer = self._by_name[name]

        async def send() -> None:
            for _ in range(batches):
                await producer.send(partition, records)

        return process.spawn(send())

    async def produce(self, batches: int = 1, *, partition: int = 0, records: int = 3) -> None:
        """Batches that are acknowledged when this returns."""
        await self.producing(batches, partition=partition, records=records)

    def again(self) -> SimClient:
        """A new administrator: the old one's process may be gone."""
        self.admin = self.client(f"admin{len(self.clients)}")[1]
        return self.admin

    def direct(self, choose: Callable[[Operation], Fate | None]) -> None:
        """From now on `choose` decides about every operation."""
        self.cluster.store.direct = choose

    def calm(self) -> None:
        """Operations succeed again; what is held stays held."""
        self.cluster.store.direct = lambda operation: None

    def when_applied(self, condition: Callable[[Operation], bool]) -> asyncio.Future[None]:
        """Done right after the first operation that meets `condition` has taken effect."""
        done: asyncio.Future[None] = self.loop.create_future()

        def watch(operation: Operation, error: Exception | None) -> None:
            if not done.done() and condition(operation):
                self.cluster.store.on_applied.remove(watch)
                done.set_result(None)

        self.cluster.store.on_applied.append(watch)
        return done

    async def check(self) -> None:
        """What must be true at the end of every story."""
        self.cluster.store.heal()
        self.calm()
        for made in self.cluster.incarnations:
            made.process.resume()
        await asyncio.sleep(2)
        if self.admin is not None:
            if not self.cluster.live:
                self.cluster.start()
            await self.check_liveness(self.admin)
        self.cluster.close()


def of(made: Incarnation, name: str, part: str) -> Callable[[Operation], bool]:
    """Whether an operation is `made`'s, of that name, on a key containing `part`."""
    return lambda operation: operation.process is made.process and operation.name == name and part in operation.key


def uploads(made: Incarnation) -> Callable[[Operation], bool]:
    """Whether an operation is an upload of `made`'s, whichever operation uploads are."""
    return lambda operation: (
        operation.process is made.process and operation.name in ("put", "create_bulk") and "/data/" in operation.key
    )


__all__ = ["ASIDE", "GROUP", "TOPIC", "BrokerWorld", "of", "uploads"]
