"""Incremental fetch sessions, against a client that keeps its own full picture."""

import itertools
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import Offset
from automq.partition import fetch_session
from automq.partition.fetch_session import EPOCH_MAX, IDLE_MS_MIN, FetchPlan, FetchSessions
from automq.protocol.errors import ErrorCode
from automq.protocol.fetch_codec import FetchResult
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic

VERSION = 12
TOPIC_ID = uuid.uuid5(uuid.NAMESPACE_URL, "orders")


def request(
    *offsets: tuple[int, int], session_id: int = 0, epoch: int = 0, forgotten: tuple[int, ...] = (), by_id: bool = False
) -> FetchRequest:
    """Partitions with their offsets."""
    named: dict[str, Any] = {"topic_id": TOPIC_ID} if by_id else {"topic": "orders"}
    return FetchRequest(
        session_id=session_id,
        session_epoch=epoch,
        topics=[
            FetchTopic(
                partitions=[
                    FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=100)
                    for index, offset in offsets
                ],
                **named,
            )
        ]
        if offsets
        else [],
        forgotten_topics_data=[ForgottenTopic(partitions=list(forgotten), **named)] if forgotten else [],
    )


class World:
    """Sessions with ids 1, 2, 3, ..."""

    def __init__(self, slots: int = 10) -> None:
        self.sessions = FetchSessions(slots)
        self.now_ms = 0
        self._ids = itertools.count(1)

    def begin(self, asked: FetchRequest, version: int = VERSION) -> FetchPlan:
        return self.sessions.begin(asked, version, now_ms=self.now_ms, draw_id=lambda: next(self._ids))


def targets(plan: FetchPlan) -> list[tuple[int, int]]:
    return [(target.index, target.fetch_offset) for target in plan.targets]


def send(plan: FetchPlan, *, data: tuple[int, ...] = (), end: int = 0, errors: tuple[int, ...] = ()) -> list[int]:
    """Answer `plan`, with data for some partitions; the partitions in the answer."""
    results = [
        (
            target,
            FetchResult(target.index, 6)
            if target.index in errors
            else FetchResult(target.index, 0, end, end, 0, (), 50 if target.index in data else 0),
        )
        for target in plan.targets
    ]
    return [target.index for target, _ in plan.to_send(results)]


def test_sessionless_request_opens_none() -> None:
    world = World()
    plan = world.begin(request((0, 5), epoch=-1))

    assert (plan.session_id, targets(plan), len(world.sessions)) == (0, [(0, 5)], 0)
    assert send(plan) == [0]


def test_full_request_opens_a_session_and_is_answered_in_full() -> None:
    plan = World().begin(request((0, 5), (1, 6)))

    assert plan.session_id == 1
    assert send(plan) == [0, 1]


def test_next_request_reads_everything_and_answers_only_what_changed() -> None:
    world = World()
    send(world.begin(request((0, 0), (1, 0), (2, 0))))
    plan = world.begin(request(session_id=1, epoch=1))

    assert targets(plan) == [(0, 0), (1, 0), (2, 0)]
    assert send(plan) == []
    assert send(world.begin(request(session_id=1, epoch=2)), data=(1,)) == [1]
    assert send(world.begin(request(session_id=1, epoch=3)), end=9) == [0, 2, 1]


def test_request_names_only_what_moved() -> None:
    world = World()
    send(world.begin(request((0, 0), (1, 0))))
    plan = world.begin(request((1, 7), (2, 3), session_id=1, epoch=1, forgotten=(0,)))

    assert targets(plan) == [(1, 7), (2, 3)]


def test_partition_that_gave_data_goes_to_the_end_of_the_line() -> None:
    world = World()
    send(world.begin(request((0, 0), (1, 0), (2, 0))), data=(0,))

    assert [index for index, _ in targets(world.begin(request(session_id=1, epoch=1)))] == [1, 2, 0]


def test_error_is_told_every_time_and_its_end_too() -> None:
    world = World()
    send(world.begin(request((0, 0))), errors=(0,))

    assert send(world.begin(request(session_id=1, epoch=1)), errors=(0,)) == [0]
    assert send(world.begin(request(session_id=1, epoch=2))) == [0]
    assert send(world.begin(request(session_id=1, epoch=3))) == []


