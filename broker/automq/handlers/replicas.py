"""Pure: the replicas that a partition shows. There are none: the object store replicates.

A topic's replication factor is what it was created with, and tools compare it for ever: the length shown is that
factor, or that of the list that a reassignment has given the partition since. The leader comes first, then the live
brokers of the list that was asked for, then repeats of them. The ISR is the same list, so that nothing is ever under-
replicated.
"""

from automq.metadata.image import MetadataImage, PartitionImage, TopicImage


def shown_replicas(image: MetadataImage, topic: TopicImage, partition: PartitionImage) -> list[int]:
    """As many node ids as were asked for, the leader first."""
    live = [partition.leader]
    for node in partition.replicas:
        broker = image.broker(node)
        if node not in live and broker is not None and not broker.fenced:
            live.append(node)
    factor = len(partition.replicas) or topic.replication_factor
    return [int(live[index % len(live)]) for index in range(factor)]
