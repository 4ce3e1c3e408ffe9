"""No turn of the event loop is long, however much one record changes: commits, swaps, snapshots and starts."""

import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from automq.controller.compaction_check import CompactedOutput, CompactedRange, CompactionRequest, judge_compaction
from automq.ids import BrokerEpoch, ControllerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import MetadataImage
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import LogPosition, encode_slot, slot_key, snapshot_key
from automq.metadata.move_records import (
    MoveCause,
    MovesCancelled,
    MovingPartition,
    PartitionReplicas,
    PartitionsMoving,
    ReleasedStream,
    ReplicasAssigned,
    StreamsReleased,
)
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    QuarantineLifted,
    StreamOpening,
    StreamsDeleted,
    StreamsOpened,
    StreamsQuarantined,
    TopicCreated,
    encode_record,
)
from automq.metadata.replay import MetadataMachine, replay
from automq.metadata.snapshot_format import encode_snapshot
from automq.metadata.snapshot_records import to_records
from automq.metadata.snapshots import Snapshots
from automq.runtime.entropy import SeededEntropy
from automq.runtime.turns import in_turns
from automq.s3stream.store.memory import MemoryStore
from automq.steps import Steps, at_once
from tests.support.growth import EPOCH, NODE, Growth, new_cluster
from tests.support.metadata_worlds import CLUSTER, FlakyStore, World
from tests.support.turns import LIMIT_MS, check_turns, measure

PARTITIONS = 10_000
WIDE = TopicId(uuid.UUID(int=1))
FIRST = LogPosition(ControllerEpoch(1), 0)
Work = Callable[[], Awaitable[object]]


def grown(partitions: int = PARTITIONS, uploads: int = 16) -> Growth:
    growth = new_cluster(partitions)
    growth.grow(uploads)
    return growth


async def put_snapshot(store: MemoryStore, image: MetadataImage) -> None:
    encoded = encode_snapshot(
        CLUSTER, FIRST, record_number=image.record_number, records=to_records(image), nonce=bytes(16)
    )
    await store.put(snapshot_key(CLUSTER, FIRST), at_once(encoded))


async def test_b1_a_commit_of_10000_ranges_makes_no_long_turn() -> None:
    growth = grown(uploads=2)
    growth.machine.replay(growth.prepared())
    image, request = growth.machine.image, growth.request()

    async def prepare() -> Work:
        store = MemoryStore()
        await put_snapshot(store, image)
        controller, _publisher = World(FlakyStore(store)).controller("turns")
        await controller.start(owner=None, above=FIRST.epoch)
        return lambda: controller.commit_objects(request)

    await check_turns(prepare)


async def test_a_swap_of_many_spans_makes_no_long_turn() -> None:
    growth = grown(partitions=1_000)
    output = ObjectId(growth.next_object)
    growth.machine.replay(growth.prepared())
    image = growth.machine.image
    ranges = [
        CompactedRange(stream, tuple(itertools.islice(image.spans_of(stream).above(Offset(0)), 16)))
        for stream in map(StreamId, growth.streams)
    ]
    request = CompactionRequest(
        node=NODE, epoch=EPOCH, generation=1, outputs=[CompactedOutput(output, 100, tuple(ranges))]
    )

    async def prepare() -> Work:
        machine = MetadataMachine(image)

        def steps() -> Steps[None]:
            decision = yield from judge_compaction(image, request, now_ms=0)
            for record in decision.records:
                yield from machine.turns(record)

        return lambda: in_turns(steps())

    await check_turns(prepare)


async def test_b1_a_start_and_a_snapshot_make_no_long_turn() -> None:
    growth = grown(partitions=5_000)
    image = growth.machine.image
    store = MemoryStore()
    await put_snapshot(store, image)
    number = image.record_number
    for sequence in (1, 2, 3):
        made = list(growth.records())
        for record in made:
            growth.machine.replay(record)
        records = [encode_record(record) for record in made]
        position = LogPosition(FIRST.epoch, sequence)
        await store.create(
            slot_key(CLUSTER, position),
            encode_slot(CLUSTER, position, first_record=number, encoded=records, nonce=bytes(16)),
        )
        number += len(records)
    loaded: list[Loaded] = []

    async def prepare() -> Work:
        world = World(FlakyStore(store))
        loader = LogLoader(
            store=world.store,
            cluster_id=CLUSTER,
            entropy=SeededEntropy("turns"),
            patience=world.patience(),
            tasks=world.tasks,
        )
        log: Any = _DurableLog(image)
        snapshots = Snapshots(
            store=FlakyStore(),
            cluster_id=CLUSTER,
            log=log,
            entropy=SeededEntropy("turns"),
            patience=world.patience(),
        )

        async def work() -> None:
            # Kept: to let an image go is no part of a start.
            loaded.append(await loader.read())
            assert await snapshots.write(image)

        return work

    await check_turns(prepare)
    assert loaded[0].image.streams == growth.machine.image.streams


