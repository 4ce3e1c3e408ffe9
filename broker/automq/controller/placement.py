"""Pure: which broker leads a new partition, or one that must leave where it was.

The fewest partitions win, and who carries more than its number says counts as if it led more: half of what its load and
its number differ by. So a hot broker is given less, and one that is idle for a moment is not given everything. Brokers
whose loops are busy are given nothing while there are others.

Of brokers that are alike, up to a partition, one in the zone that has the fewest of the same topic is taken: the loss
of a zone, or a reader's way to another one, concerns every topic alike. Nobody gets much more than its share of a
topic, however little it carries, so that a broker which has just joined does not lead all of what comes next.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.controller.balancer import BUSY, BalancedBroker, shares
from automq.controller.model import BrokerLoad
from automq.ids import NodeId
from automq.metadata.image import MetadataImage, PartitionImage
from automq.protocol.errors import ApiError, ErrorCode

NOTHING_GIVEN: Final[Mapping[NodeId, int]] = {}
NOTHING_REPORTED: Final[Mapping[NodeId, BrokerLoad]] = {}
NONE_YET: Final[Sequence[PartitionImage]] = ()

ALIKE: Final = 1.0
"""Partitions that brokers may differ by and be alike."""
OF_TOPIC: Final = 2
"""Times its even share of a topic that a broker is given at most, while others may be given something."""
OF_LOAD: Final = 0.5
"""How much of what load and number differ by counts."""


def eligible(image: MetadataImage) -> Sequence[NodeId]:
    """Brokers that may be given something: alive and not on their way out; sorted."""
    return [broker.node for broker in image.brokers() if broker.is_usable]


def loads(image: MetadataImage) -> dict[NodeId, int]:
    """How many partitions each broker leads once all that moves has arrived."""
    counts = Counter(dict(image.leader_counts))
    for move in image.moves.values():
        counts[move.source[0]] -= 1
        counts[move.target[0]] += 1
    return counts


@dataclass(slots=True)
class _Zone:
    """The brokers of one zone that may be given something."""

    heap: list[tuple[float, NodeId]] = field(default_factory=list)
    """By how many partitions they count as."""
    full: list[tuple[float, NodeId]] = field(default_factory=list)
    """Those that have enough of the topic that is placed."""
    of_topic: int = 0
    """Partitions of the topic that is placed."""


class Placement:
    """Places the partitions of one request.

    What the same request has placed already counts. `among` are the brokers that are known to be there, None where
    nobody has looked: every one that is not fenced; `without` are those that wish to stop. `given` is what is taken
    from brokers to be placed anew; `reported` is what heartbeats told of each. Without it numbers alone count.
    """

    def __init__(
        self,
        image: MetadataImage,
        *,
        among: Collection[NodeId] | None = None,
        without: Collection[NodeId] = (),
        given: Mapping[NodeId, int] = NOTHING_GIVEN,
        reported: Mapping[NodeId, BrokerLoad] = NOTHING_REPORTED,
    ) -> None:
        counts = loads(image)
        able = [node for node in eligible(image) if (among is None or node in among) and node not in without]
        calm = [node for node in able if node not in reported or reported[node].request_cpu_percent <= BUSY * 100]
        self._racks = {node: broker.rack for node in calm or able if (broker := image.broker(node)) is not None}
        self._zones: dict[str | None, _Zone] = {}
        led = {node: counts.get(node, 0) - given.get(node, 0) for node in self._racks}
        more = _more_than_led(led, reported)
        for node, rack in self._racks.items():
            self._zones.setdefault(rack, _Zone()).heap.append((led[node] + more.get(node, 0.0), node))
        for zone in self._zones.values():
            heapq.heapify(zone.heap)
        self._of_topic: Counter[NodeId] = Counter()
        self._of_topic_max: int | None = None
        """None: they are not those of one topic."""

    @property
    def is_possible(self) -> bool:
        """Whether any broker may be given something."""
        return bool(self._racks)

    def check(self) -> None:
        """Raises ApiError when no broker may be given anything."""
        if not self._racks:
            raise ApiError(ErrorCode.BROKER_NOT_AVAILABLE, "no broker is alive that may be given partitions")

    def begin(self, count: int, have: Sequence[PartitionImage] = NONE_YET) -> None:
        """The next `count` partitions are those of one topic, which has others already."""
        self._of_topic = Counter(part.leader for part in have)
        self._of_topic_max = -(-OF_TOPIC * (count + len(have)) // max(1, len(self._racks)))
        for zone in self._zones.values():
            for counted in zone.full:
                heapq.heappush(zone.heap, counted)
            zone.full.clear()
            zone.of_topic = 0
        for node, number in self._of_topic.items():
            if node in self._racks:
                self._zones[self._racks[node]].of_topic += number
        for zone in self._zones.values():
            zone.full = [each for each in zone.heap if self._is_full(each[1])]
            if zone.full:
                zone.heap = [each for each in zone.heap if not self._is_full(each[1])]
                heapq.heapify(zone.heap)

    def place(self) -> NodeId:
        """The leader of one partition more; there is one that may be given something."""
        zone = self._next_zone()
        counted, node = heapq.heappop(zone.heap)
        self._add(zone, counted, node)
        return node

    def take(self, node: NodeId) -> None:
        """Somebody has placed a partition on `node` by hand."""
        if node not in self._racks:
            return
        zone = self._zones[self._racks[node]]
        for some in (zone.heap, zone.full):
            for index, (counted, other) in enumerate(some):
                if other == node:
                    del some[index]
                    heapq.heapify(zone.heap)
                    self._add(zone, counted, node)
                    return

    def _next_zone(self) -> _Zone:
        """Where the broker is that gets the next one, the first of its heap.

        Somebody has room: together they may have twice what there is of a topic.
        """
        able = [zone for zone in self._zones.values() if zone.heap]
        least = min(zone.heap[0][0] for zone in able)
        alike = [zone for zone in able if zone.heap[0][0] < least + ALIKE]
        return min(alike, key=lambda zone: (zone.of_topic, *zone.heap[0]))

    def _add(self, zone: _Zone, counted: float, node: NodeId) -> None:
        """`node`, which is taken out of the heap, leads one more."""
        if self._of_topic_max is not None:
            self._of_topic[node] += 1
            zone.of_topic += 1
        if self._is_full(node):
            zone.full.append((counted + 1, node))
        else:
            heapq.heappush(zone.heap, (counted + 1, node))

    def _is_full(self, node: NodeId) -> bool:
        return self._of_topic_max is not None and self._of_topic[node] >= self._of_topic_max


def _more_than_led(led: Mapping[NodeId, int], reported: Mapping[NodeId, BrokerLoad]) -> Mapping[NodeId, float]:
    """As how many partitions more, or fewer, each broker counts because of its load.

    While somebody has told nothing, as after a change of controller, nothing is concluded.
    """
    if not all(node in reported for node in led):
        return {}
    brokers = [
        BalancedBroker(
            node=node,
            partitions=number,
            bytes_per_second=reported[node].in_bytes_per_second + reported[node].out_bytes_per_second,
            cpu=reported[node].request_cpu_percent / 100,
        )
        for node, number in led.items()
    ]
    mean = sum(led.values()) / max(1, len(led))
    # Rounded: in an idle cluster shares are those of numbers, and the difference is none.
    return {node: round(OF_LOAD * (share * mean - led[node]), 3) for node, share in shares(brokers).items()}
