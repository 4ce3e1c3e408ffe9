"""Who leads a partition that is not led here: answers carry it, so that clients need no metadata request."""

from dataclasses import dataclass

from automq.metadata.image import MetadataImage, TopicImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """A partition's leader, and where clients of one listener find it; no host when it has none there."""

    node: int
    epoch: int
    host: str | None
    port: int
    rack: str | None


def leader_of(image: MetadataImage, topic: TopicImage | None, index: int, listener_name: str) -> Leader | None:
    """The leader as the metadata have it; None for a partition that is not there."""
    partition = None if topic is None else topic.partition(index)
    if partition is None:
        return None
    broker = image.broker(partition.leader)
    endpoints = () if broker is None else broker.endpoints
    endpoint = next((point for point in endpoints if point.listener_name == listener_name), None)
    return Leader(
        node=partition.leader,
        epoch=partition.leader_epoch,
        host=None if endpoint is None else endpoint.host,
        port=0 if endpoint is None else endpoint.port,
        rack=None if broker is None else broker.rack,
    )
