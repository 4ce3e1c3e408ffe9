"""What is compacted next: bounded objects and ranges, few rewrites, nothing touched without need."""

import dataclasses
import random
from collections.abc import Collection

import pytest

from automq.controller.commit_check import judge
from automq.controller.compaction_check import CompactionResult
from automq.controller.compaction_job import PIECES_A_TURN, job_of
from automq.controller.compaction_plan import SPANS_A_TURN, CompactionPlan, CompactionSettings, plan
from automq.ids import ObjectId, Offset, StreamEpoch, StreamId
from automq.s3stream.model import KEPT, CommitObject, CommitRange, CommitRequest, RetentionClass
from automq.steps import at_once
from tests.support.compaction_world import EPOCH, NODE, SMALL, CompactionWorld
from tests.support.metadata_worlds import CLUSTER, check

SHORT, LONG = RetentionClass(1), RetentionClass(5)


def test_nothing_is_planned_for_a_few_small_objects() -> None:
    world = CompactionWorld()
    world.upload({1: 5})
    world.upload({1: 5})

    assert world.plan() is None


def test_objects_that_are_there_for_a_checkpoint_alone_are_let_alone() -> None:
    world = CompactionWorld()
    for stream in (1, 2, 3):
        world.trim(stream, 5)
        (object_id,) = world.prepare(1)
        item = CommitRange(
            stream=StreamId(stream),
            epoch=StreamEpoch(0),
            start=Offset(0),
            end=Offset(5),
            size=50,
            max_timestamp_ms=0,
            checkpoint=1,
        )
        objects = [CommitObject(object_id=object_id, size=250, ranges=[item])]
        request = CommitRequest(objects=objects, node=NODE, epoch=EPOCH, trim_to=0)
        world.apply(judge(world.image, request).records)
        assert world.image.committed[object_id].references == 1
        assert list(world.image.ranges_of(object_id)) == []

    assert world.plan() is None


def test_sources_that_keep_checkpoints_do_not_hold_up_the_next_generation() -> None:
    world = CompactionWorld()
    for _ in range(9):
        world.upload({1: 5}, checkpoints=[1])

    generations = []
    while (planned := world.plan()) is not None:
        generations.append(planned.generation)
        world.commit(world.request(planned))

    assert generations == [1, 1, 1, 2]


def test_the_oldest_of_a_generation_are_merged() -> None:
    world = CompactionWorld()
    for _ in range(5):
        world.upload({1: 5, 2: 1})

    planned = world.plan()

    assert planned is not None
    assert planned.sources == (1, 2, 3)
    assert planned.generation == 1
    assert [[item.stream for item in output.ranges] for output in planned.outputs] == [[1, 2]]


def test_generations_are_not_mixed() -> None:
    world = CompactionWorld()
    for _ in range(5):
        world.upload({1: 5})
    world.compact()

    assert world.plan() is None
    world.upload({1: 5})
    planned = world.plan()

    assert planned is not None
    assert planned.sources == (4, 5, 7)


def test_objects_that_live_for_checkpoints_alone_hold_nothing_up() -> None:
    """They are the oldest of their generation, and as many as it takes: chosen, they would be chosen for ever."""
    world = CompactionWorld()
    for stream in (1, 2, 3):
        world.upload({stream: 5}, checkpoints=(stream,))
    world.compact()
    assert [found.references for object_id, found in sorted(world.image.committed.items())] == [1, 1, 1, 3]
    for _ in range(3):
        world.upload({1: 5})

    planned = world.plan()

    assert planned is not None
    assert planned.sources == (5, 6, 7)


def test_checkpoints_are_no_reason_to_keep_what_streams_have_left() -> None:
    world = CompactionWorld()
    world.upload({1: 10, 2: 10, 3: 10, 4: 10}, checkpoints=(1, 2, 3, 4))
    for stream in (1, 2, 3):
        world.trim(stream, 10)

    planned = world.plan()

    assert planned is not None
    assert (planned.sources, planned.reason) == ((1,), "most of it is trimmed or deleted")


def test_outputs_do_not_mix_retention_classes_even_when_sources_did() -> None:
    world = CompactionWorld()
    for _ in range(3):
        world.upload({1: 5, 2: 5, 3: 5})
    world.classes = {StreamId(1): LONG, StreamId(2): SHORT, StreamId(3): LONG}

    planned = world.plan()

    assert planned is not None
    assert [[item.stream for item in output.ranges] for output in planned.outputs] == [[2], [1, 3]]


def test_objects_of_two_classes_are_not_sources_of_one_job() -> None:
    world = CompactionWorld(classes={StreamId(1): LONG, StreamId(2): SHORT})
    for _ in range(3):
        world.upload({1: 5})
        world.upload({2: 5})

    planned = world.plan()

    assert planned is not None
    assert planned.sources == (1, 3, 5)


