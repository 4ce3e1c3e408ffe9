"""What is recorded of damage and of its repair, and what follows from it for owners and commits."""

import dataclasses
import uuid

import pytest

from automq.controller import damage
from automq.controller.brokers import register_broker, wal_recovered
from automq.controller.commit_check import judge
from automq.controller.damage import Damage, Loss, Repair, SlotLoss
from automq.controller.streams import open_streams
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage, QuarantineCause, WalImage
from automq.metadata.records import (
    MetadataRecord,
    NewPartition,
    ObjectsPrepared,
    PartitionsCreated,
    RangeLost,
    StreamsDeleted,
    StreamsQuarantined,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
    WalDamaged,
    WalSlotsLost,
)
from automq.metadata.replay import replay_all
from automq.protocol.errors import ApiError
from automq.replicated.machine import Decision
from automq.s3stream.model import BrokerFenced, CommitObject, CommitRange, CommitRequest, RangeVerdict, Unplaced
from automq.steps import at_once
from tests.support.metadata_worlds import NODE, check

TOPIC, LATER = TopicId(uuid.UUID(int=1)), TopicId(uuid.UUID(int=2))
S1, S2, S3 = StreamId(1), StreamId(2), StreamId(3)
E1, E2, E3 = BrokerEpoch(1), BrokerEpoch(2), BrokerEpoch(3)
SLOT = Damage(key="c/wal/1/1/5", reason="corrupt WAL slot")


def applied(image: MetadataImage, decision: Decision[MetadataRecord, object]) -> MetadataImage:
    after = replay_all(image, decision.records)
    check(after)
    return after


def topic(topic_id: TopicId, *streams: StreamId) -> tuple[MetadataRecord, ...]:
    return (
        TopicCreated(topic_id=topic_id, name=str(topic_id), is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=topic_id,
            partitions=tuple(
                NewPartition(index=index, stream=stream, leader=NODE) for index, stream in enumerate(streams)
            ),
        ),
    )


def restarted(image: MetadataImage) -> MetadataImage:
    return applied(image, register_broker(image, NODE, rack=None, endpoints=()))


def a_commit(start: int, end: int, *, stream: StreamId = S1, epoch: int = 1, by: BrokerEpoch = E1) -> CommitRequest:
    return CommitRequest(
        objects=[
            CommitObject(
                object_id=ObjectId(1),
                size=9,
                ranges=[
                    CommitRange(
                        stream=stream,
                        epoch=StreamEpoch(epoch),
                        start=Offset(start),
                        end=Offset(end),
                        size=1,
                        max_timestamp_ms=1,
                    )
                ],
            )
        ],
        node=NODE,
        epoch=by,
        trim_to=6,
        recoverer=None if by == E3 else (NODE, E3),
    )


# E1 wrote streams 1 and 2 at stream epoch 1, and died.
RUNNING = replay_all(restarted(EMPTY), [*topic(TOPIC, S1, S2), ObjectsPrepared(ObjectId(1), 9, NODE, E1, 1)])
RUNNING = applied(RUNNING, open_streams(RUNNING, NODE, E1))
DEAD = restarted(RUNNING)


def unplaced(stream: StreamId) -> Unplaced:
    return Unplaced(
        stream=stream,
        epoch=StreamEpoch(1),
        start=Offset(7),
        end=Offset(9),
        expected=Offset(7),
        first_slot=4,
        end_slot=6,
    )


def pinned(image: MetadataImage, by: BrokerEpoch, *streams: StreamId) -> MetadataImage:
    return applied(
        image,
        at_once(
            damage.quarantine_wal(
                image, NODE, E1, recoverer=(NODE, by), damage=SLOT, unplaced=list(map(unplaced, streams)), now_ms=7
            )
        ),
    )


PINNED = pinned(DEAD, E2)
CAUSE = QuarantineCause(key=SLOT.key, reason=SLOT.reason, at_ms=7, wal=(NODE, E1))


def test_f8_a_damaged_log_is_pinned_and_all_streams_of_its_broker_are_quarantined() -> None:
    assert dict(PINNED.quarantines) == {S1: (CAUSE,), S2: (CAUSE,)}
    assert PINNED.wals[NODE, E1].damage == WalDamaged(NODE, E1, SLOT.key, SLOT.reason, 7)
    assert PINNED.wals[NODE, E1].trim_to == 0


def test_f8_where_the_damage_says_which_stream_only_that_one_is_quarantined() -> None:
    assert dict(pinned(DEAD, E2, S2).quarantines) == {S2: (CAUSE,)}


