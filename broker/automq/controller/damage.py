"""Pure: what is recorded of damage, and of its repair.

A live broker records what its recovery met (`quarantine_wal`); a person, through `automq repair`, what is given up
(`lose_ranges`, `lose_slots`) and what is whole again (`lift_quarantine`). Whatever a decision says twice is recorded
once.
"""

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from automq.controller import brokers
from automq.controller.brokers import check_alive
from automq.controller.failover import NOTHING_KNOWN, Around, affected_streams, reassign_leaders
from automq.ids import BrokerEpoch, NodeId, Offset, StreamId
from automq.metadata.image import MetadataImage, WalImage
from automq.metadata.records import (
    MetadataRecord,
    QuarantineLifted,
    RangeLost,
    StreamsOpened,
    StreamsQuarantined,
    UnplacedRange,
    WalDamaged,
    WalSlotsLost,
)
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.s3stream.model import BrokerFenced, RecoveredLog, Unplaced
from automq.steps import Steps

# What one slot can hold of one stream at most: the count of a record batch has 31 bits, and batches of so many records
# that compress to nothing leave room for some more of them. Offsets have 63 bits.
SLOT_OFFSETS_MAX: Final = 1 << 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is damaged, for a person: the key to look at, and what is wrong with it."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Offsets [start, end) of one stream that a person gives up, because of what is at `damage.key`.

    `end` is above every offset of the range that can have been acknowledged.
    """

    stream: StreamId
    start: Offset
    end: Offset
    damage: Damage


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLoss:
    """Slots [start, end) of a write-ahead log that a person gives up; with `end` None the log ends at `start`."""

    node: NodeId
    epoch: BrokerEpoch
    start: int
    end: int | None


def quarantine_wal(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    *,
    recoverer: tuple[NodeId, BrokerEpoch],
    damage: Damage,
    unplaced: Sequence[Unplaced] = (),
    now_ms: int,
    around: Around = NOTHING_KNOWN,
    by_serving: bool = False,
) -> Steps[Decision[MetadataRecord, None]]:
    """(node, epoch)'s log cannot be recovered: pin it, and quarantine the streams that it may hold records of.

    Those of `unplaced`, when that is all that is left. Else the damage leaves open which, and it is every stream of
    the incarnation, but those that were made after the log was first found damaged. What it cannot hold anything of is
    given on, to the recoverer too where that serves already (`by_serving`). Raises BrokerFenced when somebody else
    recovers the log by now.
    """
    check_alive(image, *recoverer)
    wal = image.wals.get((node, epoch))
    if wal is None or wal.recoverer != recoverer:
        raise BrokerFenced(f"the log of broker {node} at epoch {epoch} is not recovered by {recoverer}")
    records: list[MetadataRecord] = []
    found = WalDamaged(
        node=node,
        epoch=epoch,
        key=damage.key,
        reason=damage.reason,
        at_ms=now_ms,
        unplaced=tuple(UnplacedRange(**dataclasses.asdict(item)) for item in unplaced),
    )
    if wal.damage is None or structs.replace(wal.damage, at_ms=now_ms) != found:
        records.append(found)
    wanted = {item.stream for item in unplaced} if unplaced else affected_streams(image, wal)
    new = tuple(
        stream
        for stream in sorted(wanted)
        if stream in image.streams and not any(cause.key == damage.key for cause in image.quarantine(stream))
    )
    if new:
        records.append(
            StreamsQuarantined(
                streams=new, key=damage.key, reason=damage.reason, at_ms=now_ms, wal_node=node, wal_epoch=epoch
            )
        )
    # In the image these are not quarantined yet.
    given = yield from reassign_leaders(
        image, (node, epoch), recoverer=recoverer, around=around, without=wanted, serves=by_serving
    )
    records.extend(given)
    return Decision(records, None)


def damage_of(slots: str, unplaced: Sequence[Unplaced]) -> Damage:
    """What recovery has left over, named by its first slot; `slots` is what the keys of the log's slots begin with."""
    first = min(unplaced, key=lambda item: (item.first_slot, item.stream))
    what = "begin with a damaged batch" if first.start == first.expected else f"do not begin at {first.expected}"
    return Damage(
        key=f"{slots}{first.first_slot:020d}",
        reason=f"records of {len(unplaced)} streams cannot be placed; offsets [{first.start}, {first.end}) of stream "
        f"{first.stream} {what}",
    )


