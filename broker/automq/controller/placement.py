"""Pure: which broker leads a new partition."""

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.protocol.errors import ApiError, ErrorCode

NOTHING_GIVEN: Final[Mapping[NodeId, int]] = {}


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


class Placement:
    """Places the partitions of one request, each on the broker with the fewest, the lower id first.

    What the same request has placed already counts. `among` are the brokers that are known to be there, None where
    nobody has looked: every one that is not fenced; `without` are those that wish to stop. `given` is what is taken
    from brokers to be placed anew.
    """

    def __init__(
        self,
        image: MetadataImage,
        *,
        among: Collection[NodeId] | None = None,
        without: Collection[NodeId] = (),
        given: Mapping[NodeId, int] = NOTHING_GIVEN,
    ) -> None:
        counts = loads(image)
        self._loads = [
            (counts.get(node, 0) - given.get(node, 0), node)
            for node in eligible(image)
            if (among is None or node in among) and node not in without
        ]
        """A heap."""
        heapq.heapify(self._loads)

    @property
    def is_possible(self) -> bool:
        """Whether any broker may be given something."""
        return bool(self._loads)

    def check(self) -> None:
        """Raises ApiError when no broker may be given anything."""
        if not self._loads:
            raise ApiError(ErrorCode.BROKER_NOT_AVAILABLE, "no broker is alive that may be given partitions")

    def place(self) -> NodeId:
        """The leader of one partition more; there is one that may be given something."""
        load, node = self._loads[0]
        heapq.heapreplace(self._loads, (load + 1, node))
        return node

    def take(self, node: NodeId) -> None:
        """Somebody has placed a partition on `node` by hand."""
        for place, (load, other) in enumerate(self._loads):
            if other == node:
                self._loads[place] = (load + 1, node)
                heapq.heapify(self._loads)
                return
