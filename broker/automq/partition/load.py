"""How much goes in and out of each partition lately: rates of what partitions count, and the heaviest of them.

A rate is an average that forgets with `FORGET_S`; of a partition that was opened less long ago it is that of the time
since, so that what has just moved here does not look idle. What counted nothing since the last measurement costs
nothing until its rate has faded away. All of it is done in bounded turns: there may be ten thousand partitions.
"""

import heapq
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from automq.ids import StreamId
from automq.partition.traffic import PartitionTraffic, TrafficMeter
from automq.steps import Steps

FORGET_S: Final = 30.0
"""Thrice as long as the balancer waits between two looks: what is a burst is no load."""
HEAVIEST_MAX: Final = 500
"""Partitions that are told of one by one: 10 KB of a heartbeat. The others are told of together."""
FADED: Final = 1.0
"""Bytes a second below which a partition is idle."""
PASSED_S_MIN: Final = 0.001

# About how long it takes to measure so many partitions.
LOOK_PARTITIONS: Final = 250
LOOK_US: Final = 500


class PartitionRate(NamedTuple):
    """Bytes a second of one partition."""

    stream: StreamId
    in_bytes: int
    out_bytes: int


class Measured(NamedTuple):
    """What a broker's partitions carry."""

    in_bytes: float
    out_bytes: float
    """Bytes a second of all of them."""
    heaviest: Sequence[PartitionRate]
    """The heaviest first."""


NOTHING_MEASURED: Final = Measured(0.0, 0.0, ())


class _Rate:
    """Of one partition. Sums are discounted by age, as `weight` is: their quotient is the average."""

    __slots__ = ("in_sum", "out_sum", "traffic", "weight")

    def __init__(self, traffic: PartitionTraffic, *, idle_s: float) -> None:
        """It was open and idle for so long before what it has counted lately."""
        self.traffic = traffic
        self.in_sum = self.out_sum = 0.0
        self.weight = FORGET_S * (1 - math.exp(-idle_s / FORGET_S))

    def measure(self, passed_s: float, keep: float) -> None:
        traffic = self.traffic
        self.in_sum = self.in_sum * keep + (traffic.in_bytes - traffic.in_measured)
        self.out_sum = self.out_sum * keep + (traffic.out_bytes - traffic.out_measured)
        self.weight = self.weight * keep + passed_s
        traffic.in_measured, traffic.out_measured = traffic.in_bytes, traffic.out_bytes

    @property
    def in_bytes(self) -> float:
        return self.in_sum / self.weight

    @property
    def out_bytes(self) -> float:
        return self.out_sum / self.weight


class PartitionLoads:
    """Of one broker. `measure` is called every few seconds, never twice at once."""

    def __init__(self, meter: TrafficMeter, *, now_s: float) -> None:
        self._meter = meter
        self._measured_s = now_s
        self._rates: dict[StreamId, _Rate] = {}

    def measure(self, now_s: float) -> Steps[Measured]:
        """What the partitions carry now."""
        passed_s = max(now_s - self._measured_s, PASSED_S_MIN)
        self._measured_s = now_s
        yield from self._follow(now_s - passed_s)
        keep = math.exp(-passed_s / FORGET_S)
        in_bytes = out_bytes = 0.0
        heaviest: list[PartitionRate] = []
        found: list[PartitionRate] = []
        for number, (stream, rate) in enumerate(list(self._rates.items()), 1):
            rate.measure(passed_s, keep)
            into, out = rate.in_bytes, rate.out_bytes
            if into + out < FADED or not rate.traffic.is_open:
                del self._rates[stream]
            else:
                in_bytes, out_bytes = in_bytes + into, out_bytes + out
                found.append(PartitionRate(stream, int(into), int(out)))
            if number % LOOK_PARTITIONS == 0:
                heaviest, found = heapq.nlargest(HEAVIEST_MAX, heaviest + found, key=_weight), []
                yield LOOK_US
        return Measured(in_bytes, out_bytes, heapq.nlargest(HEAVIEST_MAX, heaviest + found, key=_weight))

    def _follow(self, before_s: float) -> Steps[None]:
        """Take in what counted something since `before_s`; what is open again has another traffic."""
        for number, traffic in enumerate(self._meter.take_touched(), 1):
            known = self._rates.get(traffic.stream)
            if traffic.is_open and (known is None or known.traffic is not traffic):
                self._rates[traffic.stream] = _Rate(traffic, idle_s=max(0.0, before_s - traffic.opened_s))
            if number % LOOK_PARTITIONS == 0:
                yield LOOK_US


def _weight(rate: PartitionRate) -> tuple[int, StreamId]:
    return rate.in_bytes + rate.out_bytes, rate.stream
