"""One seed: a cluster, its clients, what goes wrong, and the verdict.

0 s        the first broker formats the bucket; the topic is made; clients begin
to ~45 s   faults (`nemesis`)
healed     within 30 s a produce is acknowledged and everything is read back
quiet      clients are gone; from one upload interval on, no PUT but what is due by itself (`Cluster.is_due_by_itself`)
verdict    `history.judge`, and what the cluster watched all along
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.sim import coverage, memory
from tests.sim.accounting import check_accounts
from tests.sim.actors import RETRIABLE, Producer, Reader, Trimmer, until_done
from tests.sim.administrator import Administrator
from tests.sim.group import SESSION_MS, GroupMember
from tests.sim.history import History, judge, names_of
from tests.sim.nemesis import Nemesis
from tests.sim.sizes import apply_limits, draw_sizes
from tests.support.batches import BadBatch, parse_batches
from tests.support.client import EARLIEST, LATEST, CallFailed, ErrorAnswered, SimClient
from tests.support.cluster import Cluster
from tests.support.faults import FaultRates
from tests.support.sim_loop import Process, SimLoop, run_world

TOPIC = "orders"
GROUP = "readers"
FAULT_SECONDS = 44.0
LIVENESS_S = 30.0
# The group's members are gone after their session's end, which is a last write of its own.
QUIET_GRACE_S = 3.0 + 2 * SESSION_MS / 1000
QUIET_S = 10.0
QUIET_TRIES = 4
# What a seed has written is merged a second or so a job, two objects at a time at worst.
COMPACTION_S = 120.0
START_S = 60.0
ACKNOWLEDGED_MIN = 2000
TOP_UP_S = 60.0
# Reading everything, one fetch after the other, takes as long as there are requests: seed 636 has 10,043 records, and
# where a load is 4 KiB and an index does not stay in memory a record is more than one (seed 474: 75 s for 7,933).
READ_ALL_S = 60.0
READ_RECORD_S = 0.02


@dataclass(slots=True)
class Outcome:
    """What a seed came to."""

    seed: int | str
    violations: list[str]
    fingerprint: str = ""
    simulated_s: float = 0.0
    acknowledged: int = 0
    faults: list[str] = field(default_factory=list)
    starts: int = 0
    store_operations: int = 0
    trace: list[str] = field(default_factory=list)
    coverage: dict[str, int] = field(default_factory=dict)
    """See `tests.sim.coverage`."""


class World:
    """The parts of one run."""

    acknowledged_min = ACKNOWLEDGED_MIN
    probes = coverage.PROBES

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.loop = SimLoop(seed)
        self.dice = random.Random(f"world {seed}")
        dice = self.dice
        self.sizes = draw_sizes(dice)
        tuning = {
            "controller": draw_controller(dice),
            "storage": self.sizes.storage,
            # Without either the controller is reached in the broker's own process, as if it could be nowhere else.
            "metadata": {"lag_s": dice.choice((0.0, 0.0, 0.005, 0.05, 0.4)), "is_remote": dice.random() < 0.25},
        }
        self.cluster = Cluster(seed, self.loop, settings=draw_settings(dice), tuning=tuning)
        self.cluster.store.page_keys = dice.choice((None, None, 3, 20))
        if self.cluster.store.page_keys is not None:
            # A page costs less than a listing of everything.
            self.cluster.store.latency.list_most /= 5
        self.cluster.store.answers_404_to_deletes = dice.random() < 0.2
        self.topic_configs = draw_topic_configs(dice)
        self.history = History(
            dice.randint(1, 4), violations=self.cluster.violations, is_stale=self.cluster.is_stale, now=self.loop.time
        )
        self.producers: list[Producer] = []
        self.clients: list[Process] = []
        self.administrator: Administrator | None = None
        self.changing: list[tuple[Administrator | Trimmer, asyncio.Task[None]]] = []

    def client(self, name: str) -> tuple[Process, SimClient]:
        """A client program's process and its view of the cluster."""
        process = Process(self.loop, name)
        self.clients.append(process)
        dice = random.Random(f"{name} {self.seed}")
        return process, SimClient(self.cluster.network, dice, client_id=name, bootstrap=self.cluster.addresses)

    def spawn_clients(self) -> None:
        """Everybody starts to produce, read and delete."""
        dice, history = self.dice, self.history
        producers = dice.randint(1, 3)
        for number in range(producers):
            name = f"p{number}"
            process, client = self.client(name)
            producer = Producer(
                client,
                random.Random(f"{name}! {self.seed}"),
                history,
                name=name,
                topic=TOPIC,
                partitions=range(history.partitions),
            )
            producer.sizes = self.sizes
            # Many lanes each send less: a seed is to cost no more for them.
            lanes = producers * history.partitions
            producer.pause_s = (0.05, 1.2 * max(1.0, lanes / 3))
            self.producers.append(producer)
            process.spawn(producer.run())
        for number in range(dice.randint(1, 2)):
            name = f"r{number}"
            process, client = self.client(name)
            reader = Reader(client, random.Random(f"{name}! {self.seed}"), history, name=name, topic=TOPIC)
            reader.max_bytes = self.sizes.read_bytes
            process.spawn(reader.run())
        for number in range(dice.choice((0, 1, 2))):
            name = f"g{number}"
            process, client = self.client(name)
            member = GroupMember(client, random.Random(f"{name}! {self.seed}"), history, group=GROUP, topic=TOPIC)
            process.spawn(member.run())
        if dice.random() < 0.5:
            process, client = self.client("administrator")
            self.administrator = Administrator(client, random.Random(f"a! {self.seed}"), history)
            self.changing.append((self.administrator, process.spawn(self.administrator.run())))
        # Kafka does not delete records of a compacted topic on request either.
        if dice.random() < 0.4 and not self.topic_configs:
            process, client = self.client("trimmer")
            trimmer = Trimmer(client, random.Random(f"t! {self.seed}"), history, topic=TOPIC, partition=0)
            self.changing.append((trimmer, process.spawn(trimmer.run())))

    async def run(self) -> None:
        """The whole story."""
        cluster, history = self.cluster, self.history
        watching = asyncio.ensure_future(memory.look_on(cluster))
        await self.start()
        if not await cluster.wait_serving(START_S):
            cluster.violation(f"no broker serves {START_S} s after the start")
            return
        _, admin = self.client("admin")
        await until_done(
            lambda: admin.create_topic(TOPIC, history.partitions, self.topic_configs),
            dice=self.dice,
            history=history,
            what="CreateTopics",
        )
        self.spawn_clients()
        nemesis = Nemesis(cluster, self.dice, seconds=FAULT_SECONDS)
        await nemesis.run(cluster.serving[0] if cluster.serving else cluster.incarnations[-1])
        await self.check_liveness(admin)
        await self.check_quiet()
        watching.cancel()

    async def start(self) -> None:
        """The first process formats the bucket; in some seeds there are two, or the store is at its worst."""
        cluster, dice = self.cluster, self.dice
        rough = dice.random()
        if rough < 0.2:
            cluster.fault("flaky store from the start")
            rate = dice.choice((0.05, 0.3))
            cluster.store.rates = FaultRates(
                refused=rate / 2, lost=rate / 3, late=rate / 3, conflict=rate, slow=rate / 4
            )
            self.loop.call_later(dice.uniform(1, 10), cluster.store.heal)
        cluster.start()
        if 0.15 < rough < 0.3:
            cluster.fault("two processes at the start")
            await asyncio.sleep(dice.choice((0.0, dice.uniform(0, 2))))
            cluster.start()

    async def check_liveness(self, admin: SimClient) -> None:
        """Within 30 s of the last fault: everything sent is acknowledged, and everything is read back.

        What the seed's size costs, writing the rest of its records and reading all of them, is bounded apart.
        """
        cluster = self.cluster
        registrations = len(cluster.incarnations)
        deadline = self.loop.time() + LIVENESS_S
        probe = Producer(
            self.client("probe")[1],
            self.dice,
            self.history,
            name="probe",
            topic=TOPIC,
            partitions=range(self.history.partitions),
        )
        probing = self.clients[-1].spawn(probe.run_once())
        try:
            async with asyncio.timeout_at(deadline) as limit:
                await probing
                cluster.trace("alive")
                began = self.loop.time()
                limit.reschedule(began + TOP_UP_S)
                await self._top_up()
                deadline += self.loop.time() - began
                limit.reschedule(deadline)
                for producer in self.producers:
                    producer.stopping = True
                while any(not sent.acknowledged for lane in self.history.lanes.values() for sent in lane):
                    await asyncio.sleep(0.2)
                cluster.trace("all acknowledged")
                for actor, task in self.changing:
                    actor.stopping = True
                    await task
                await self._find_newest(admin)
                began = self.loop.time()
                limit.reschedule(began + READ_ALL_S + READ_RECORD_S * self.history.acknowledged_records)
                starts, ends, logs = await self.read_all(admin)
                deadline += self.loop.time() - began
                limit.reschedule(deadline)
                cluster.trace("all read")
                # The group reads what the seed holds, too.
                behind = sum(end - self.history.committed.get((GROUP, index), 0) for index, end in enumerate(ends))
                limit.reschedule(deadline + READ_RECORD_S * behind)
                await self._group_catches_up(ends)
                if self.administrator is not None:
                    await self.administrator.check()
        except TimeoutError:
            cluster.violation(f"{LIVENESS_S} s after the last fault: {self.what_is_missing()}")
            return
        self.judge(starts, ends, logs)
        if len(cluster.incarnations) != registrations:
            cluster.violation("a broker was started anew without a fault")

    def judge(self, starts: list[int], ends: list[int], logs: list[list[bytes]]) -> None:
        """What clients did and saw, against what is there."""
        judge(self.history, starts=starts, ends=ends, logs=logs)

    async def _find_newest(self, admin: SimClient) -> None:
        """A process that does not know yet that it is over may still show what was there before."""
        while True:
            await self._insist(admin, lambda: admin.refresh([TOPIC]))
            leaders = [admin.leaders.get((TOPIC, index)) for index in range(self.history.partitions)]
            if all(leader is not None and not self.cluster.is_stale(leader) for leader in leaders):
                return
            await asyncio.sleep(0.2)

    async def _top_up(self) -> None:
        """A seed is so many records, however long the outages were; the time this takes is nobody's fault."""
        for producer in self.producers:
            producer.hurry()
        while self.history.acknowledged_records < self.acknowledged_min:
            await asyncio.sleep(0.2)

    async def _group_catches_up(self, ends: list[int]) -> None:
        if not any(process.name.startswith("g") for process in self.clients):
            return
        while any(self.history.committed.get((GROUP, index), 0) < end for index, end in enumerate(ends)):
            await asyncio.sleep(0.2)

    def what_is_missing(self) -> str:
        """Why the run is not over."""
        open_lanes = [name for name, lane in self.history.lanes.items() if any(not sent.acknowledged for sent in lane)]
        states = [
            f"{made.process.name} {made.broker.lifecycle.state.value if made.broker else 'new'}: "
            f"{made.broker.lifecycle.message if made.broker else ''}"
            for made in self.cluster.live
        ]
        return f"not acknowledged in {open_lanes}; committed {self.history.committed}; brokers {states}"

    async def read_all(self, admin: SimClient) -> tuple[list[int], list[int], list[list[bytes]]]:
        """Every partition from its start to its end."""
        starts, ends, logs = [], [], []
        for partition in range(self.history.partitions):
            start, end = [
                await self._insist(admin, lambda at=at, index=partition: admin.list_offset(TOPIC, index, at))
                for at in (EARLIEST, LATEST)
            ]
            log: list[bytes] = []
            position = start
            while position < end:
                answer = await self._insist(
                    admin,
                    lambda at=position, index=partition: admin.fetch(
                        TOPIC, index, at, max_bytes=1_000_000, max_wait_ms=100
                    ),
                )
                try:
                    for batch in parse_batches(answer.records or b""):
                        log.extend(names_of(batch)[max(0, position - batch.base_offset) :])
                        position = self.history.read(partition, position, batch, reader="final reader")
                except BadBatch as error:
                    self.history.violation(f"partition {partition} at {position}: {error}")
                    break
            starts.append(start)
            ends.append(end)
            logs.append(log)
        return starts, ends, logs

    async def _insist(self, admin: SimClient, attempt):
        while True:
            try:
                return await attempt()
            except CallFailed:
                pass
            except ErrorAnswered as error:
                if error.code not in RETRIABLE:
                    self.history.violation(f"the final read was refused with {error.code.name}")
            admin.leaders.clear()
            await asyncio.sleep(0.2)

    async def check_quiet(self) -> None:
        """Without clients: one upload interval later, no PUT but the lease."""
        cluster = self.cluster
        for process in self.clients:
            process.kill()
        settings = cluster.settings
        grace_s = int(settings["automq.upload.interval.ms"]) / 1000 + QUIET_GRACE_S
        # Compaction looks at what was uploaded last.
        grace_s += int(settings["automq.compaction.interval.ms"]) / 1000
        ended = self.loop.time()
        # Somebody may take over even now: a process that was started long ago and woke up late.
        while self.loop.time() < max(ended, cluster.serving_since) + grace_s or self.is_busy:
            await asyncio.sleep(0.5)
            if self.loop.time() > max(ended, cluster.serving_since) + grace_s + COMPACTION_S:
                cluster.violation(f"compaction, or moving of partitions, does not end in {COMPACTION_S} s")
                break
        for _ in range(QUIET_TRIES):
            began = self.loop.time()
            await asyncio.sleep(QUIET_S)
            if cluster.moved_at <= began:
                break
            # The balancer thought of something, once more: it must come to an end.
            await asyncio.sleep(QUIET_GRACE_S)
        cluster.check_idle_since(began)
        self.check_end()
        cluster.close()

    @property
    def is_busy(self) -> bool:
        """Whether there is still something to do without clients."""
        return self.cluster.is_compacting

    def check_end(self) -> None:
        """Who serves in the end, and what lies in the bucket."""
        cluster = self.cluster
        if len(cluster.serving) != 1:
            cluster.violation(f"{len(cluster.serving)} processes say that they serve")
        elif (broker := cluster.serving[0].broker) is not None and broker.image is not None:
            check_accounts(cluster, broker.image)


