"""Random commands: every image holds its invariants and is rebuilt by its own records."""

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from automq.controller import brokers, damage, failover, moves, objects, streams, topics
from automq.controller.commit_check import judge
from automq.controller.configs import alter_configs
from automq.controller.model import (
    ConfigAlteration,
    ControllerSettings,
    MessageLimit,
    PartitionsSpec,
    Reassignment,
    TopicSpec,
)
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.metadata import object_ids
from automq.metadata import snapshot_records as module
from automq.metadata.checkpoint_refs import NO_CHECKPOINT, newest_ref, one_ref
from automq.metadata.image import EMPTY, MetadataImage, ObjectImage, StreamImage
from automq.metadata.records import (
    Endpoint,
    FeatureLevelSet,
    FormatLevelRaised,
    MetadataRecord,
    PrefixOwnerSet,
    WalDescriptor,
)
from automq.metadata.replay import replay, replay_all
from automq.metadata.snapshot_records import to_records
from automq.protocol.errors import ApiError
from automq.replicated.machine import Decision
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    RecoveredLog,
    StreamError,
    StreamRelease,
    StreamTrim,
    Unplaced,
)
from automq.steps import at_once
from tests.support.metadata_worlds import check
from tests.support.old_metadata import old_records

SETTINGS = ControllerSettings()
Command = Callable[[MetadataImage, int, int, int], Decision[MetadataRecord, object]]


def who(image: MetadataImage, number: int) -> tuple[NodeId, BrokerEpoch]:
    known = [(broker.node, broker.epoch) for broker in image.brokers()] or [(NodeId(1), BrokerEpoch(1))]
    return known[number % len(known)]


