"""What may be written yet: a cluster can be rolled to the next release, and back until somebody raises it."""

import pytest

from automq.controller import format_levels
from automq.controller.client import ControllerClient
from automq.controller.serving import LocalLink
from automq.ids import BrokerEpoch, NodeId, ObjectId, StreamId
from automq.metadata.image import EMPTY
from automq.metadata.records import (
    FORMAT_LEVEL,
    RECORD_LEVELS,
    RECORD_TYPES,
    BrokerFenced,
    BrokerRegistered,
    FormatLevelRaised,
    MetadataRecord,
    ObjectsPrepared,
    StreamsQuarantined,
    TopicDeleted,
    decode_records,
    encode_record,
    join_records,
)
from automq.metadata.replay import replay
from automq.metadata.snapshot_records import to_records
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from tests.support.metadata_worlds import NODE, World

PREPARED = ObjectsPrepared(first=ObjectId(1), count=1, node=NODE, epoch=BrokerEpoch(1), expires_ms=0)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> type[MetadataRecord]:
    """This program is the next release: one kind of record is of a level that older ones do not read."""
    monkeypatch.setattr(format_levels, "FORMAT_LEVEL", FORMAT_LEVEL + 1)
    monkeypatch.setitem(RECORD_LEVELS, ObjectsPrepared, FORMAT_LEVEL + 1)  # type: ignore[misc]
    return ObjectsPrepared


def image_of(*records: MetadataRecord):
    image = EMPTY
    for record in records:
        image = replay(image, record)
    return image


def a_broker(node: int, epoch: int, level: int) -> BrokerRegistered:
    return BrokerRegistered(NodeId(node), BrokerEpoch(epoch), None, (), level)


def test_every_kind_of_record_has_a_level_that_is_read() -> None:
    assert set(RECORD_LEVELS) == set(RECORD_TYPES)
    # Level 3 brought no kind of record: what those of level 2 say of objects is packed in another way.
    assert sorted(set(RECORD_LEVELS.values())) == [0, 1, 2, 4]
    assert max(RECORD_LEVELS.values()) == FORMAT_LEVEL == 4
    assert (RECORD_LEVELS[TopicDeleted], RECORD_LEVELS[StreamsQuarantined]) == (0, 1)


def test_a8_what_older_programs_cannot_read_is_not_written_before_the_cluster_is_raised(newer: object) -> None:
    with pytest.raises(ApiError, match=f"level {FORMAT_LEVEL + 1}, and the cluster is at {FORMAT_LEVEL}") as refused:
        format_levels.check_writable(FORMAT_LEVEL, [PREPARED])
    assert refused.value.code is ErrorCode.UNSUPPORTED_VERSION

    format_levels.check_writable(FORMAT_LEVEL + 1, [PREPARED])
    format_levels.check_writable(FORMAT_LEVEL, [FormatLevelRaised(FORMAT_LEVEL + 1), PREPARED])
    with pytest.raises(ApiError):
        format_levels.check_writable(FORMAT_LEVEL, [PREPARED, FormatLevelRaised(FORMAT_LEVEL + 1)])


def test_a8_a_claim_raises_a_new_cluster_to_all_and_an_old_one_to_what_cannot_be_done_without(newer: object) -> None:
    assert format_levels.level_at_claim(EMPTY) == FORMAT_LEVEL + 1
    rolled = image_of(FormatLevelRaised(FORMAT_LEVEL))
    assert format_levels.level_at_claim(rolled) == FORMAT_LEVEL
    assert format_levels.level_at_claim(image_of(FormatLevelRaised(1))) == format_levels.WRITTEN_LEVEL
    assert format_levels.level_at_claim(image_of(FormatLevelRaised(FORMAT_LEVEL + 1))) == FORMAT_LEVEL + 1


def test_a8_the_level_waits_for_every_live_broker(newer: object) -> None:
    level = FORMAT_LEVEL + 1
    image = image_of(FormatLevelRaised(FORMAT_LEVEL), a_broker(1, 1, level), a_broker(2, 2, FORMAT_LEVEL))
    with pytest.raises(ApiError, match="brokers 2 do not read") as refused:
        format_levels.raise_level(image, level)
    assert refused.value.code is ErrorCode.FEATURE_UPDATE_FAILED

    fenced = replay(image, BrokerFenced(NodeId(2), BrokerEpoch(2), NodeId(1), BrokerEpoch(1)))
    assert format_levels.raise_level(fenced, level).records == (FormatLevelRaised(level),)
    upgraded = replay(image, a_broker(2, 3, level))
    assert format_levels.raise_level(upgraded, level).records == (FormatLevelRaised(level),)


@pytest.mark.parametrize("level", [FORMAT_LEVEL - 1, FORMAT_LEVEL + 1, -1])
def test_levels_never_fall_and_none_is_raised_that_the_controller_does_not_know(level: int) -> None:
    image = image_of(FormatLevelRaised(FORMAT_LEVEL), a_broker(1, 1, 9))
    with pytest.raises(ApiError) as refused:
        format_levels.raise_level(image, level)
    assert refused.value.code is ErrorCode.INVALID_UPDATE_VERSION
    assert format_levels.raise_level(image, FORMAT_LEVEL) == Decision((), None)


def test_a_program_that_did_not_say_reads_the_level_of_its_time() -> None:
    older = b"\x91" + b"\x95\x01\x07\x09\xc0\x90"
    assert decode_records(older) == [BrokerRegistered(NodeId(7), BrokerEpoch(9), None, (), 2)]
    newer = join_records([encode_record(a_broker(7, 9, 5))])
    assert decode_records(b"".join(newer)) == [a_broker(7, 9, 5)]
    assert image_of(a_broker(7, 9, 5)).broker(NodeId(7)).format_level == 5
    assert a_broker(7, 9, 5) in list(to_records(image_of(a_broker(7, 9, 5))))


@pytest.mark.looptime
async def test_a8_the_controller_refuses_the_record_and_then_the_broker_that_cannot_read_it(newer: object) -> None:
    world = World()
    controller, published = world.controller("first")
    client = ControllerClient(LocalLink(controller), published)
    # As the release before has left it.
    before = format_levels.FORMAT_LEVEL
    format_levels.FORMAT_LEVEL = FORMAT_LEVEL
    await controller.start(owner=None)
    format_levels.FORMAT_LEVEL = before
    registration = await client.register_broker(NODE, rack=None, endpoints=(), format_level=FORMAT_LEVEL + 1)
    with pytest.raises(ApiError) as refused:
        await client.prepare_objects(NODE, registration.epoch, 1)
    assert refused.value.code is ErrorCode.UNSUPPORTED_VERSION

    await client.raise_format_level(FORMAT_LEVEL + 1)

    assert await client.prepare_objects(NODE, registration.epoch, 1) == [1]
    with pytest.raises(ApiError) as refused:
        await client.register_broker(NodeId(2), rack=None, endpoints=(), format_level=FORMAT_LEVEL)
    assert refused.value.code is ErrorCode.UNSUPPORTED_VERSION
    assert published.image.streams.get(StreamId(1)) is None
    await world.close()
