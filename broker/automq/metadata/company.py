"""Pure: whether another broker has this cluster. Until several brokers can form one, a cluster has one node id.

A second node id would take the metadata log from the first, whose partitions would go on naming a leader that is no
more. So it is refused before the claim, whether the first runs or not: what the first owns, only the first can serve,
and whoever starts with its id takes over where it stopped. Where a former version let two node ids register, the one
that was the controller last goes on; what the others own stays as it is.
"""

from collections.abc import Sequence

from automq.ids import NodeId
from automq.metadata.image import MetadataImage
from automq.metadata.lease import LeaseContent
from automq.metadata.refusal import ClusterInUse


def other_brokers(image: MetadataImage, node: NodeId) -> Sequence[NodeId]:
    """Registered and never fenced, and not `node`; sorted."""
    return sorted(broker.node for broker in image.brokers() if broker.node != node and not broker.fenced)


def check_alone(image: MetadataImage, node: NodeId, lease: LeaseContent | None) -> None:
    """Rule: one node id a cluster. Raises ClusterInUse, naming the one that has it."""
    others = other_brokers(image, node)
    if not others or (lease is not None and lease.node == node):
        return
    has_it = lease.node if lease is not None and lease.node in others else others[0]
    owned = sum(1 for _ in image.owned_partitions(has_it))
    raise ClusterInUse(
        f"node id {has_it} is the broker of this cluster and owns {owned} partitions; several brokers cannot form a "
        f"cluster yet: start with node.id={has_it} in its place (which fences it, should it still run), or give "
        f"node id {node} a store of its own"
    )
