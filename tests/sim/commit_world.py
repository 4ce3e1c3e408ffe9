"""One controller and several brokers that commit to it: for schedules about the commit check.

The commit check is the last line of defence, against brokers that are late, superseded or mistaken; with a broker that
is its own controller most of that cannot happen yet. So the brokers here are puppets: a `Puppet` says what is in its
write-ahead log and commits what its story tells it to. The controller, its log and the store are the real ones.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import ControllerSettings, TopicSpec, WalToRecover
from automq.controller.service import Controller
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import Endpoint
from automq.runtime.entropy import SeededEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    CommitResult,
    ObjectRefused,
    RangeVerdict,
    StreamError,
)
from automq.s3stream.objects.format import object_key
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.upload.dead_log import lowest_missing
from tests.support.faults import SimStore
from tests.support.sim_loop import Process, SimLoop
from tests.support.sim_platform import SimClock

CLUSTER = ClusterId("simulated-cluster-0001")
PORT = 9092


@dataclass(slots=True)
class Held:
    """A batch in a puppet's log, acknowledged to a client."""

    slot: int
    stream: StreamId
    start: int
    end: int


@dataclass(slots=True, eq=False)
class Puppet:
    """A broker as the controller sees it."""

    world: "CommitWorld"
    node: NodeId
    epoch: BrokerEpoch
    wals: Sequence[WalToRecover] = ()
    log: dict[int, Held] = field(default_factory=dict)
    """By slot. A slot that was deleted is gone from here."""
    recovered: bool = False

    @property
    def name(self) -> tuple[NodeId, BrokerEpoch]:
        """Node and epoch."""
        return self.node, self.epoch

    def hold(self, *spans: tuple[StreamId, int, int]) -> None:
        """Batches, one slot each, that clients believe to be safe."""
        for stream, start, end in spans:
            slot = max(self.log, default=-1) + 1
            self.log[slot] = Held(slot, stream, start, end)
            self.world.ledger.setdefault(self.name, []).append(self.log[slot])

    async def prepare(self) -> ObjectId:
        """An object's id, its bytes uploaded."""
        (object_id,) = await self.world.controller.prepare_objects(self.node, self.epoch, 1)
        await self.world.store_facade.put(object_key(CLUSTER, object_id), [f"{self.name} {object_id}".encode()])
        return object_id

    async def commit(
        self,
        *ranges: tuple[StreamId, int, int, int],
        trim_to: int = 0,
        object_id: ObjectId | None = None,
        recovering: "Puppet | None" = None,
    ) -> CommitResult:
        """Commit ranges (stream, epoch, start, end); delete what the answer says is superfluous."""
        if object_id is None:
            object_id = await self.prepare()
        owner = recovering or self
        result = await self.world.controller.commit_objects(
            CommitRequest(
                objects=[
                    CommitObject(
                        object_id=object_id,
                        size=100,
                        ranges=[
                            CommitRange(
                                stream=stream,
                                epoch=StreamEpoch(epoch),
                                start=Offset(start),
                                end=Offset(end),
                                size=end - start,
                                max_timestamp_ms=0,
                            )
                            for stream, epoch, start, end in ranges
                        ],
                    )
                ],
                node=owner.node,
                epoch=owner.epoch,
                trim_to=trim_to,
                recoverer=self.name if recovering is not None else None,
            )
        )
        for slot in [slot for slot in owner.log if slot < result.trimmed_to]:
            del owner.log[slot]
        return result

    async def recover(self, dead: "Puppet", stream_epoch: int) -> None:
        """As the real one does: from T to the lowest missing slot, which ends the log."""
        (wal,) = [wal for wal in self.wals if (wal.node, wal.epoch) == dead.name]
        end = lowest_missing(dead.log.keys(), wal.trim_to)
        for slot in range(wal.trim_to, end):
            held = dead.log[slot]
            found = self.world.controller_image.stream(held.stream)
            if found is None or held.end <= found.end:
                continue
            result = await self.commit(
                (held.stream, stream_epoch, held.start, held.end), trim_to=slot + 1, recovering=dead
            )
            if result.verdicts[0] is RangeVerdict.REFUSED:
                self.world.violation(f"the recovery of {dead.name} was refused offsets {held.start} to {held.end}")
        dead.recovered = True
        await self.world.controller.wal_recovered(*dead.name, recoverer=self.name)


