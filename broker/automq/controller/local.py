"""The controller's word on streams and objects, for a broker in the controller's own process.

One pair for each (node, epoch). Reads come from the durable image, changes go through the controller.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from immutables import Map

from automq.controller.service import Controller
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamId
from automq.metadata.configs import NO_DEFAULTS, effective_topic_config
from automq.metadata.publisher import MetadataPublisher
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import (
    DELETED_BY_SIZE,
    KEPT,
    BrokerFenced,
    CommitRequest,
    CommitResult,
    FencedBy,
    ObjectSpan,
    RetentionClass,
    StreamNotFound,
    StreamState,
    StreamTrim,
    Trimmed,
    deleted_class,
)
from automq.s3stream.ports import StoreUnavailable


@contextlib.contextmanager
def _as_port_errors() -> Iterator[None]:
    """The log's errors are none of the engine's: what it may try again, and what it may not, the port says."""
    try:
        yield
    except LogFenced as error:
        raise BrokerFenced(str(error), by=FencedBy.METADATA_LOG) from error
    except LogFailed as error:
        raise StoreUnavailable(f"the metadata log takes nothing now: {error}") from error


class LocalObjects:
    """Implements `ObjectManager`."""

    def __init__(
        self, *, controller: Controller, metadata: MetadataPublisher, node: NodeId, epoch: BrokerEpoch
    ) -> None:
        self._controller = controller
        self._metadata = metadata
        self._node = node
        self._epoch = epoch

    async def prepare(self, count: int) -> Sequence[ObjectId]:
        with _as_port_errors():
            return await self._controller.prepare_objects(self._node, self._epoch, count)

    async def commit(self, request: CommitRequest) -> CommitResult:
        with _as_port_errors():
            return await self._controller.commit_objects(request)

    async def confirm(self) -> None:
        with _as_port_errors():
            await self._controller.confirm(self._node, self._epoch)

    def spans(self, stream: StreamId, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        return self._metadata.image.spans(stream, start, end, limit=limit)

    def spans_from(self, stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        return self._metadata.image.spans_of(stream).above(start)

    def stored_bytes(self, stream: StreamId) -> int:
        found = self._metadata.image.stream(stream)
        return 0 if found is None else found.held.stored_bytes


class LocalStreams:
    """Implements `StreamManager`. `topic_defaults` are the broker's own settings, as the partitions have them."""

    def __init__(
        self,
        *,
        controller: Controller,
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
        with _as_port_errors():
            await self._controller.lose_before(*log, recoverer=(self._node, self._epoch), stream=stream, end=end)

    def owner(self, stream: StreamId) -> NodeId | None:
        found = self._metadata.image.stream(stream)
        return None if found is None else found.owner
