"""The controller's word on streams and objects, for the storage engine of one (node, epoch).

Reads come from the broker's durable image; changes go to whoever is the controller, and are in that image when a call
returns (`client`).
"""

from collections.abc import Iterator, Mapping, Sequence

from immutables import Map

from automq.controller.client import ControllerClient
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId
from automq.metadata.configs import NO_DEFAULTS, effective_topic_config
from automq.metadata.publisher import MetadataPublisher
from automq.s3stream.model import (
    DELETED_BY_SIZE,
    KEPT,
    CommitRequest,
    CommitResult,
    ObjectSpan,
    RetentionClass,
    StreamNotFound,
    StreamState,
    StreamTrim,
    Trimmed,
    deleted_class,
)


class BrokerObjects:
    """Implements `ObjectManager`."""

    def __init__(
        self, *, controller: ControllerClient, metadata: MetadataPublisher, node: NodeId, epoch: BrokerEpoch
    ) -> None:
        self._controller = controller
        self._metadata = metadata
        self._node = node
        self._epoch = epoch

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        return await self._controller.prepare_objects(self._node, self._epoch, count)

    async def commit(self, request: CommitRequest) -> CommitResult:
        return await self._controller.commit_objects(request)

    async def confirm(self) -> None:
        await self._controller.confirm(self._node, self._epoch)

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        return self._metadata.image.spans(stream, start, end, limit=limit)

    def spans_from(self, stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        return self._metadata.image.spans_of(stream).above(start)

    def stored_bytes(self, stream: StreamId) -> int:
        found = self._metadata.image.stream(stream)
        return 0 if found is None else found.held.stored_bytes


class BrokerStreams:
    """Implements `StreamManager`. `topic_defaults` are the broker's own settings, as the partitions have them."""

    def __init__(
        self,
        *,
        controller: ControllerClient,
        metadata: MetadataPublisher,
        node: NodeId,
        epoch: BrokerEpoch,
        topic_defaults: Mapping[str, str] = NO_DEFAULTS,
    ) -> None:
        # Made once: the cache of effective configs knows it by its value.
        self._topic_defaults = Map(topic_defaults)
        self._controller = controller
        self._metadata = metadata
        self._node = node
        self._epoch = epoch

    def state(self, stream: StreamId) -> StreamState:
        state = self._metadata.image.stream_state(stream)
        if state is None:
            raise StreamNotFound(f"stream {stream} was deleted or never was")
        return state

    async def trim(self, trims: Sequence[StreamTrim]) -> Sequence[Trimmed]:
        return await self._controller.trim_streams(self._node, self._epoch, trims)

    def retention_class(self, stream: StreamId) -> RetentionClass:
        image = self._metadata.image
        found = image.stream(stream)
        topic = None if found is None else image.topic_by_id(found.topic_id)
        if topic is None:
            return deleted_class(0)
        config = effective_topic_config(image, topic.name, self._node, self._topic_defaults)
        if config.is_deleted and config.retention_ms is not None:
            return deleted_class(config.retention_ms)
        return DELETED_BY_SIZE if config.is_deleted and config.retention_bytes is not None else KEPT

    async def lose_before(self, log: tuple[NodeId, BrokerEpoch], stream: StreamId, end: Offset) -> None:
        await self._controller.lose_before(*log, recoverer=(self._node, self._epoch), stream=stream, end=end)

    def epoch(self, stream: StreamId) -> StreamEpoch | None:
        found = self._metadata.image.stream(stream)
        return None if found is None else found.epoch
