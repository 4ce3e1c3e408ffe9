"""Directed schedules about the commit check: who may commit what, and what the log may forget afterwards."""

import asyncio

from automq.controller import format_levels
from automq.controller.model import TopicSpec
from automq.ids import NodeId, Offset, StreamEpoch
from automq.metadata.records import RECORD_LEVELS, ObjectsPrepared, PartitionLeaderChanged
from automq.protocol.errors import ApiError
from automq.replicated.machine import Decision
from automq.s3stream.model import StreamTrim
from tests.sim.commit_world import BrokerFenced, CommitWorld, ObjectRefused, RangeVerdict

ACCEPTED, REFUSED = RangeVerdict.ACCEPTED, RangeVerdict.REFUSED
CLIPPED, DROPPED = RangeVerdict.CLIPPED, RangeVerdict.DROPPED


async def stranger_commits(world: CommitWorld) -> None:
    """A broker that does not own a stream commits to it before the owner does."""
    owner, stranger = await world.broker(1), await world.broker(2)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    await world.expect(REFUSED, await stranger.commit((stream, 0, 0, 5)), "a stranger's range")
    await world.expect(ACCEPTED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the owner's range")


async def former_opening_commits(world: CommitWorld) -> None:
    """The owner's upload of what it wrote before it opened the stream anew arrives after that."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    await world.controller.open_streams(*owner.name)
    owner.hold((stream, 0, 5))
    await world.expect(REFUSED, await owner.commit((stream, 0, 0, 3)), "a range of a former opening")
    await world.expect(ACCEPTED, await owner.commit((stream, 1, 0, 5), trim_to=1), "the range of the current opening")


async def hole(world: CommitWorld) -> None:
    """A commit arrives before the one whose offsets come first."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5), (stream, 5, 10))
    await world.expect(REFUSED, await owner.commit((stream, 0, 5, 10), trim_to=2), "a range after a hole")
    await world.expect(ACCEPTED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the range that was missing")


async def the_same_offsets_twice(world: CommitWorld) -> None:
    """The same range comes in two objects: its owner has forgotten that the first was committed."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    await owner.commit((stream, 0, 0, 5), trim_to=1)
    await world.expect(REFUSED, await owner.commit((stream, 0, 0, 5), trim_to=1), "offsets that are committed")


async def refused_range_of_an_own_stream(world: CommitWorld) -> None:
    """A refused range is still the owner's: the log is all that is left of it. Then the owner dies."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5), (stream, 5, 10))
    await owner.commit((stream, 0, 5, 10), trim_to=2)
    successor = await world.broker(1)
    await successor.recover(owner, 0)


async def written_before_it_is_raised(world: CommitWorld) -> None:
    """The next release writes a kind of record that this one does not know, while this one may still take over."""
    RECORD_LEVELS[ObjectsPrepared] = format_levels.FORMAT_LEVEL + 1
    owner = await world.broker(1)
    await world.must_refuse(owner.prepare(), ApiError, what="a record that the other release cannot read")
    format_levels.FORMAT_LEVEL += 1
    newer = await world.controller.register_broker(
        owner.node, rack=None, endpoints=(), format_level=format_levels.FORMAT_LEVEL
    )
    older = await world.controller.register_broker(
        NodeId(2), rack=None, endpoints=(), format_level=format_levels.FORMAT_LEVEL - 1
    )
    await world.must_refuse(
        world.controller.raise_format_level(format_levels.FORMAT_LEVEL),
        ApiError,
        what="a level that a live broker cannot read",
    )
    await world.controller.fence_broker(older.node, older.epoch, recoverer=(newer.node, newer.epoch))
    await world.controller.raise_format_level(format_levels.FORMAT_LEVEL)
    await world.controller.prepare_objects(newer.node, newer.epoch, 1)


async def moved_away(world: CommitWorld) -> None:
    """A stream gets another owner while its tail is in the old one's log: that tail must not keep the log for ever."""
    owner, other = await world.broker(1), await world.broker(2)
    stream = await world.stream(owner)
    topic = world.controller_image.topic("orders")
    assert topic is not None
    moved = PartitionLeaderChanged(topic_id=topic.topic_id, index=0, leader=other.node, leader_epoch=StreamEpoch(1))
    # Reassignment will do it; until then the record is all there is.
    await world.controller._call(lambda image: Decision((moved,), None))
    await world.expect(REFUSED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the old owner's range")
    trimmed_to = world.controller_image.wals[owner.name].trim_to
    if trimmed_to != 1:
        world.violation(f"a stream that moved keeps the log from slot {trimmed_to} on for ever")


async def deleted_stream(world: CommitWorld) -> None:
    """The topic was deleted while its tail was on its way: what belongs to nobody must not keep the log for ever."""
    owner = await world.broker(1)
    stream, other = await world.stream(owner, "doomed"), await world.stream(owner, "kept")
    owner.hold((stream, 0, 5), (other, 0, 5))
    await world.controller.delete_topics(["doomed"])
    await world.expect(DROPPED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the range of a deleted stream")
    trimmed_to = world.controller_image.wals[owner.name].trim_to
    if trimmed_to != 1:
        world.violation(f"a deleted stream keeps the log from slot {trimmed_to} on for ever")
    await world.controller.create_topics([TopicSpec(name="doomed", partitions=1)])
    await world.expect(ACCEPTED, await owner.commit((other, 0, 0, 5), trim_to=2), "the other stream's range")


async def trimmed_in_the_middle(world: CommitWorld) -> None:
    """Records are deleted on request before they are uploaded; the upload begins below the trim point."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 10))
    await world.controller.trim_streams(*owner.name, [StreamTrim(stream, StreamEpoch(0), Offset(4))])
    await world.expect(CLIPPED, await owner.commit((stream, 0, 0, 10), trim_to=1), "a range over the trim point")
    await world.expect(ACCEPTED, await owner.commit((stream, 0, 10, 12)), "the next range")


async def wholly_trimmed(world: CommitWorld) -> None:
    """All of a range is deleted before it is uploaded: its offsets are given all the same."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 10))
    await world.controller.trim_streams(*owner.name, [StreamTrim(stream, StreamEpoch(0), Offset(10))])
    await world.expect(CLIPPED, await owner.commit((stream, 0, 0, 10), trim_to=1), "a range below the trim point")
    found = world.controller_image.stream(stream)
    assert found is not None
    if found.end != 10:
        world.violation(f"the stream ends at {found.end}; offsets up to 10 were given")
    await world.expect(ACCEPTED, await owner.commit((stream, 0, 10, 12)), "the next range")


async def lost_reply_of_a_commit(world: CommitWorld) -> None:
    """The reply to a commit is lost; the owner asks again with the same object."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    object_id = await owner.prepare()
    for attempt in ("first", "second"):
        try:
            result = await owner.commit((stream, 0, 0, 5), trim_to=1, object_id=object_id)
        except ObjectRefused:
            # What an uploader does then: again, under a new id.
            result = await owner.commit((stream, 0, 0, 5), trim_to=1)
        await world.expect(ACCEPTED, result, f"the {attempt} try")


async def expired_object(world: CommitWorld) -> None:
    """The upload took so long that its object was given up, and its bytes deleted, before the commit."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    object_id = await owner.prepare()
    await asyncio.sleep(15)
    await world.must_refuse(
        owner.commit((stream, 0, 0, 5), trim_to=1, object_id=object_id), ObjectRefused, what="an object that expired"
    )
    await world.expect(ACCEPTED, await owner.commit((stream, 0, 0, 5), trim_to=1), "the second upload")


async def commit_after_the_fence(world: CommitWorld) -> None:
    """The owner is fenced; its upload commits and trims, while its recoverer has read where the log begins."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5), (stream, 5, 10), (stream, 10, 15))
    object_id = await owner.prepare()
    successor = await world.broker(1)
    try:
        await owner.commit((stream, 0, 0, 5), trim_to=1, object_id=object_id)
    except BrokerFenced:
        pass
    await successor.recover(owner, 0)


async def superseded_recoverer(world: CommitWorld) -> None:
    """A recoverer is believed dead and replaced; it wakes up and commits, and deletes under its successor's hands."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5), (stream, 5, 10), (stream, 10, 15))
    first = await world.broker(1)
    object_id = await first.prepare()
    second = await world.broker(1)
    try:
        await first.commit((stream, 0, 0, 5), trim_to=1, object_id=object_id, recovering=owner)
    except BrokerFenced:
        pass
    await second.recover(owner, 0)


async def opened_before_recovery(world: CommitWorld) -> None:
    """A successor wants to open the streams before it has recovered the log."""
    owner = await world.broker(1)
    stream = await world.stream(owner)
    owner.hold((stream, 0, 5))
    successor = await world.broker(1)
    await world.must_refuse(
        world.controller.open_streams(*successor.name), ApiError, what="opening streams before their log is recovered"
    )
    await successor.recover(owner, 0)
    await world.controller.open_streams(*successor.name)
    await world.expect(ACCEPTED, await successor.commit((stream, 1, 5, 9)), "the successor's range")


SCHEDULES = {
    schedule.__name__: schedule
    for schedule in (
        stranger_commits,
        former_opening_commits,
        hole,
        the_same_offsets_twice,
        refused_range_of_an_own_stream,
        written_before_it_is_raised,
        moved_away,
        deleted_stream,
        trimmed_in_the_middle,
        wholly_trimmed,
        lost_reply_of_a_commit,
        expired_object,
        commit_after_the_fence,
        superseded_recoverer,
        opened_before_recovery,
    )
}