def test_large_stream_has_objects_of_its_own() -> None:
    world = CompactionWorld(settings=dataclasses.replace(SMALL, sources=5))
    for _ in range(5):
        world.upload({1: 1, 2: 25, 3: 1})

    planned = world.plan()

    assert planned is not None
    assert sorted([item.stream for item in output.ranges] for output in planned.outputs) == [[1, 3], [2], [2]]
    world.compact()
    check(world.image)
    assert world.held(2) == list(range(125))


def test_large_object_of_short_ranges_is_merged_though_it_is_large() -> None:
    world = CompactionWorld(streams=200)
    for _ in range(3):
        world.upload(dict.fromkeys(range(1, 201), 1))
    assert world.image.committed[ObjectId(1)].size > SMALL.object_bytes

    planned = world.plan()

    assert planned is not None
    assert planned.sources == (1, 2, 3)


def test_large_object_of_long_ranges_is_left_alone() -> None:
    world = CompactionWorld()
    for _ in range(4):
        world.upload({1: 60, 2: 60})

    assert world.plan() is None


def test_object_that_streams_have_left_is_rewritten_by_itself() -> None:
    world = CompactionWorld()
    world.upload({1: 50, 2: 50, 3: 10})
    world.delete(1)
    world.delete(2)

    planned = world.plan()

    assert planned is not None
    assert (planned.sources, planned.generation) == ((1,), 0)
    assert [[item.stream for item in output.ranges] for output in planned.outputs] == [[3]]


def test_excluded_objects_are_left_alone() -> None:
    world = CompactionWorld()
    for _ in range(4):
        world.upload({1: 5})

    planned = world.plan(excluded={ObjectId(2)})

    assert planned is not None
    assert planned.sources == (1, 3, 4)
    # Of stream 1 the object between them holds something: what lies on both sides becomes two ranges.
    assert [[(item.spans[0].start, item.spans[-1].end) for item in output.ranges] for output in planned.outputs] == [
        [(0, 5)],
        [(10, 20)],
    ]
    assert world.commit(world.request(planned)).destroyed == [1, 3, 4]
    check(world.image)


def jobs_until_none(world: CompactionWorld, *, excluded: Collection[ObjectId] = ()) -> list[CompactionPlan]:
    """An idle cluster's compaction, which has to end."""
    done: list[CompactionPlan] = []
    while (planned := world.plan(excluded=excluded)) is not None:
        done.append(planned)
        assert len(done) <= 200, "it never ends"
        world.commit(world.request(planned))
    check(world.image)
    return done


def test_objects_with_holes_between_them_are_not_rewritten_for_ever() -> None:
    """Simulation seed 668: two sources made two outputs, whose turn it was next, twelve objects a second."""
    world = CompactionWorld(settings=dataclasses.replace(SMALL, sources=2))
    for _ in range(3):
        world.upload({1: 5})

    done = jobs_until_none(world, excluded={ObjectId(2)})

    assert [planned.sources for planned in done] == [(1, 3)]
    assert world.held(1) == list(range(15))


def test_objects_that_gain_nothing_do_not_hold_up_those_behind_them() -> None:
    world = CompactionWorld(settings=dataclasses.replace(SMALL, sources=2))
    for _ in range(3):
        world.upload({1: 5})
    jobs_until_none(world, excluded={ObjectId(2)})
    for _ in range(4):
        world.upload({1: 5})

    done = jobs_until_none(world, excluded={ObjectId(2)})

    assert [planned.generation for planned in done] == [1, 1, 2]
    assert len(world.image.spans_of(StreamId(1))) == 4


def test_a_stream_with_a_hole_does_not_keep_others_from_being_merged() -> None:
    """As many outputs as sources, and fewer ranges."""
    world = CompactionWorld(settings=dataclasses.replace(SMALL, sources=2))
    for records in ({1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}, {1: 1}, {1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}):
        world.upload(records)

    done = jobs_until_none(world, excluded={ObjectId(3)})

    assert [(planned.generation, len(planned.outputs)) for planned in done] == [(1, 1), (1, 1), (2, 2)]
    assert [len(world.image.spans_of(StreamId(stream))) for stream in (1, 2, 3)] == [3, 1, 1]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_was_uploaded_compaction_ends(seed: int) -> None:
    drawn = random.Random(seed)
    world = CompactionWorld(settings=dataclasses.replace(SMALL, sources=drawn.choice((2, 3))))
    for _ in range(12):
        uploads = [
            world.upload({stream: drawn.randint(1, 9) for stream in drawn.sample((1, 2, 3, 4), drawn.randint(1, 4))})
            for _ in range(drawn.randint(1, 6))
        ]
        stream = drawn.choice((1, 2, 3, 4))
        if drawn.random() < 0.5:
            state = world.image.streams[StreamId(stream)]
            world.trim(stream, drawn.randint(state.start, max(state.start, state.end)))
            world.sweep()
        excluded = frozenset(object_id for object_id in uploads if drawn.random() < 0.3)
        jobs_until_none(world, excluded=excluded)


