"""Pure: which broker leads a new partition."""

from collections.abc import Sequence

from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.protocol.errors import ApiError, ErrorCode


def eligible(image: MetadataImage) -> Sequence[NodeId]:
    """Brokers that may be given something: alive and not draining; sorted."""
    return [broker.node for broker in image.brokers() if not broker.fenced and not broker.draining]


def place_partitions(image: MetadataImage, count: int, *, only: NodeId | None = None) -> Sequence[NodeId]:
    """A leader for each of `count` new partitions: whoever has the fewest, the lower id first.

    `only` is the one broker that is known to be alive, where a cluster can have no other.

    Raises ApiError when no broker may be given anything.
    """
    nodes = [node for node in eligible(image) if only in (None, node)]
    if not nodes:
        raise ApiError(ErrorCode.BROKER_NOT_AVAILABLE, "no broker is alive that may be given partitions")
    loads = dict.fromkeys(nodes, 0)
    for topic in image.topics():
        for part in topic.partitions:
            if part.leader in loads:
                loads[part.leader] += 1
    leaders: list[NodeId] = []
    for _ in range(count):
        leader = min(nodes, key=lambda node: (loads[node], node))
        loads[leader] += 1
        leaders.append(leader)
    return leaders
