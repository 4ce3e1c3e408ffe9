"""Pure: the replicas that a partition shows. There are none: the object store replicates.

A topic's replication factor is what it was created with, and tools compare it for ever: the length shown is that
factor, or that of the list that a reassignment has given the partition since. The leader comes first, then the live
brokers of the list that was asked for, or where none was a broker of each other zone, then repeats of them. The ISR is
the same list, so that nothing is ever under-replicated.

Consumers read in their own zone only from a broker of this list. Who tells its zone by `client.id` is shown one of
that zone besides.
"""

from automq.ids import NodeId, StreamId
from automq.metadata.image import MetadataImage, PartitionImage, TopicImage


def replica_in(image: MetadataImage, zone: str, stream: StreamId) -> NodeId | None:
    """Which broker of a zone reads that partition for consumers there: always the same, as its cache is warm."""
    nodes = image.racks.get(zone)
    return None if not nodes else nodes[stream % len(nodes)]


def shown_replicas(image: MetadataImage, topic: TopicImage, partition: PartitionImage, zone: str = "") -> list[int]:
    """As many node ids as were asked for, the leader first; one of `zone` besides, if that is known and not there."""
    live = [partition.leader]
    for node in partition.replicas:
        broker = image.broker(node)
        if node not in live and broker is not None and not broker.fenced:
            live.append(node)
    factor = len(partition.replicas) or topic.replication_factor
    racks = image.racks
    if racks:
        leader = image.broker(partition.leader)
        home = None if leader is None else leader.rack
        if not partition.replicas and factor > 1:
            live += _over_zones(image, partition.stream, home, factor - 1)
        if zone in racks and zone != home:
            found = replica_in(image, zone, partition.stream)
            shown = [int(live[index % len(live)]) for index in range(factor)]
            return shown if found is None or found in shown else [*shown, int(found)]
    return [int(live[index % len(live)]) for index in range(factor)]


def _over_zones(image: MetadataImage, stream: StreamId, home: str | None, count: int) -> list[NodeId]:
    """A broker of each zone but `home`, at most so many; which zones come first differs from partition to partition."""
    zones = [zone for zone in image.racks if zone != home]
    found = (replica_in(image, zones[(stream + index) % len(zones)], stream) for index in range(min(count, len(zones))))
    return [node for node in found if node is not None]
