"""Appends to partitions that are about to be opened here wait for a moment, instead of looking for them elsewhere."""

from automq.ids import BrokerEpoch, NodeId, TopicPartition
from automq.metadata.image import TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition.parking import Parking


class Arrivals:
    """Of one broker's incarnation."""

    def __init__(self, us: tuple[NodeId, BrokerEpoch], metadata: MetadataPublisher) -> None:
        self._us, self._metadata = us, metadata
        self._parkings: dict[TopicPartition, Parking] = {}
        """At most one of each partition; what nobody waits in is used again."""

    def at(self, topic: TopicImage, index: int, *, is_opening: bool) -> Parking | None:
        """Where to wait for it; None when it does not come.

        Rule: only where the image shows it as ours (`is_opening`), or on its way to us.
        """
        move = self._metadata.image.moves.get(topic.partitions[index].stream)
        if not is_opening and (move is None or move.target != self._us):
            return None
        return self._parkings.setdefault(TopicPartition(topic.name, index), Parking())

    def arrived(self, name: TopicPartition) -> None:
        """It is open."""
        parking = self._parkings.pop(name, None)
        if parking is not None:
            parking.lift()
