"""The nouns every layer shares: ids, epochs and offsets as distinct types, and half-open ranges."""

import uuid
from dataclasses import dataclass
from typing import NewType

NodeId = NewType("NodeId", int)
"""A broker's `node.id`: stable over restarts, chosen by whoever runs the broker."""

BrokerEpoch = NewType("BrokerEpoch", int)
"""One incarnation of a node id. A counter of the metadata log, never a clock."""

ControllerEpoch = NewType("ControllerEpoch", int)
"""One claim to the metadata log. A counter, never a clock."""

StreamId = NewType("StreamId", int)
StreamEpoch = NewType("StreamEpoch", int)
"""One opening of a stream by an owner. It is also the partition's Kafka leader epoch."""

ObjectId = NewType("ObjectId", int)
"""Never reused."""

Offset = NewType("Offset", int)
"""A stream offset, which is the Kafka offset."""

TopicId = NewType("TopicId", uuid.UUID)

ClusterId = NewType("ClusterId", str)
"""22 URL-safe base64 characters, as Kafka's cluster ids are."""


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """A partition by its topic's name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRange:
    """Offsets [start, end) of one stream."""

    stream: StreamId
    start: Offset
    end: Offset

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.end
