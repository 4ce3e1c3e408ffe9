"""Zones: which broker of a consumer's zone may read for it (KIP-392), and how many bytes cross from one to another.

A client's zone is what its requests say (`client.rack`), or else what its `client.id` says, for clients that cannot set
a rack: `automq_az=`, `diskless_az=` or `zone=`, as a part of its own.

The leader names a replica only to who is at least `fetch.max.bytes` behind the committed end: nearer to the end a
reader would be back before it had read anything. And only to who finds that replica in the partition's list of
replicas, where consumers look for it, and from version 13 of Fetch on: older consumers do not return to the leader.
"""

from typing import Final, Protocol

from automq.handlers.replicas import replica_in, shown_replicas
from automq.handlers.zone_hint import zone_hint
from automq.ids import NodeId, Offset, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition.fetch_session import FetchTarget
from automq.partition.replica import Readable, ReplicaPartition, Replicas
from automq.protocol.fetch_codec import TOPIC_IDS_SINCE
from automq.protocol.messages.fetch import FetchRequest
from automq.runtime.telemetry import Metrics
from automq.security.session import Session

SPANS_MAX: Final = 64
"""Objects whose sizes are looked up to see how far behind a reader is; beyond them the mean counts."""


class Fetching(Protocol):
    """What of a fetch decides where it is read."""

    @property
    def version(self) -> int:
        """Of the request."""
        ...

    @property
    def request(self) -> FetchRequest:
        """The request."""
        ...

    @property
    def session(self) -> Session:
        """Whose it is."""
        ...

    @property
    def zone(self) -> str:
        """Where it comes from; empty where that is not known."""
        ...

    @property
    def is_by_id(self) -> bool:
        """Whether topics are named by id."""
        ...

    @property
    def is_from_replica(self) -> bool:
        """Whether it is another Kafka's broker that asks."""
        ...


class Zones:
    """Of one broker."""

    def __init__(self, *, node: NodeId, metadata: MetadataPublisher, replicas: Replicas, metrics: Metrics) -> None:
        self._node, self._metadata, self._replicas = node, metadata, replicas
        counter = metrics.counter(
            "automq_zone_bytes", "Bytes of records to consumers whose zone is known", ["direction", "zone"]
        )
        self._out = {is_same: counter.labels("out", name) for is_same, name in ((True, "same"), (False, "other"))}
        self._named = metrics.counter("automq_replicas_named", "Readers that were sent to a broker of their own zone")

    @property
    def rack(self) -> str | None:
        """This broker's zone."""
        broker = self._metadata.image.broker(self._node)
        return None if broker is None else broker.rack

    def replica(self, fetch: Fetching, target: FetchTarget) -> ReplicaPartition | None:
        """A partition that another broker leads, to be read here: only for a consumer of this broker's zone."""
        zone = fetch.zone
        if not zone or fetch.is_from_replica or fetch.version < TOPIC_IDS_SINCE or zone != self.rack:
            return None
        image = self._metadata.image
        topic = image.topic_by_id(target.topic_id) if fetch.is_by_id else image.topic(target.topic)
        part = None if topic is None else topic.partition(target.index)
        if topic is None or part is None:
            return None
        leader = image.broker(part.leader)
        if part.leader == self._node or leader is None or leader.rack == zone:
            return None
        return self._replicas.of(image, topic, part)

    def named(self, fetch: Fetching, target: FetchTarget, partition: Readable) -> NodeId | None:
        """Which replica the consumer is to read the partition from; None: from here."""
        zone, image, stream = fetch.zone, self._metadata.image, partition.stream_id
        if partition.is_replica or zone == self.rack or fetch.version < TOPIC_IDS_SINCE:
            return None
        node = replica_in(image, zone, stream)
        if node is None or node == self._node:
            return None
        found = image.partition_of(stream)
        if found is None or node not in shown_replicas(image, *found, zone_hint(fetch.session.client_id)):
            return None
        if not is_behind(image, stream, target.fetch_offset, fetch.request.max_bytes):
            return None
        self._named.inc()
        return node

    def count_out(self, zone: str, size: int) -> None:
        """So many bytes are in the answer to a consumer of that zone."""
        self._out[zone == self.rack].inc(size)


def is_behind(image: MetadataImage, stream: StreamId, offset: int, bytes_min: int) -> bool:
    """Whether so many bytes or more lie between `offset` and the committed end."""
    state = image.streams.get(stream)
    if state is None or offset >= state.end:
        return False
    behind = 0.0
    for number, span in enumerate(image.spans_of(stream).above(Offset(offset))):
        if number == SPANS_MAX:
            left = state.end - span.start
            return behind + left * state.held.stored_bytes / max(1, state.held.stored_offsets) >= bytes_min
        behind += span.size * (span.end - max(offset, span.start)) / (span.end - span.start)
        if behind >= bytes_min:
            return True
    return False
