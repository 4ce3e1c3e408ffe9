"""Pure: opening and trimming streams. Streams are created and deleted with their partitions, in `topics`."""

from automq.controller.brokers import check_alive
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.records import MetadataRecord, StreamOpening, StreamsOpened, StreamTrimmed
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.s3stream.model import StreamFenced, StreamNotFound


def open_streams(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> Decision[MetadataRecord, None]:
    """Raise the epoch of everything that `node` owns, in one record.

    Quarantined streams keep theirs: nothing is appended to them, and what a damaged log holds of them can be committed
    only at that epoch, once it is repaired.
    """
    check_alive(image, node, epoch)
    check_recovered(image, node, epoch)
    streams = tuple(
        StreamOpening(stream=part.stream, epoch=StreamEpoch(part.leader_epoch + 1))
        for _topic, part in image.owned_partitions(node)
        if not image.quarantine(part.stream)
    )
    if not streams:
        return Decision((), None)
    return Decision((StreamsOpened(node=node, epoch=epoch, streams=streams),), None)


def check_recovered(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> None:
    """Rule: a recovery commit comes before the stream is opened again; so no log of a former owner may be left.

    But a pinned one: what it may hold is quarantined, and not opened.
    """
    for wal_node, wal_epoch in sorted(image.wals):
        if wal_node == node and wal_epoch != epoch and image.wals[wal_node, wal_epoch].damage is None:
            raise ApiError(
                ErrorCode.INVALID_REQUEST, f"the log of broker {node} at epoch {wal_epoch} is not recovered yet"
            )


def trim_stream(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    stream_id: StreamId,
    *,
    stream_epoch: StreamEpoch,
    new_start: Offset,
) -> Decision[MetadataRecord, None]:
    """Move the stream's start forward; never back."""
    check_alive(image, node, epoch)
    stream = image.stream(stream_id)
    if stream is None:
        raise StreamNotFound(f"stream {stream_id} was deleted or never was")
    if stream.owner != node or stream.epoch != stream_epoch:
        raise StreamFenced(stream=stream_id, ours=stream_epoch, current=stream.epoch)
    if new_start <= stream.start:
        return Decision((), None)
    return Decision((StreamTrimmed(stream=stream_id, start=new_start),), None)
