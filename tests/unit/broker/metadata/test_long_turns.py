"""No turn of the event loop is long, however much one record changes: commits, swaps, snapshots and starts."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from automq.controller.compaction_check import CompactedOutput, CompactedRange, CompactionRequest, judge_compaction
from automq.ids import ControllerEpoch, ObjectId, Offset, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.log_format import LogPosition, encode_slot, slot_key, snapshot_key
from automq.metadata.records import encode_record
from automq.metadata.replay import MetadataMachine
from automq.metadata.snapshot_format import encode_snapshot
from automq.metadata.snapshot_records import to_records
from automq.metadata.snapshots import Snapshots
from automq.runtime.entropy import SeededEntropy
from automq.runtime.turns import in_turns
from automq.s3stream.store.memory import MemoryStore
from automq.steps import Steps, at_once
from tests.support.growth import EPOCH, NODE, Growth, new_cluster
from tests.support.metadata_worlds import CLUSTER, FlakyStore, World
from tests.support.turns import check_turns

PARTITIONS = 10_000
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