def quarantine_streams(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    *,
    streams: Sequence[StreamId],
    damage: Damage,
    now_ms: int,
) -> Decision[MetadataRecord, None]:
    """Streams of a live owner take no append until what is at `damage.key` is repaired. Raises BrokerFenced."""
    check_alive(image, node, epoch)
    new = tuple(
        stream
        for stream in sorted(streams)
        if (found := image.stream(stream)) is not None
        and found.owner == node
        and not any(cause.key == damage.key for cause in image.quarantine(stream))
    )
    if not new:
        return Decision((), None)
    return Decision((StreamsQuarantined(streams=new, key=damage.key, reason=damage.reason, at_ms=now_ms),), None)


def lose_ranges(
    image: MetadataImage, losses: Sequence[Loss], *, by: str, now_ms: int
) -> Decision[MetadataRecord, Sequence[RangeLost]]:
    """Record what a person gives up; what is recorded already stays as it is. Raises ApiError INVALID_REQUEST.

    A loss must begin within the stream or at its end, so that no hole is left that nobody has named.
    """
    records: list[RangeLost] = []
    ends: dict[StreamId, Offset] = {}
    for loss in losses:
        stream = image.stream(loss.stream)
        if stream is None:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"stream {loss.stream} was deleted or never was")
        end = ends.get(loss.stream, stream.next_offset)
        if not stream.start <= loss.start < loss.end or loss.start > end:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"offsets [{loss.start}, {loss.end}) do not lie in or behind [{stream.start}, {end}) of "
                f"stream {loss.stream}",
            )
        known = [
            *image.lost_ranges.get(loss.stream, ()),
            *(record for record in records if record.stream == loss.stream),
        ]
        if any((lost.start, lost.end) == (loss.start, loss.end) for lost in known):
            continue
        if any(lost.start < loss.end and loss.start < lost.end for lost in known):
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"a part of offsets [{loss.start}, {loss.end}) of stream {loss.stream} was given up before: name the "
                "rest alone",
            )
        ends[loss.stream] = max(end, loss.end)
        records.append(
            RangeLost(
                stream=loss.stream,
                start=loss.start,
                end=loss.end,
                key=loss.damage.key,
                reason=loss.damage.reason,
                by=by,
                at_ms=now_ms,
            )
        )
    return Decision(records, records)


def lose_slots(
    image: MetadataImage, losses: Sequence[SlotLoss], *, by: str, now_ms: int
) -> Decision[MetadataRecord, None]:
    """Record which slots recovery passes over, or where a log ends. Raises ApiError INVALID_REQUEST."""
    records: list[MetadataRecord] = []
    for loss in losses:
        wal = image.wals.get((loss.node, loss.epoch))
        if wal is None or loss.start < wal.trim_to or (loss.end is not None and loss.end <= loss.start):
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"slots [{loss.start}, {'the end' if loss.end is None else loss.end}) of broker {loss.node} at epoch "
                f"{loss.epoch} "
                + ("have no log that is left to recover" if wal is None else f"begin below {wal.trim_to}, or are none"),
            )
        if not any((lost.start, lost.end) == (loss.start, loss.end) for lost in wal.lost):
            records.append(
                WalSlotsLost(node=loss.node, epoch=loss.epoch, start=loss.start, end=loss.end, by=by, at_ms=now_ms)
            )
    return Decision(records, None)


def lose_before(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    *,
    recoverer: tuple[NodeId, BrokerEpoch],
    stream: StreamId,
    end: Offset,
    now_ms: int,
) -> Decision[MetadataRecord, None]:
    """Behind slots that a person gave up, (node, epoch)'s log goes on at `end`: what the stream lacks below is lost.

    Said again, or of a stream that has no hole there, it records nothing. Raises BrokerFenced when somebody else
    recovers the log by now, ApiError INVALID_REQUEST when nobody gave up anything of it.
    """
    check_alive(image, *recoverer)
    wal = image.wals.get((node, epoch))
    if wal is None or wal.recoverer != recoverer:
        raise BrokerFenced(f"the log of broker {node} at epoch {epoch} is not recovered by {recoverer}")
    if not wal.lost:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"nobody gave up slots of the log of broker {node} at epoch {epoch}")
    state = image.stream(stream)
    if state is None or state.next_offset >= end:
        return Decision((), None)
    return Decision((_lost_with_slots(wal, stream, state.next_offset, end, now_ms=now_ms),), None)


