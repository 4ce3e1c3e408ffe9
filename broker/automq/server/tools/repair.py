"""Gives up, by record, what a person names as lost: `automq repair`. The only program that ends damage.

Nothing is deleted and nothing is guessed: each loss is named, refused unless it lies where something can be lost, and
recorded with who named it, all of them in one append to the metadata log or none. What follows from a record is the
brokers' work: readers pass over lost offsets; recovery passes over lost slots, and moves the ends of the streams that
may have had records there above every offset that can have been acknowledged.

Never while a broker runs: the lease is watched first, and then the metadata log is claimed as a broker claims it, so
that one that wakes up late is fenced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from automq.controller.damage import Damage, Loss, Repair, SlotLoss
from automq.controller.damage import repair as decide_repair
from automq.ids import ClusterId, Offset, StreamId
from automq.metadata.image import MetadataImage
from automq.metadata.records import MetadataRecord, QuarantineLifted, RangeLost, WalSlotsLost
from automq.protocol.errors import ApiError
from automq.s3stream.objects.format import object_key
from automq.s3stream.wal.format import SlotId, parse_slot_key

REASON: Final = "given up by a person"


class RepairRefused(Exception):
    """What was named cannot be given up; the message says what, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostOffsets:
    """Offsets [start, end) of a partition, as a person names them."""

    topic: str
    partition: int
    start: Offset
    end: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What one run gives up: the ends of logs, slots, and offsets of partitions, each named by a person."""

    offsets: Sequence[LostOffsets] = ()
    slots: Sequence[SlotId] = ()
    """Slots that recovery passes over."""
    ends: Sequence[SlotId] = ()
    """Slots at which their logs end."""
    repaired: Sequence[str] = ()
    """Keys whose damage is mended."""

    @property
    def is_empty(self) -> bool:
        """Nothing was named."""
        return not (self.offsets or self.slots or self.ends or self.repaired)


def parse_lost_offsets(text: str) -> LostOffsets:
    """`TOPIC-PARTITION:START-END`, the end excluded. Raises ValueError."""
    place, colon, offsets = text.rpartition(":")
    topic, dash, partition = place.rpartition("-")
    start, between, end = offsets.partition("-")
    if not (colon and dash and between and topic and partition.isdigit() and start.isdigit() and end.isdigit()):
        raise ValueError(f"{text!r} is not TOPIC-PARTITION:START-END, as in orders-0:120-240 (the end is excluded)")
    if int(start) >= int(end):
        raise ValueError(f"{text!r} names no offset: the end is excluded, so it must be above the start")
    return LostOffsets(topic=topic, partition=int(partition), start=Offset(int(start)), end=Offset(int(end)))


def parse_slot(text: str) -> SlotId:
    """The key of a slot of a write-ahead log. Raises ValueError."""
    slot = parse_slot_key(text)
    if slot is None:
        raise ValueError(
            f"{text!r} is not the key of a WAL slot, CLUSTER/wal/NODE/EPOCH/SEQUENCE: `automq fsck` shows it"
        )
    return slot


def plan_repair(image: MetadataImage, cluster_id: ClusterId, named: Named) -> Repair:
    """Pure: what is to be recorded. Raises RepairRefused."""
    for slot in (*named.slots, *named.ends):
        if slot.cluster_id != cluster_id:
            raise RepairRefused(f"{slot.key} is a slot of another cluster: the prefix holds {cluster_id}")
    return Repair(
        losses=[_loss(image, cluster_id, lost) for lost in named.offsets],
        slots=[
            *(
                SlotLoss(node=slot.node, epoch=slot.epoch, start=slot.sequence, end=slot.sequence + 1)
                for slot in named.slots
            ),
            *(SlotLoss(node=slot.node, epoch=slot.epoch, start=slot.sequence, end=None) for slot in named.ends),
        ],
        lifted=[(key, _streams_with_cause(image, key)) for key in named.repaired],
    )


def check_repair(image: MetadataImage, wanted: Repair, *, by: str, now_ms: int) -> Sequence[MetadataRecord]:
    """Pure: the records that it would make. Raises RepairRefused."""
    try:
        return decide_repair(image, wanted, by=by, now_ms=now_ms).records
    except ApiError as error:
        raise RepairRefused(error.message or str(error)) from error


def _loss(image: MetadataImage, cluster_id: ClusterId, lost: LostOffsets) -> Loss:
    topic = image.topic(lost.topic)
    part = None if topic is None else topic.partition(lost.partition)
    if part is None:
        raise RepairRefused(f"there is no partition {lost.topic}-{lost.partition}")
    stream = part.stream
    spans = image.spans(stream, lost.start, lost.end, limit=1)
    key = object_key(cluster_id, spans[0].object_id) if spans else f"{lost.topic}-{lost.partition}"
    return Loss(stream=stream, start=lost.start, end=lost.end, damage=Damage(key=key, reason=REASON))


def _streams_with_cause(image: MetadataImage, key: str) -> Sequence[StreamId]:
    streams = [stream for stream, causes in image.quarantines.items() if any(cause.key == key for cause in causes)]
    if not streams:
        known = sorted({cause.key for causes in image.quarantines.values() for cause in causes})
        raise RepairRefused(f"no partition is quarantined because of {key}; known are: {', '.join(known) or 'none'}")
    return sorted(streams)


def described(image: MetadataImage, record: MetadataRecord) -> str:
    """A record for a person."""
    match record:
        case RangeLost():
            state = image.stream(record.stream)
            topic = None if state is None else image.topic_by_id(state.topic_id)
            place = f"stream {record.stream}" if state is None or topic is None else f"{topic.name}-{state.partition}"
            return f"offsets [{record.start}, {record.end}) of {place} are lost ({record.key})"
        case WalSlotsLost():
            end = "the end" if record.end is None else str(record.end)
            return (
                f"slots [{record.start}, {end}) of the write-ahead log of broker {record.node} at epoch {record.epoch} "
                "are lost: the broker passes over them when it starts"
            )
        case QuarantineLifted():
            return f"{len(record.streams)} partitions take appends again: {record.key} is mended"
        case _:
            return type(record).__name__
