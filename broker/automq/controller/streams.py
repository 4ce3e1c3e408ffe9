"""Pure: opening and trimming streams. Streams are created and deleted with their partitions, in `topics`."""

from collections.abc import Generator, Sequence
from typing import Final

from automq.controller.brokers import check_alive
from automq.controller.failover import is_ownerless
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.records import MetadataRecord, StreamOpening, StreamsOpened, StreamTrimmed
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.s3stream.model import StreamFenced, StreamNotFound, StreamTrim, Trimmed

TRIM_US: Final = 5
"""About how long one stream takes."""


def open_streams(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> Decision[MetadataRecord, None]:
    """Raise the epoch of everything that is `node`'s, in one record.

    Quarantined streams keep theirs: nothing is appended to them, and what a damaged log holds of them can be committed
    only at that epoch, once it is repaired. What another broker recovers is given on when that is done.
    """
    check_alive(image, node, epoch)
    check_recovered(image, node, epoch)
    streams = tuple(
        StreamOpening(stream=part.stream, epoch=StreamEpoch(part.leader_epoch + 1))
        for _topic, part in image.owned_partitions(node)
        if not image.quarantine(part.stream) and (part.leader_broker_epoch == epoch or is_ownerless(image, part))
    )
    if not streams:
        return Decision((), None)
    return Decision((StreamsOpened(node=node, epoch=epoch, streams=streams),), None)


def check_recovered(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> None:
    """Rule: a recovery commit comes before the stream is opened again; so no log of a former owner may be left.

    But a pinned one, whose streams are quarantined and not opened, and one that another broker recovers or nobody.
    """
    for wal_node, wal_epoch in sorted(image.wals):
        wal = image.wals[wal_node, wal_epoch]
        is_ours = wal.recoverer is None or wal.recoverer == (node, epoch)
        if wal_node == node and wal_epoch != epoch and is_ours and wal.damage is None:
            raise ApiError(
                ErrorCode.INVALID_REQUEST, f"the log of broker {node} at epoch {wal_epoch} is not recovered yet"
            )


def trim_streams(
    image: MetadataImage, node: NodeId, epoch: BrokerEpoch, trims: Sequence[StreamTrim]
) -> Generator[int, None, Decision[MetadataRecord, list[Trimmed]]]:
    """Move starts forward, never back; each alone. One part a stream, and one result, in order: why not, or None."""
    check_alive(image, node, epoch)
    starts: dict[StreamId, Offset] = {}
    results: list[Trimmed] = []
    for trim in trims:
        stream = image.stream(trim.stream)
        refused: Trimmed = None
        if stream is None:
            refused = StreamNotFound(f"stream {trim.stream} was deleted or never was")
        elif stream.owner != node or stream.epoch != trim.epoch:
            refused = StreamFenced(stream=trim.stream, ours=trim.epoch, current=stream.epoch)
        elif trim.new_start > max(stream.start, starts.get(trim.stream, stream.start)):
            starts[trim.stream] = trim.new_start
        results.append(refused)
        yield TRIM_US
    return Decision([StreamTrimmed(stream=stream, start=start) for stream, start in starts.items()], results)