def wal_recovered(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    *,
    recoverer: tuple[NodeId, BrokerEpoch],
    recovered: RecoveredLog,
    now_ms: int,
    around: Around = NOTHING_KNOWN,
) -> Steps[Decision[MetadataRecord, None]]:
    """See `brokers.wal_recovered`. What may have lain in slots that were given up is recorded in the same append.

    So are the log's streams given on, unless a broker has recovered it before it opens them itself.
    """
    wal = image.wals.get((node, epoch))
    lost: Sequence[RangeLost] = ()
    if wal is not None:
        lost = lost_tails(image, wal, continued=recovered.continued, slots=recovered.given_up, now_ms=now_ms)
    given: Sequence[StreamsOpened] = ()
    if wal is not None:
        serves = recovered.by_serving
        given = yield from reassign_leaders(image, (node, epoch), recoverer=recoverer, around=around, serves=serves)
    return brokers.wal_recovered(image, node, epoch, recoverer=recoverer, lost=lost, given=given)


def lost_tails(
    image: MetadataImage, wal: WalImage, *, continued: AbstractSet[StreamId], slots: int, now_ms: int
) -> Sequence[RangeLost]:
    """Where streams end whose newest records may have lain in `slots` slots that a person gave up.

    Nothing tells how many records those held, so the ends move above all that they can have: no offset is given twice.
    `continued` are the streams that go on behind the lost slots, so that nothing about them is open.
    """
    if not slots:
        return ()
    lost = Offset(slots * SLOT_OFFSETS_MAX)
    return [
        _lost_with_slots(wal, stream, state.next_offset, Offset(state.next_offset + lost), now_ms=now_ms)
        for stream in affected_streams(image, wal)
        if stream not in continued and (state := image.stream(stream)) is not None
    ]


def _lost_with_slots(wal: WalImage, stream: StreamId, start: Offset, end: Offset, *, now_ms: int) -> RangeLost:
    first = wal.lost[0]
    return RangeLost(
        stream=stream,
        start=start,
        end=end,
        key=f"wal/{wal.node}/{wal.epoch}/{first.start}",
        reason="they may have lain in slots that were given up",
        by=first.by,
        at_ms=now_ms,
    )


def lift_quarantine(
    image: MetadataImage, streams: Sequence[StreamId], *, key: str
) -> Decision[MetadataRecord, Sequence[StreamId]]:
    """The cause `key` is repaired for these streams; which of them had it."""
    lifted = tuple(stream for stream in sorted(streams) if any(cause.key == key for cause in image.quarantine(stream)))
    return Decision((QuarantineLifted(streams=lifted, key=key),) if lifted else (), lifted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Everything that one run of `automq repair` changes, recorded together or not at all."""

    losses: Sequence[Loss] = ()
    slots: Sequence[SlotLoss] = ()
    lifted: Sequence[tuple[str, Sequence[StreamId]]] = ()
    """Causes that are repaired, by key, and the streams that had them. A log that is recovered lifts its own."""


def repair(image: MetadataImage, wanted: Repair, *, by: str, now_ms: int) -> Decision[MetadataRecord, None]:
    """See `lose_ranges`, `lose_slots`, `lift_quarantine`. Raises ApiError INVALID_REQUEST, and records nothing then."""
    records: list[MetadataRecord] = []
    records.extend(lose_ranges(image, wanted.losses, by=by, now_ms=now_ms).records)
    records.extend(lose_slots(image, wanted.slots, by=by, now_ms=now_ms).records)
    for key, streams in wanted.lifted:
        records.extend(lift_quarantine(image, streams, key=key).records)
    return Decision(records, None)