class _DurableLog:
    """The log as snapshots see it: everything is durable."""

    def __init__(self, image: MetadataImage) -> None:
        self.durable = FIRST
        self.record_number = image.record_number


def moving(partitions: int = PARTITIONS) -> MetadataImage:
    """Every partition is on its way to another broker, and quarantined."""
    growth = grown(partitions, uploads=2)
    machine = growth.machine
    image = machine.image
    streams = sorted(image.streams)
    other = (NodeId(NODE + 1), BrokerEpoch(EPOCH + 1))
    parts = tuple(MovingPartition(stream=stream, replicas=(other[0], NODE)) for stream in streams)
    machine.replay(BrokerRegistered(node=other[0], epoch=other[1], rack=None, endpoints=()))
    machine.replay(TopicCreated(WIDE, "wide", is_internal=False, replication_factor=1))
    added = tuple(
        NewPartition(n, StreamId(image.next_stream + n), NODE, StreamEpoch(1), (NODE,)) for n in range(PARTITIONS)
    )
    machine.replay(PartitionsCreated(WIDE, added))
    machine.replay(PartitionsMoving(NODE, EPOCH, *other, MoveCause.BALANCER, parts))
    machine.replay(StreamsQuarantined(streams=tuple(streams), key="k", reason="r", at_ms=1))
    return machine.image


def wide_records(image: MetadataImage) -> dict[str, MetadataRecord]:
    """Each names all partitions, or all objects."""
    topic = max(image.topics(), key=lambda topic: len(topic.partitions))
    streams = tuple(sorted(image.moves))
    moves = [image.moves[stream] for stream in streams]
    released = tuple(
        ReleasedStream(move.stream, move.move, image.streams[move.stream].end, *move.target, StreamEpoch(99))
        for move in moves
    )
    replicas = tuple(PartitionReplicas(part.index, (NodeId(NODE + 1),)) for part in topic.partitions)
    return {
        "MovesCancelled": MovesCancelled(streams, "r"),
        "ReplicasAssigned": ReplicasAssigned(topic.topic_id, replicas),
        "StreamsReleased": StreamsReleased(NODE, EPOCH, released),
        "BrokerFenced": BrokerFenced(NODE, EPOCH, *moves[0].target),
        "StreamsOpened": StreamsOpened(
            NODE, EPOCH, tuple(StreamOpening(stream, StreamEpoch(99)) for stream in streams)
        ),
        "StreamsDeleted": StreamsDeleted(streams),
        "QuarantineLifted": QuarantineLifted(streams=streams, key="k"),
        "StreamsQuarantined": StreamsQuarantined(streams=streams, key="l", reason="r", at_ms=1),
    }


async def test_records_that_name_every_partition_make_no_long_turn() -> None:
    image = moving()
    for name, record in wide_records(image).items():

        async def prepare(record: MetadataRecord = record) -> Work:
            machine = MetadataMachine(image)
            return lambda: in_turns(machine.turns(record))

        longest = await measure(prepare)
        assert longest.turn_ms <= LIMIT_MS, name
        assert longest.turns >= 10, name


def test_what_is_applied_in_turns_is_what_was_recorded() -> None:
    image = moving(1_200)
    after = {name: replay(image, record) for name, record in wide_records(image).items()}
    parts = {
        name: [part for topic in found.topics() for part in topic.partitions if topic.topic_id != WIDE]
        for name, found in after.items()
    }
    assert not after["MovesCancelled"].moves
    assigned = after["ReplicasAssigned"].topic_by_id(WIDE)
    assert assigned is not None
    assert {part.replicas for part in assigned.partitions} == {(NODE + 1,)}
    assert len(after["ReplicasAssigned"].moves) == 1_200
    assert {(part.leader, part.leader_epoch) for part in parts["StreamsReleased"]} == {(NODE + 1, 99)}
    assert {part.replicas for part in parts["StreamsReleased"]} == {(NODE + 1, NODE)}
    assert not after["StreamsReleased"].moves
    # The source is fenced: what was wished for the replicas stays.
    assert not after["BrokerFenced"].moves
    assert {part.replicas for part in parts["BrokerFenced"]} == {(NODE + 1, NODE)}
    assert len(after["StreamsDeleted"].streams) == PARTITIONS
    assert not after["StreamsDeleted"].quarantines
    assert not after["StreamsDeleted"].moves
    assert not after["QuarantineLifted"].quarantines
    assert {len(causes) for causes in after["StreamsQuarantined"].quarantines.values()} == {2}