def test_f8_others_are_opened_beside_a_pinned_log_and_its_streams_keep_their_epoch() -> None:
    image = replay_all(PINNED, topic(LATER, S3))
    image = applied(image, open_streams(image, NODE, E2))
    assert {stream: image.streams[stream].epoch for stream in (S1, S2, S3)} == {S1: 1, S2: 1, S3: 1}
    assert not image.quarantine(S3)


def test_a_log_that_is_merely_not_recovered_yet_still_forbids_opening() -> None:
    with pytest.raises(ApiError, match="not recovered"):
        open_streams(DEAD, NODE, E2)


def test_f8_streams_made_later_are_not_drawn_in_when_the_log_is_tried_again() -> None:
    image = replay_all(PINNED, topic(LATER, S3))
    image = restarted(applied(image, open_streams(image, NODE, E2)))
    assert [wal.epoch for wal in _to_recover(image)] == [E1, E2]
    again = pinned(image, E3)
    assert set(again.quarantines) == {S1, S2}
    assert again.record_number == image.record_number, "what is known is not recorded again"


def _to_recover(image: MetadataImage) -> list[WalImage]:
    return [image.wals[key] for key in sorted(image.wals) if image.wals[key].recoverer is not None]


def test_f8_a_log_that_can_be_recovered_after_all_lifts_its_quarantine() -> None:
    image = restarted(PINNED)
    image = applied(image, judge(image, a_commit(0, 10)))
    image = applied(image, wal_recovered(image, NODE, E1, recoverer=(NODE, E3)))
    assert dict(image.quarantines) == {}
    image = applied(image, wal_recovered(image, NODE, E2, recoverer=(NODE, E3)))
    image = applied(image, open_streams(image, NODE, E3))
    assert (image.streams[S1].epoch, image.streams[S1].end) == (2, 10)


def test_only_the_recoverer_pins_a_log() -> None:
    for recoverer, epoch in [((NODE, E1), E1), ((NODE, E2), E2)]:
        with pytest.raises(BrokerFenced):
            at_once(damage.quarantine_wal(DEAD, NODE, epoch, recoverer=recoverer, damage=SLOT, now_ms=7))


def test_behind_a_quarantined_streams_end_only_its_own_log_commits() -> None:
    image = restarted(PINNED)
    foreign = judge(image, a_commit(0, 10, by=E2))
    own = judge(image, a_commit(0, 10, by=E1))
    assert [*foreign.response.verdicts, *own.response.verdicts] == [RangeVerdict.REFUSED, RangeVerdict.ACCEPTED]


def test_a_live_owners_quarantine_refuses_no_commit_of_what_was_appended_before() -> None:
    image = applied(
        RUNNING,
        damage.quarantine_streams(
            RUNNING, NODE, E1, streams=[S1, StreamId(99)], damage=Damage(key="k", reason="r"), now_ms=7
        ),
    )
    assert dict(image.quarantines) == {S1: (QuarantineCause(key="k", reason="r", at_ms=7),)}
    image = restarted(restarted(image))
    assert judge(image, a_commit(0, 10)).response.verdicts == [RangeVerdict.ACCEPTED]


def test_a_repair_moves_the_end_above_the_lost_range_and_lifts_the_cause() -> None:
    loss = Loss(stream=S1, start=Offset(0), end=Offset(2**40), damage=SLOT)
    wanted = Repair(
        losses=[loss],
        slots=[SlotLoss(node=NODE, epoch=E1, start=5, end=6), SlotLoss(node=NODE, epoch=E1, start=9, end=None)],
        lifted=[(SLOT.key, [S1, S2]), ("no such key", [S1])],
    )
    image = restarted(applied(PINNED, damage.repair(PINNED, wanted, by="ada", now_ms=8)))
    assert image.lost_ranges[S1] == (RangeLost(S1, Offset(0), Offset(2**40), SLOT.key, SLOT.reason, "ada", 8),)
    assert (image.streams[S1].end, image.streams[S2].end) == (2**40, 0)
    assert image.wals[NODE, E1].lost == (
        WalSlotsLost(NODE, E1, 5, 6, "ada", 8),
        WalSlotsLost(NODE, E1, 9, None, "ada", 8),
    )
    assert dict(image.quarantines) == {}
    state = image.stream_state(S1)
    assert state is not None
    assert (state.end, state.lost) == (2**40, ((0, 2**40),))


def test_a_repair_said_twice_is_recorded_once() -> None:
    wanted = Repair(
        losses=[Loss(stream=S1, start=Offset(0), end=Offset(5), damage=SLOT)] * 2,
        slots=[SlotLoss(node=NODE, epoch=E1, start=5, end=6)],
        lifted=[(SLOT.key, [S1])],
    )
    image = applied(PINNED, damage.repair(PINNED, wanted, by="ada", now_ms=8))
    assert image.record_number == PINNED.record_number + 3
    assert damage.repair(image, wanted, by="ada", now_ms=9).records == []


