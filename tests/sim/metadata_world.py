"""Several controllers over one faulty store, without brokers: for schedules about the metadata log alone.

Each controller is a process: it claims, takes over, and appends facts (`key = number`). A fact that was acknowledged
must be in whatever anybody reads later.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.claim import claim_next_epoch
from automq.metadata.loader import LogLoader
from automq.metadata.log import MetadataLog
from automq.metadata.patience import Patience
from automq.metadata.records import ConfigChanged
from automq.metadata.replay import MetadataMachine
from automq.metadata.snapshots import Snapshots
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StoreDamaged
from automq.s3stream.store.memory import MemoryStore
from tests.support.faults import Operation, SimStore
from tests.support.sim_loop import Process, SimLoop

CLUSTER = ClusterId("simulated-cluster-0000")
RESOURCE = 99


class MetadataWorld:
    """The bucket, and what was acknowledged."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.loop = SimLoop(seed)
        self.dice = random.Random(f"metadata {seed}")
        self.bucket = MemoryStore()
        self.store = SimStore(self.bucket, self.loop, random.Random(f"store {seed}"))
        self.violations = self.store.violations
        self.acknowledged: list[str] = []
        self.controllers: list[MetadataController] = []
        self._facts = 0

    def controller(self) -> "MetadataController":
        """A process that will be a controller."""
        made = MetadataController(self, f"c{len(self.controllers) + 1}")
        self.controllers.append(made)
        return made

    def next_fact(self) -> str:
        """A fact nobody has appended before."""
        self._facts += 1
        return f"fact{self._facts}"

    def when_applied(self, condition: Callable[[Operation], bool], act: Callable[[], None]) -> None:
        """Call `act` once, right after the first operation that meets `condition` has taken effect."""

        def watch(operation: Operation, error: Exception | None) -> None:
            if condition(operation):
                self.store.on_applied.remove(watch)
                act()

        self.store.on_applied.append(watch)

    async def check(self) -> None:
        """A fresh reader finds everything that was acknowledged, once; no epoch was claimed twice."""
        epochs = [made.epoch for made in self.controllers if made.epoch]
        if len(set(epochs)) != len(epochs):
            self.violations.append(f"controller epochs {epochs} were claimed")
        reader = MetadataController(self, "reader")
        try:
            async with asyncio.timeout(60):
                image = (await reader.process.spawn(reader.loader.read())).image
        except TimeoutError:
            self.violations.append("the log cannot be read in 60 s")
            return
        except Exception as error:  # noqa: BLE001 - a log that cannot be read is a finding
            self.violations.append(f"the log cannot be read: {type(error).__name__}: {error}")
            return
        known = image.config(RESOURCE, "facts")
        missing = [fact for fact in self.acknowledged if fact not in known]
        if missing:
            self.violations.append(f"acknowledged facts are lost: {', '.join(missing[:5])}")
        if image.record_number < len(known):
            self.violations.append(f"{len(known)} facts in {image.record_number} records")


class MetadataController:
    """One process."""

    def __init__(self, world: MetadataWorld, name: str) -> None:
        self.world = world
        self.process = Process(world.loop, name)
        self.store = world.store.facade(self.process)
        self.entropy = SeededEntropy(f"{world.seed} {name}")
        self.patience = Patience(entropy=self.entropy, on_store=lambda error: None)
        self.tasks = Tasks(name, on_crash=self._on_crash)
        self.loader = LogLoader(
            store=self.store, cluster_id=CLUSTER, entropy=self.entropy, patience=self.patience, tasks=self.tasks
        )
        self.epoch = ControllerEpoch(0)
        self.log: MetadataLog | None = None
        self.machine: MetadataMachine | None = None
        self.snapshots: Snapshots | None = None
        self.fenced = False

    def _on_crash(self, name: str, error: BaseException) -> None:
        self.world.violations.append(f"{name} crashed: {type(error).__name__}: {error}")

    def run(self, action: Awaitable[object]) -> asyncio.Task[object]:
        """`action` as a task of this process."""

        async def guarded() -> object:
            try:
                return await action
            except (LogFenced, LogFailed):
                self.fenced = True
                return None

        return self.process.spawn(guarded())

    async def claim(self) -> None:
        """Only the claim."""
        self.epoch = await claim_next_epoch(
            store=self.store, cluster_id=CLUSTER, node=NodeId(1), entropy=self.entropy, patience=self.patience
        )

    async def start(self) -> None:
        """Claim, take over, be ready to append."""
        await self.claim()
        image = (await self.loader.take_over(self.epoch)).image
        self.machine = MetadataMachine(image)
        self.log = MetadataLog(
            store=self.store,
            cluster_id=CLUSTER,
            epoch=self.epoch,
            record_number=image.record_number,
            entropy=self.entropy,
            tasks=self.tasks,
            patience=self.patience,
            on_fenced=self._on_fenced,
            on_damaged=self._on_damaged,
        )
        self.snapshots = Snapshots(
            store=self.store, cluster_id=CLUSTER, log=self.log, entropy=self.entropy, patience=self.patience
        )

    def _on_damaged(self, error: StoreDamaged) -> None:
        self.world.violations.append(f"the metadata log was damaged: {error}")

    def _on_fenced(self, error: LogFenced) -> None:
        self.fenced = True

    async def append(self, count: int = 1) -> None:
        """Facts, one slot each."""
        assert self.log is not None
        assert self.machine is not None
        for _ in range(count):
            fact = self.world.next_fact()
            record = ConfigChanged(RESOURCE, "facts", ((fact, self.process.name),))
            await self.log.append([record])
            self.machine.replay(record)
            self.world.acknowledged.append(fact)

    async def append_ahead(self) -> None:
        """Facts that the machine knows before they are durable."""
        assert self.log is not None
        assert self.machine is not None
        records = [ConfigChanged(RESOURCE, "facts", ((self.world.next_fact(), "ahead"),)) for _ in range(3)]
        appended = [self.log.append([record]) for record in records]
        for record in records:
            self.machine.replay(record)
        for future in appended:
            await future

    async def snapshot(self) -> None:
        """Write a snapshot of what is durable, and trim."""
        assert self.snapshots is not None
        assert self.machine is not None
        await self.snapshots.write(self.machine.image)
