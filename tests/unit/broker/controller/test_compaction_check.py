"""The compaction check, clause by clause, and whatever happens between a plan and its commit."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.controller.compaction_check import RANGES_MAX, CompactionRefused, CompactionRequest, judge_compaction
from automq.ids import BrokerEpoch, ObjectId, StreamId
from automq.metadata.image import EMPTY
from automq.metadata.records import BrokerFenced as BrokerFencedRecord
from automq.metadata.records import BrokerRegistered, ObjectsDestroyed
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_records import to_records
from automq.s3stream.model import BrokerFenced, CommitTooLarge, ObjectRefused
from automq.s3stream.objects.format import HEADER_BYTES
from tests.support.compaction_world import EPOCH, NODE, CompactionWorld
from tests.support.metadata_worlds import check


def three_uploads() -> tuple[CompactionWorld, CompactionRequest]:
    """Streams 1 and 2 in each of three objects, and the job that makes one of them."""
    world = CompactionWorld()
    for _ in range(3):
        world.upload({1: 5, 2: 3})
    planned = world.plan()
    assert planned is not None
    return world, world.request(planned)


def test_swap_replaces_every_named_span_and_destroys_the_sources_at_once() -> None:
    world, request = three_uploads()

    result = world.commit(request)

    check(world.image)
    assert (result.replaced_ranges, result.destroyed) == (2, [1, 2, 3])
    assert [(span.object_id, span.start, span.end, span.size) for span in world.image.spans_of(StreamId(1))] == [
        (4, 0, 15, 150)
    ]
    assert [(span.object_id, span.start, span.end, span.size) for span in world.image.spans_of(StreamId(2))] == [
        (4, 0, 9, 90)
    ]
    assert sorted(world.image.destroyed) == [1, 2, 3]
    assert world.image.committed[ObjectId(4)].generation == 1


def test_repeated_request_gets_an_answer_and_changes_nothing() -> None:
    world, request = three_uploads()
    world.commit(request)
    before = world.image

    world.commit(request)

    assert world.image == before


def test_broker_that_is_fenced_replaces_nothing() -> None:
    world, request = three_uploads()
    world.apply([
        BrokerRegistered(node=NODE, epoch=BrokerEpoch(2), rack=None, endpoints=()),
        BrokerFencedRecord(node=NODE, epoch=EPOCH, recoverer_node=NODE, recoverer_epoch=BrokerEpoch(2)),
    ])  # fmt: skip

    with pytest.raises(BrokerFenced):
        world.commit(request)


def test_output_that_expired_is_refused() -> None:
    world, request = three_uploads()
    world.apply([ObjectsDestroyed(objects=(request.outputs[0].object_id,), at_ms=1)])

    with pytest.raises(ObjectRefused):
        world.commit(request)


def test_too_many_ranges_for_one_change_are_refused() -> None:
    world, request = three_uploads()
    output = request.outputs[0]
    wide = dataclasses.replace(output, ranges=[output.ranges[0]] * (RANGES_MAX + 1))

    with pytest.raises(CommitTooLarge):
        world.commit(dataclasses.replace(request, outputs=[wide]))


def test_span_that_another_job_replaced_makes_the_whole_job_worthless() -> None:
    world, request = three_uploads()
    again = dataclasses.replace(
        request, outputs=[dataclasses.replace(request.outputs[0], object_id=world.prepare(1)[0])]
    )
    world.commit(request)
    before = world.image

    with pytest.raises(CompactionRefused):
        world.commit(again)

    assert world.image == before


def test_span_that_is_not_named_between_two_that_are_is_never_covered() -> None:
    world, request = three_uploads()
    output = request.outputs[0]
    holed = [dataclasses.replace(item, spans=[item.spans[0], item.spans[2]]) for item in output.ranges]

    with pytest.raises(CompactionRefused):
        world.commit(dataclasses.replace(request, outputs=[dataclasses.replace(output, ranges=holed)]))


def test_what_was_trimmed_meanwhile_is_left_out() -> None:
    world, request = three_uploads()
    world.trim(1, 7)

    world.commit(request)

    check(world.image)
    # The span that holds offset 7 is whole, as before. What was trimmed lies before it in the output.
    assert [
        (span.object_id, span.start, span.end, span.position, span.size) for span in world.image.spans_of(StreamId(1))
    ] == [(4, 5, 15, HEADER_BYTES, 150)]


def test_stream_that_was_trimmed_away_or_deleted_meanwhile_is_left_out() -> None:
    world, request = three_uploads()
    world.trim(1, 15)
    world.delete(2)

    result = world.commit(request)

    check(world.image)
    assert result.replaced_ranges == 0
    assert world.held(1) == []
    # Nothing refers to the output: the sweep takes it.
    assert list(world.image.unreferenced) == [1, 2, 3, 4]


def test_source_that_still_has_a_checkpoint_stays() -> None:
    world = CompactionWorld()
    for checkpoints in ((), (1,), ()):
        world.upload({1: 5}, checkpoints=checkpoints)

    result = world.compact()

    assert result is not None
    check(world.image)
    assert result.destroyed == [1, 3]
    assert world.image.committed[ObjectId(2)].references == 1


def test_appends_after_the_plan_do_not_matter() -> None:
    world, request = three_uploads()
    world.upload({1: 4})

    world.commit(request)

    check(world.image)
    assert world.held(1) == list(range(19))


@pytest.mark.parametrize("streams", [10_000])
def test_wide_job_is_judged_in_turns(streams: int) -> None:
    world = CompactionWorld(streams=streams)
    for _ in range(3):
        world.upload(dict.fromkeys(range(1, streams + 1), 1))
    planned = world.plan()
    assert planned is not None

    request = world.request(planned)
    turns = list(judge_compaction(world.image, request, now_ms=0))

    assert len(turns) >= streams // 200


operations = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), st.dictionaries(st.integers(1, 4), st.integers(1, 6), min_size=1)),
        st.tuples(st.just("trim"), st.integers(1, 4), st.integers(0, 40)),
        st.tuples(st.just("delete"), st.integers(1, 4)),
        st.tuples(st.just("plan")),
        st.tuples(st.just("commit"), st.integers(0, 3)),
        st.tuples(st.just("sweep")),
    ),
    max_size=60,
)


@given(operations=operations)
def test_no_interleaving_loses_or_invents_an_offset(operations: list[tuple[object, ...]]) -> None:
    """Jobs planned long ago, twice, and on objects that are gone: each is right or refused."""
    world = CompactionWorld()
    jobs: list[CompactionRequest] = []
    for kind, *arguments in operations:
        held = {stream: world.held(stream) for stream in world.image.streams}
        match kind:
            case "upload":
                wanted = {
                    stream: count for stream, count in arguments[0].items() if StreamId(stream) in world.image.streams
                }  # type: ignore[attr-defined]
                if wanted:
                    world.upload(wanted)
            case "trim" if StreamId(arguments[0]) in world.image.streams:  # type: ignore[arg-type]
                world.trim(arguments[0], min(arguments[1], world.image.streams[StreamId(arguments[0])].end))  # type: ignore
            case "delete" if StreamId(arguments[0]) in world.image.streams:  # type: ignore[arg-type]
                world.delete(arguments[0])  # type: ignore[arg-type]
            case "plan":
                planned = world.plan()
                if planned is not None:
                    jobs.append(world.request(planned))
            case "commit" if jobs:
                try:
                    world.commit(jobs[arguments[0] % len(jobs)])  # type: ignore[operator]
                except (CompactionRefused, ObjectRefused):
                    pass
                assert {stream: world.held(stream) for stream in world.image.streams} == held
            case "sweep":
                world.sweep()
        check(world.image)
    assert replay_all(EMPTY, to_records(world.image)) == dataclasses.replace(
        world.image, record_number=replay_all(EMPTY, to_records(world.image)).record_number
    )