def register(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    drawn = bytes([b % 5])
    where = WalDescriptor(kind="block", volume=f"v{b % 2}", region=b) if b % 3 == 2 else WalDescriptor()
    return brokers.register_broker(
        image, NodeId(a % 3), rack=None, endpoints=(Endpoint("P", "h", b),), incarnation=drawn, wal=where
    )


def fence(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    return brokers.fence_broker(image, *who(image, a), recoverer=who(image, b))


def expire(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    dead = [who(image, a), who(image, b)] if b % 2 else [who(image, a)]
    return Decision(failover.fence_dead(image, sorted(set(dead)), failover.Around()), None)


def replace_recoverers(image: MetadataImage, _a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    return Decision(failover.replace_recoverers(image, failover.Around()), None)


def unregister(image: MetadataImage, a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    return brokers.unregister_broker(image, who(image, a)[0])


def recovered(image: MetadataImage, a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    wals = [image.wals[key] for key in sorted(image.wals) if image.wals[key].recoverer is not None]
    if not wals:
        return Decision((), None)
    wal = wals[a % len(wals)]
    assert wal.recoverer is not None
    done = RecoveredLog(fence=0)
    return at_once(damage.wal_recovered(image, wal.node, wal.epoch, recoverer=wal.recoverer, recovered=done, now_ms=0))


def create(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    spec = TopicSpec(name=f"t{a % 4}", partitions=b % 3 + 1, configs={"retention.ms": str(b)})
    made = lambda: uuid.UUID(int=image.next_stream * 1000 + a)  # noqa: E731
    return at_once(topics.create_topics(image, [spec], settings=SETTINGS, new_id=made, validate_only=False))


def delete(image: MetadataImage, a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    return at_once(topics.delete_topics(image, [f"t{a % 4}"]))


def grow(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    spec = PartitionsSpec(name=f"t{a % 4}", count=b % 4 + 1)
    return at_once(topics.create_partitions(image, [spec], settings=SETTINGS, validate_only=False))


def open_all(image: MetadataImage, a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    return streams.open_streams(image, *who(image, a))


def trim(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    known = sorted(image.streams)
    if not known:
        return Decision((), None)
    stream = image.streams[known[a % len(known)]]
    broker = image.broker(stream.owner)
    epoch = BrokerEpoch(0) if broker is None else broker.epoch
    wanted = StreamTrim(stream.stream, stream.epoch, Offset(stream.start + b % 30))
    return at_once(streams.trim_streams(image, stream.owner, epoch, [wanted]))


def configure(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    alterations = [
        ConfigAlteration(resource_type=2, resource_name=f"t{a % 4}", replacement={"retention.ms": str(b)} if b else {}),
        ConfigAlteration(
            resource_type=4, resource_name=str(a % 3), replacement={"automq.broker.draining": "false" if b else "true"}
        ),
    ]
    return at_once(alter_configs(image, alterations, message_limit=MessageLimit(2**20), validate_only=False))


def prepare(image: MetadataImage, a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    return objects.prepare_objects(image, *who(image, a), b % 3 + 1, now_ms=c, expiry_ms=50)


def commit(image: MetadataImage, a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    keys = sorted(image.wals)
    if not keys or not image.prepared:
        return Decision((), None)
    wal = image.wals[keys[a % len(keys)]]
    ranges = []
    for stream_id in sorted(image.streams):
        stream = image.streams[stream_id]
        if (stream_id + b) % 2:
            start = max(0, stream.next_offset - c % 3)
            ranges.append(
                CommitRange(
                    stream=stream_id,
                    epoch=stream.epoch,
                    start=Offset(start),
                    end=Offset(start + c % 20),
                    size=c,
                    max_timestamp_ms=c,
                    checkpoint=c % 4,
                )
            )
    request = CommitRequest(
        objects=[
            CommitObject(object_id=object_id, size=10, ranges=ranges[place::2])
            for place, object_id in enumerate(sorted(image.prepared)[: 1 + b % 2])
        ],
        node=wal.node,
        epoch=wal.epoch,
        trim_to=wal.trim_to + 1,
        recoverer=wal.recoverer,
        releasing=releases(image, wal.node) if b % 3 else (),
    )
    return judge(image, request)


def releases(image: MetadataImage, node: NodeId) -> tuple[StreamRelease, ...]:
    """Of everything that moves, whoever has it."""
    return tuple(
        StreamRelease(
            stream=stream,
            epoch=image.streams[stream].epoch,
            move=image.moves[stream].move,
            end=image.streams[stream].next_offset,
        )
        for stream in sorted(image.moves)
        if image.moves[stream].source[0] == node or stream % 2
    )


def release(image: MetadataImage, a: int, _b: int, _c: int) -> Decision[MetadataRecord, object]:
    """Without an object."""
    keys = sorted(image.wals)
    if not keys:
        return Decision((), None)
    wal = image.wals[keys[a % len(keys)]]
    request = CommitRequest(
        objects=[],
        node=wal.node,
        epoch=wal.epoch,
        trim_to=wal.trim_to,
        recoverer=wal.recoverer,
        releasing=releases(image, wal.node),
    )
    return judge(image, request)


def reassign(image: MetadataImage, a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    nodes = [NodeId((a + place) % 3) for place in range(1 + b % 3)]
    wanted = [Reassignment(topic=f"t{b % 4}", index=c % 3, replicas=nodes if a % 5 else None)]
    return at_once(moves.reassign(image, wanted))


def elect(image: MetadataImage, _a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    return at_once(moves.elect(image, [(f"t{b % 4}", c % 3)] if b % 2 else None))


def drain(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    return at_once(moves.drain(image)) if b % 2 else moves.stop_broker(image, *who(image, a))


def sweep(image: MetadataImage, _a: int, _b: int, c: int) -> Decision[MetadataRecord, object]:
    return objects.destroy_superfluous(image, now_ms=c)


def bury(image: MetadataImage, _a: int, _b: int, c: int) -> Decision[MetadataRecord, object]:
    return objects.objects_deleted(image, objects.deletable(image, now_ms=c, grace_ms=10))


def unplaced(stream: StreamId, slot: int) -> Unplaced:
    first, end = Offset(3), Offset(9)
    return Unplaced(
        stream=stream, epoch=StreamEpoch(1), start=first, end=end, expected=first, first_slot=slot, end_slot=slot + 1
    )


def damage_wal(image: MetadataImage, a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    wals = [image.wals[key] for key in sorted(image.wals) if image.wals[key].recoverer is not None]
    if not wals:
        return Decision((), None)
    wal = wals[a % len(wals)]
    assert wal.recoverer is not None
    some = [stream for stream in sorted(image.streams) if (stream + b) % 2]
    steps = damage.quarantine_wal(
        image,
        wal.node,
        wal.epoch,
        recoverer=wal.recoverer,
        damage=damage.Damage(key=f"k{b % 3}", reason="r"),
        unplaced=[unplaced(stream, b) for stream in some] if b % 2 else (),
        now_ms=c,
    )
    return at_once(steps)


def repair(image: MetadataImage, a: int, b: int, c: int) -> Decision[MetadataRecord, object]:
    found = damage.Damage(key=f"k{b % 3}", reason="r")
    some = [stream for stream in sorted(image.streams) if (stream + b) % 2]
    losses = [
        damage.Loss(stream=stream, start=Offset(start), end=Offset(start + c % 9 + 1), damage=found)
        for stream in some
        if (start := max(image.streams[stream].start, image.streams[stream].next_offset - a % 5)) >= 0
    ]
    slots = [
        damage.SlotLoss(node=node, epoch=epoch, start=image.wals[node, epoch].trim_to + a, end=a + c if b % 2 else None)
        for node, epoch in sorted(image.wals)[:1]
    ]
    return damage.repair(
        image,
        damage.Repair(losses=losses, slots=slots, lifted=[(f"k{b % 3}", some)]),
        by="ada",
        now_ms=c,
    )


def others(image: MetadataImage, a: int, b: int, _c: int) -> Decision[MetadataRecord, object]:
    if a % 3 == 0:
        return Decision((PrefixOwnerSet(owner=f"o{b}"), FeatureLevelSet(name=f"f{a % 2}", level=b)), None)
    return brokers.allocate_producer_ids(image, *who(image, a), b + 1)


COMMANDS: list[Command] = [
    register, fence, expire, replace_recoverers, unregister, recovered, create, create, delete, grow, open_all,
    trim, configure, prepare, prepare, commit, commit, commit, sweep, bury, others, damage_wal, damage_wal,
    repair, repair, reassign, reassign, reassign, elect, drain, drain, release, release,
]  # fmt: skip


def of_level_1(stream: StreamImage) -> StreamImage:
    """It knew the newest checkpoint only."""
    newest = newest_ref(stream.checkpoints)
    return structs.replace(stream, checkpoints=NO_CHECKPOINT if newest is None else one_ref(*newest))


def is_held_in_level_1(image: MetadataImage, found: ObjectImage) -> bool:
    """An object that only older pieces of checkpoints hold is held by nothing there."""
    newest = {ref[0] for stream in image.streams.values() if (ref := newest_ref(stream.checkpoints)) is not None}
    return found.references > found.checkpoints or found.object_id in newest


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(COMMANDS), *[st.integers(0, 60)] * 3), min_size=1, max_size=50))
def test_random_images_hold_their_invariants_and_are_rebuilt_by_their_records(
    steps: list[tuple[Command, int, int, int]],
) -> None:
    image = EMPTY
    steps = [(register, 1, 1, 0), (create, 0, 2, 0), (prepare, 0, 2, 0), *steps]
    for command, a, b, c in steps:
        try:
            decision = command(image, a, b, c)
        except (ApiError, BrokerFenced, StreamError):
            continue
        one_by_one = image
        for record in decision.records:
            one_by_one = replay(one_by_one, record)
        image = replay_all(image, decision.records)
        assert image == one_by_one
        check(image)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "CHUNKS_A_RECORD", 1)
        patched.setattr(object_ids, "CHUNK_IDS", 1)
        assert replay_all(EMPTY, to_records(image)).with_record_number(image.record_number) == image
    rebuilt = replay_all(EMPTY, to_records(image)).with_record_number(image.record_number)
    assert rebuilt == image
    assert list(to_records(rebuilt)) == list(to_records(image))

    older = replay_all(EMPTY, old_records(image)).with_record_number(image.record_number)
    check(older)
    assert dict(older.streams) == {number: of_level_1(stream) for number, stream in image.streams.items()}
    assert {stream: list(older.spans_of(stream)) for stream in image.streams} == {
        stream: list(image.spans_of(stream)) for stream in image.streams
    }
    assert [found.object_id for found in older.committed.values() if found.references] == [
        found.object_id for found in image.committed.values() if is_held_in_level_1(image, found)
    ]
    assert all(list(older.ranges_of(object_id)) == list(image.ranges_of(object_id)) for object_id in image.committed)


def test_the_format_level_comes_first() -> None:
    """Whoever cannot read what follows need not try."""
    image = replay_all(EMPTY, [PrefixOwnerSet(owner="uid"), FormatLevelRaised(level=1)])
    records = list(to_records(image))
    assert records[0] == FormatLevelRaised(level=1)
    assert replay_all(EMPTY, records).format_level == 1
