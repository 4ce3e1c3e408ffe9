"""Rates of partitions: what has just moved here counts at once, what is idle costs nothing, and turns are short."""

import time

from automq.ids import StreamId
from automq.partition import load as module
from automq.partition.load import HEAVIEST_MAX, Measured, PartitionLoads, PartitionRate
from automq.partition.traffic import PartitionTraffic, TrafficMeter
from automq.runtime.telemetry import Metrics
from automq.steps import Steps


class World:
    """A meter, a clock that is set by hand, and what was measured last."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.meter = TrafficMeter(Metrics(), topics_max=1, now=lambda: self.now_s)
        self.loads = PartitionLoads(self.meter, now_s=self.now_s)

    def open(self, stream: int) -> PartitionTraffic:
        return self.meter.open("t", StreamId(stream))

    def measure(self, *, after_s: float = 2.0) -> Measured:
        self.now_s += after_s
        return done(self.loads.measure(self.now_s))


def done(steps: Steps[Measured]) -> Measured:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Measured = end.value
            return result


def test_a_partition_that_has_just_moved_here_does_not_look_idle() -> None:
    world = World()
    world.measure(after_s=1_000)
    moved = world.open(1)
    moved.appended(2_000_000, 1)
    moved.given(500_000)
    assert world.measure().heaviest == [PartitionRate(StreamId(1), 1_000_000, 250_000)]


def test_a_burst_of_one_that_was_idle_for_long_is_spread() -> None:
    world = World()
    idle = world.open(1)
    world.measure(after_s=1_000)
    idle.appended(2_000_000, 1)
    (rate,) = world.measure().heaviest
    assert 50_000 < rate.in_bytes < 80_000


def test_a_steady_rate_is_told_as_it_is_and_fades_when_it_ends() -> None:
    world = World()
    steady = world.open(1)
    for _ in range(30):
        steady.appended(2_000, 1)
        measured = world.measure()
    assert measured.heaviest == [PartitionRate(StreamId(1), 1_000, 0)]
    assert round(measured.in_bytes) == 1_000
    for _ in range(30):
        faded = world.measure()
    assert 0 < faded.in_bytes < 200
    for _ in range(120):
        faded = world.measure()
    assert faded == Measured(0.0, 0.0, [])
    assert world.loads._rates == {}
    # What it had counted before it faded is not counted again.
    steady.appended(2_000, 1)
    assert world.measure().in_bytes < 1_000


def test_what_is_closed_is_told_of_no_more_and_open_again_it_begins_anew() -> None:
    world = World()
    first = world.open(1)
    first.appended(2_000, 1)
    assert world.measure().heaviest == [PartitionRate(StreamId(1), 1_000, 0)]
    first.appended(9_000, 1)
    world.meter.close("t", first)
    again = world.open(1)
    again.appended(4_000, 1)
    assert world.measure().heaviest == [PartitionRate(StreamId(1), 2_000, 0)]
    world.meter.close("t", again)
    assert world.measure() == Measured(0.0, 0.0, [])


def test_the_heaviest_are_told_one_by_one_and_the_others_together() -> None:
    world = World()
    count = HEAVIEST_MAX + 700
    for number in range(count):
        world.open(number).appended(2 * (number + 100), 1)
    measured = world.measure()
    assert [rate.stream for rate in measured.heaviest] == list(range(count - 1, count - 1 - HEAVIEST_MAX, -1))
    assert measured.in_bytes == sum(range(100, count + 100))


def test_ten_thousand_partitions_are_measured_in_short_turns() -> None:
    world = World()
    for number in range(10_000):
        world.open(number).appended(2 * (number % 977 + 1), 1)
    world.now_s += 2
    turns = []
    steps = world.loads.measure(world.now_s)
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except StopIteration:
            break
        turns.append(time.thread_time() - began)
    assert len(turns) == 2 * 10_000 // module.LOOK_PARTITIONS
    # The median: a collection of garbage is nobody's turn.
    assert sorted(turns)[len(turns) // 2] < 0.005, turns