def test_unknown_session_is_told_so() -> None:
    assert World().begin(request(session_id=7, epoch=1)).error == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_wrong_epoch_is_told_so() -> None:
    world = World()
    world.begin(request((0, 0)))

    assert world.begin(request(session_id=1, epoch=2)).error == ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_session_by_name_is_not_continued_by_id() -> None:
    world = World()
    world.begin(request((0, 0)))

    assert world.begin(request(session_id=1, epoch=1), 13).error == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_session_by_id_works_the_same() -> None:
    world = World()
    world.begin(request((0, 0), by_id=True), 13)
    plan = world.begin(request((1, 2), session_id=1, epoch=1, by_id=True, forgotten=(0,)), 13)

    assert targets(plan) == [(1, 2)]
    assert plan.targets[0].topic_id == TOPIC_ID


def test_final_epoch_ends_the_session() -> None:
    world = World()
    world.begin(request((0, 0)))
    plan = world.begin(request((0, 0), session_id=1, epoch=-1))

    assert (plan.session_id, len(world.sessions), world.sessions.partitions) == (0, 0, 0)


def test_full_request_replaces_the_session_it_names() -> None:
    world = World()
    world.begin(request((0, 0)))

    assert world.begin(request((0, 0), session_id=1)).session_id == 2
    assert len(world.sessions) == 1


def test_session_that_forgot_everything_is_closed() -> None:
    world = World()
    world.begin(request((0, 0)))
    plan = world.begin(request(session_id=1, epoch=1, forgotten=(0,)))

    assert (plan.session_id, plan.error, len(world.sessions)) == (0, 0, 0)


def test_epoch_one_follows_the_largest() -> None:
    world = World()
    world.begin(request((0, 0)))
    world.sessions._sessions[1].epoch = EPOCH_MAX
    assert not world.begin(request(session_id=1, epoch=EPOCH_MAX)).error

    assert not world.begin(request(session_id=1, epoch=1)).error


def test_idle_session_makes_room_and_a_busy_one_does_not() -> None:
    world = World(slots=1)
    world.begin(request((0, 0)))
    world.now_ms = IDLE_MS_MIN - 1
    assert world.begin(request((0, 0))).session_id == 0
    world.now_ms = IDLE_MS_MIN

    assert world.begin(request((0, 0))).session_id == 2
    assert len(world.sessions) == 1


def test_least_recently_used_session_goes_first() -> None:
    world = World(slots=2)
    world.begin(request((0, 0)))
    world.begin(request((0, 0)))
    world.now_ms = 1
    world.begin(request(session_id=1, epoch=1))
    world.now_ms = IDLE_MS_MIN
    world.begin(request((0, 0)))

    assert not world.begin(request(session_id=1, epoch=2)).error
    assert world.begin(request(session_id=2, epoch=1)).error


def test_partitions_of_all_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_session, "PARTITIONS_MAX", 3)
    world = World()
    world.begin(request((0, 0), (1, 0)))

    assert world.begin(request((0, 0), (1, 0))).session_id == 0
    assert world.begin(request((0, 0))).session_id == 2


def test_no_slots_means_no_sessions() -> None:
    assert World(slots=0).begin(request((0, 0))).session_id == 0


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 4), st.integers(0, 9), max_size=3),
            st.sets(st.integers(0, 4), max_size=2),
            st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5),
        ),
        max_size=15,
    )
)
def test_client_always_knows_the_newest_state_of_what_it_reads(
    steps: list[tuple[dict[int, int], set[int], dict[int, int]]],
) -> None:
    """A partition's high watermark moves at will; whatever is left out of an answer has not changed."""
    world = World()
    ends = dict.fromkeys(range(5), 0)
    reads = {0: 0, 1: 0}
    told: dict[int, int] = {}
    plan = world.begin(request(*reads.items()))
    epoch = 1
    for moved, forgotten, advanced in [({}, set(), {}), *steps]:
        if epoch > 1:
            forgotten = {index for index in forgotten if index in reads}
            for index in sorted(forgotten):
                del reads[index]
                told.pop(index)
            reads.update(moved)
            if not reads:
                reads = {0: 0}
                moved = {0: 0}
            plan = world.begin(
                request(*moved.items(), session_id=1, epoch=epoch - 1, forgotten=tuple(sorted(forgotten)))
            )
        assert dict(targets(plan)) == reads
        for index, by in advanced.items():
            ends[index] += by
        results = [(target, FetchResult(target.index, 0, Offset(ends[target.index]), 0, 0)) for target in plan.targets]
        told.update((target.index, result.high_watermark) for target, result in plan.to_send(results))
        assert {index: told[index] for index in reads} == {index: ends[index] for index in reads}
        epoch += 1