def test_job_is_not_larger_than_it_may_be() -> None:
    world = CompactionWorld(streams=20, settings=dataclasses.replace(SMALL, sources=16, job_bytes=1500))
    for _ in range(8):
        world.upload(dict.fromkeys(range(1, 21), 1))

    planned = world.plan()

    assert planned is not None
    assert planned.source_bytes <= 1500
    assert len(planned.sources) == 3


def test_more_ranges_than_one_change_carries_are_several_jobs() -> None:
    """Else the check would refuse the same job for ever."""
    world = CompactionWorld(streams=10, settings=dataclasses.replace(SMALL, ranges_max=4))
    for _ in range(3):
        world.upload(dict.fromkeys(range(1, 11), 1))
    results: list[CompactionResult] = []
    while (result := world.compact()) is not None:
        results.append(result)

    assert [result.replaced_ranges for result in results][:2] == [4, 4]
    assert {1, 2, 3} <= {gone for result in results for gone in result.destroyed}
    check(world.image)
    assert all(world.held(stream) == [0, 1, 2] for stream in range(1, 11))


def test_many_objects_are_looked_at_in_turns() -> None:
    world = CompactionWorld()
    for _ in range(3000):
        world.upload({1: 1})

    turns = list(plan(world.image, class_of=world.class_of, settings=CompactionSettings(sources=10_000)))

    assert len(turns) >= 5


def test_wide_job_is_planned_and_written_down_in_turns() -> None:
    world = CompactionWorld(streams=5000, settings=dataclasses.replace(SMALL, job_bytes=1_000_000))
    for _ in range(3):
        world.upload(dict.fromkeys(range(1, 5001), 1))
    steps = plan(world.image, class_of=world.class_of, settings=world.settings)

    turns = list(steps)
    planned = world.plan()
    assert planned is not None
    ids = world.prepare(len(planned.outputs))
    job = job_of(planned, ids, image=world.image, cluster_id=CLUSTER, bytes_per_second=0)

    assert len(turns) >= 3 * 5000 // SPANS_A_TURN
    # A stream's three pieces stay together.
    assert len(list(job)) == 3 * 5000 // (PIECES_A_TURN + 1)


def test_a_year_of_uploads_is_bounded() -> None:
    """10,000 uploads, kept for ever: objects grow with the logarithm, and each byte is rewritten a few times."""
    world = CompactionWorld(settings=CompactionSettings(sources=10, object_bytes=1_000_000, range_bytes=0))
    written = uploaded = 0
    drawn = random.Random(7)
    for _ in range(10_000):
        object_id = world.upload({stream: drawn.randint(1, 3) for stream in (1, 2, 3)})
        uploaded += world.image.committed[object_id].size
        while (planned := world.plan()) is not None:
            request = world.request(planned)
            written += sum(output.size for output in request.outputs)
            world.commit(request)

    check(world.image)
    assert len(world.image.committed) <= 4 * 10
    assert all(len(world.image.spans_of(StreamId(stream))) <= 4 * 10 for stream in (1, 2, 3))
    assert written <= 4 * uploaded


def test_retention_of_ten_uploads_and_more_wastes_little() -> None:
    """Bytes stored at most half more than can be read, on the average, and each byte written at most 2.5 times."""
    settings = CompactionSettings(sources=16, object_bytes=1_000_000, range_bytes=0)
    for kept in (10, 30, 100, 400):
        world = CompactionWorld(settings=settings, classes={StreamId(1): KEPT})
        stored = readable = uploaded = written = 0
        for number in range(1, 6 * kept):
            object_id = world.upload({1: 20})
            uploaded += world.image.committed[object_id].size
            if number > kept:
                world.trim(1, (number - kept) * 20)
            world.sweep()
            while (planned := world.plan()) is not None:
                request = world.request(planned)
                written += sum(output.size for output in request.outputs)
                world.commit(request)
            if number > 2 * kept:
                stored += sum(item.size for item in world.image.committed.values())
                readable += kept * 400
        check(world.image)
        assert stored <= 1.5 * readable, kept
        assert written + uploaded <= 2.5 * uploaded, kept


def test_plan_of_an_empty_cluster_is_none() -> None:
    assert at_once(plan(CompactionWorld().image, class_of=lambda _: KEPT, settings=SMALL)) is None