def draw_settings(dice: random.Random) -> dict[str, str]:
    """Settings differ from seed to seed."""
    return {
        "automq.wal.interval.ms": str(dice.choice((5, 40, 250))),
        "automq.wal.in.flight": str(dice.choice((1, 2, 4, 8))),
        "automq.upload.interval.ms": str(dice.choice((700, 2500, 6000))),
        "automq.compaction.enable": dice.choice(("true", "true", "false")),
        "automq.compaction.objects": str(dice.choice((2, 3, 8))),
        "automq.compaction.interval.ms": str(dice.choice((100, 1000, 5000))),
    }


def draw_controller(dice: random.Random) -> dict[str, float]:
    """What a controller does only after much or long, it does here often."""
    return {
        "snapshot_records": dice.choice((4, 15, 60, 10_000)),
        "object_grace_ms": dice.choice((1_000, 8_000)),
        "object_expiry_ms": dice.choice((5_000, 3_600_000)),
        "sweep_interval_s": dice.choice((1.0, 5.0)),
    }


def draw_topic_configs(dice: random.Random) -> dict[str, str]:
    """So do topics."""
    return {"cleanup.policy": "compact"} if dice.random() < 0.1 else {}


class TraceHandler(logging.Handler):
    """What brokers log is part of the story."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(logging.WARNING)
        self._cluster = cluster

    def emit(self, record: logging.LogRecord) -> None:
        known = logging.makeLogRecord({}).__dict__
        fields = {name: value for name, value in record.__dict__.items() if name not in known and name != "taskName"}
        self._cluster.trace_tail.append(f"{self._cluster.loop.time():10.4f} log {record.getMessage()} {fields}")
        if record.exc_info:
            self._cluster.trace_tail.append(logging.Formatter().formatException(record.exc_info))


@contextlib.contextmanager
def logs_to(cluster: Cluster) -> Iterator[None]:
    """While a seed runs, log lines go to its trace and nowhere else."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [TraceHandler(cluster)]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


def run_seed(seed: int | str) -> Outcome:
    """Run one seed to its end. Leaves the loop as it is: call it in a process that ends (`tests.sim.isolation`)."""
    return run_to_end(World(seed))


def run_to_end(world: World) -> Outcome:
    """The same for a world that is made."""
    cluster = world.cluster
    apply_limits(world.sizes.limits)
    coverage.watch(world.probes)
    memory.watch()
    with logs_to(cluster):
        try:
            run_world(world.loop, world.run())
        except RuntimeError as error:
            cluster.violation(f"{type(error).__name__}: {error}")
    return Outcome(
        seed=world.seed,
        violations=list(cluster.violations),
        fingerprint=cluster.fingerprint,
        simulated_s=world.loop.time(),
        acknowledged=world.history.acknowledged_records,
        faults=list(cluster.faults),
        starts=len(cluster.incarnations),
        store_operations=cluster.store.operations,
        trace=list(cluster.trace_tail),
        coverage=coverage.counts(),
    )