def test_no_offset_is_given_twice_after_a_loss() -> None:
    image = applied(
        DEAD,
        damage.lose_ranges(DEAD, [Loss(stream=S1, start=Offset(0), end=Offset(7), damage=SLOT)], by="ada", now_ms=8),
    )
    image = restarted(image)
    verdicts = [judge(image, a_commit(start, start + 3)).response.verdicts[0] for start in (0, 5, 7)]
    assert verdicts == [RangeVerdict.REFUSED, RangeVerdict.REFUSED, RangeVerdict.ACCEPTED]


@pytest.mark.parametrize(("start", "end"), [(3, 3), (5, 4), (11, 12), (2, 8)])
def test_a_loss_leaves_no_hole_and_covers_none_twice(start: int, end: int) -> None:
    image = replay_all(
        DEAD,
        [
            RangeLost(S1, Offset(0), Offset(4), "k", "r", "ada", 1),
            RangeLost(S1, Offset(6), Offset(10), "k", "r", "ada", 1),
        ],
    )
    loss = Loss(stream=S1, start=Offset(start), end=Offset(end), damage=SLOT)
    with pytest.raises(ApiError):
        damage.lose_ranges(image, [loss], by="ada", now_ms=8)


def test_losses_of_what_is_not_there_are_refused() -> None:
    nowhere = Loss(stream=StreamId(99), start=Offset(0), end=Offset(1), damage=SLOT)
    with pytest.raises(ApiError, match="deleted or never was"):
        damage.repair(PINNED, Repair(losses=[nowhere]), by="ada", now_ms=8)
    for slots in (
        SlotLoss(node=NODE, epoch=BrokerEpoch(77), start=0, end=1),
        SlotLoss(node=NODE, epoch=E1, start=3, end=3),
    ):
        with pytest.raises(ApiError, match="slots"):
            damage.repair(PINNED, Repair(slots=[slots]), by="ada", now_ms=8)


def test_trimming_and_deleting_forget_what_was_lost() -> None:
    ranges = [RangeLost(S1, Offset(a), Offset(a + 2), "k", "r", "ada", 1) for a in (0, 4)]
    image = replay_all(PINNED, ranges)
    image = replay_all(image, [StreamTrimmed(stream=S1, start=Offset(3))])
    check(image)
    assert image.lost_ranges[S1] == (ranges[1],)
    image = replay_all(image, [StreamTrimmed(stream=S1, start=Offset(6))])
    check(image)
    assert S1 not in image.lost_ranges
    image = replay_all(image, [StreamsDeleted(streams=(S1, S2)), TopicDeleted(topic_id=TOPIC)])
    check(image)
    assert dict(image.quarantines) == {}


def test_causes_of_different_keys_add_up_and_are_bounded() -> None:
    records = [StreamsQuarantined(streams=(S1,), key=f"k{number}", reason="r", at_ms=1) for number in range(40)]
    image = replay_all(RUNNING, [*records, *records])
    assert len(image.quarantine(S1)) == 16
    for number in range(40):
        image = applied(image, damage.lift_quarantine(image, [S1, S2], key=f"k{number}"))
    assert dict(image.quarantines) == {}


def test_a_node_that_is_not_ours_pins_nothing() -> None:
    assert damage.affected_streams(PINNED, WalImage(node=NodeId(9), epoch=E1)) == []


def test_b16_what_recovery_could_not_place_is_kept_and_its_streams_alone_are_quarantined() -> None:
    image = pinned(DEAD, E2, S2)
    image = applied(image, open_streams(image, NODE, E2))

    assert (image.streams[S1].epoch, image.streams[S2].epoch) == (2, 1)
    (left,) = image.pinned[NODE, E1]
    assert (left.stream, left.start, left.end, left.first_slot, left.end_slot) == (S2, 7, 9, 4, 6)
    again = pinned(restarted(image), E3, S2)
    assert again.record_number == restarted(image).record_number, "what is known is not recorded again"
    image = applied(again, wal_recovered(again, NODE, E1, recoverer=(NODE, E3)))
    assert (dict(image.pinned), dict(image.quarantines)) == ({}, {})


@pytest.mark.parametrize(("expected", "words"), [(7, "begin with a damaged batch"), (3, "do not begin at 3")])
def test_what_is_left_over_is_named_by_its_first_slot(expected: int, words: str) -> None:
    left = [dataclasses.replace(unplaced(stream), expected=Offset(expected)) for stream in (S2, S1)]
    found = damage.damage_of("c/wal/1/1/", left)
    assert found.key == "c/wal/1/1/00000000000000000004"
    assert words in found.reason
    assert "2 streams" in found.reason