class CommitWorld:
    """The controller, and what must be true of the streams."""

    def __init__(self, name: str) -> None:
        self.loop = SimLoop(name)
        self.dice = random.Random(name)
        self.bucket = MemoryStore()
        self.store = SimStore(self.bucket, self.loop, random.Random(f"store {name}"))
        self.violations = self.store.violations
        self.process = Process(self.loop, "controller")
        self.store_facade = self.store.facade(self.process)
        self.publisher = MetadataPublisher()
        self.puppets: list[Puppet] = []
        self.ledger: dict[tuple[NodeId, BrokerEpoch], list[Held]] = {}
        """What each puppet ever held: all of it was acknowledged."""
        self.controller = Controller(
            settings=ControllerSettings(
                object_expiry_ms=5_000,
                object_grace_ms=1_000,
                sweep_interval_s=1.0,
                # The brokers of this world send no heartbeats.
                session_timeout_ms=10**9,
            ),
            cluster_id=CLUSTER,
            node=NodeId(1),
            store=self.store_facade,
            publisher=self.publisher,
            key_of=lambda object_id: object_key(CLUSTER, object_id),
            clock=SimClock(self.loop, self.dice),
            entropy=SeededEntropy(name),
            tasks=Tasks("controller", on_crash=lambda task, error: self.violation(f"{task} crashed: {error!r}")),
            metrics=ControllerMetrics(Metrics(), lambda: self.publisher.image),
            on_fenced=lambda reason: self.violation(f"the controller was fenced: {reason}"),
            on_damaged=lambda error: self.violation(f"the metadata log was damaged: {error}"),
            on_store=lambda error: None,
        )

    @property
    def controller_image(self):
        """The newest durable image."""
        return self.publisher.image

    def violation(self, what: str) -> None:
        """Something that must not be."""
        self.violations.append(what)

    async def broker(self, node: int) -> Puppet:
        """A new incarnation of a node. The controller takes charge before the first."""
        if not self.puppets:
            await self.controller.start(owner=None)
        where = Endpoint("PLAINTEXT", f"node{node}", PORT)
        registration = await self.controller.register_broker(NodeId(node), rack=None, endpoints=[where])
        made = Puppet(self, NodeId(node), registration.epoch, registration.wals)
        self.puppets.append(made)
        return made

    async def stream(self, owner: Puppet, name: str = "orders") -> StreamId:
        """A topic of one partition."""
        (result,) = await self.controller.create_topics([TopicSpec(name=name, assignments={0: [owner.node]})])
        assert result.error is None, result.error
        topic = self.controller_image.topic(name)
        assert topic is not None
        return topic.partitions[0].stream

    def epoch_of(self, stream: StreamId) -> int:
        """The stream's current epoch."""
        found = self.controller_image.stream(stream)
        assert found is not None
        return found.epoch

    async def expect(self, verdict: RangeVerdict, result: CommitResult, what: str) -> None:
        """The only range of a commit was judged so."""
        if list(result.verdicts) != [verdict]:
            self.violation(f"{what}: {[found.name for found in result.verdicts]}, not {verdict.name}")

    async def must_refuse(self, attempt, *errors: type[Exception], what: str) -> None:
        """`attempt` is refused as a whole."""
        try:
            await attempt
        except errors:
            return
        self.violation(f"{what} was accepted")

    async def check(self) -> None:
        """Streams are dense, their objects exist, and what was acknowledged is committed or still in a log."""
        await asyncio.sleep(20)
        image = self.controller_image
        for stream_id in sorted(image.streams):
            stream = image.streams[stream_id]
            position = None
            for span in image.spans_of(stream_id):
                if position is not None and span.start != position:
                    self.violation(f"stream {stream_id}: {position} is followed by {span.start}")
                position = span.end
                found = await self.bucket.list(object_key(CLUSTER, span.object_id))
                if not found:
                    self.violation(f"stream {stream_id}: object {span.object_id} is gone")
            if position is not None and position != stream.end and position > stream.start:
                self.violation(f"stream {stream_id} ends at {stream.end}, its objects at {position}")
        for puppet in self.puppets:
            self._check_acknowledged(puppet)

    def _check_acknowledged(self, puppet: Puppet) -> None:
        """Everything that `puppet` ever held is in objects, trimmed, or in a log that is still to be read."""
        for held in self.ledger.get(puppet.name, ()):
            stream = self.controller_image.stream(held.stream)
            if stream is None or (held.slot in puppet.log and not puppet.recovered):
                continue
            covered_to = max(held.start, stream.start)
            for span in self.controller_image.spans_of(held.stream):
                if span.start <= covered_to < span.end:
                    covered_to = span.end
            if covered_to < held.end:
                self.violation(f"{puppet.name}: offsets {held.start} to {held.end} were acknowledged and are lost")


__all__ = [
    "BrokerFenced",
    "CommitWorld",
    "ObjectRefused",
    "Puppet",
    "RangeVerdict",
    "StreamError",
]
