"""Pure: how records of damage and repair change an image's maps. Part of `metadata.replay`.

A quarantine has one cause for each key that has to be repaired, and ends with the last of them. Lost ranges are kept
for ever: they say which offsets have no record, and who gave them up.
"""

import dataclasses
from collections.abc import Iterator
from typing import Final

from msgspec import structs

from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.change import ChangingMap
from automq.metadata.image import QuarantineCause, StreamImage, WalImage
from automq.metadata.records import QuarantineLifted, RangeLost, StreamsQuarantined, WalDamaged, WalSlotsLost

Quarantines = ChangingMap[StreamId, tuple[QuarantineCause, ...]]
LostRanges = ChangingMap[StreamId, tuple[RangeLost, ...]]
Wals = ChangingMap[tuple[NodeId, BrokerEpoch], WalImage]

# A stream has so many causes at most; what is damaged beside them is found again when they are repaired.
CAUSES_MAX: Final = 16

# Streams in one turn of the event loop.
STREAMS_A_TURN: Final = 500


def quarantine(
    quarantines: Quarantines, streams: ChangingMap[StreamId, StreamImage], record: StreamsQuarantined
) -> Iterator[None]:
    """Streams that were deleted meanwhile have nothing to protect."""
    wal = None if record.wal_node is None or record.wal_epoch is None else (record.wal_node, record.wal_epoch)
    cause = QuarantineCause(key=record.key, reason=record.reason, at_ms=record.at_ms, wal=wal)
    for number, stream in enumerate(record.streams, start=1):
        if not number % STREAMS_A_TURN:
            yield
        if stream in streams:
            others = tuple(before for before in quarantines.get(stream, ()) if before.key != record.key)
            quarantines[stream] = (*others, cause) if len(others) < CAUSES_MAX else others


def lift(quarantines: Quarantines, record: QuarantineLifted) -> Iterator[None]:
    """One cause is gone."""
    for number, stream in enumerate(record.streams, start=1):
        if not number % STREAMS_A_TURN:
            yield
        left = tuple(cause for cause in quarantines.get(stream, ()) if cause.key != record.key)
        if left:
            quarantines[stream] = left
        else:
            quarantines.pop(stream, None)


def lose_range(lost_ranges: LostRanges, streams: ChangingMap[StreamId, StreamImage], record: RangeLost) -> None:
    """The stream's end moves to the range's end, or stays where it is above that."""
    before = lost_ranges.get(record.stream, ())
    assert record.start < record.end
    assert all(record.end <= lost.start or lost.end <= record.start for lost in before)
    lost_ranges[record.stream] = tuple(sorted((*before, record), key=lambda lost: lost.start))
    stream = streams[record.stream]
    if record.end > stream.end:
        streams[record.stream] = structs.replace(stream, end=record.end)


def trim_lost(lost_ranges: LostRanges, stream: StreamImage) -> None:
    """What lies wholly below the trim point matters to nobody any more."""
    before = lost_ranges.get(stream.stream)
    if before is not None:
        left = tuple(lost for lost in before if lost.end > stream.start)
        if left:
            lost_ranges[stream.stream] = left
        else:
            del lost_ranges[stream.stream]


def damage_wal(wals: Wals, record: WalDamaged) -> None:
    """The log is pinned."""
    wal = wals.get((record.node, record.epoch))
    if wal is not None:
        wals[record.node, record.epoch] = dataclasses.replace(wal, damage=record)


def lose_slots(wals: Wals, record: WalSlotsLost) -> None:
    """Recovery passes over the slots from now on."""
    wal = wals.get((record.node, record.epoch))
    if wal is not None:
        lost = tuple(sorted((*wal.lost, record), key=lambda slots: slots.start))
        wals[record.node, record.epoch] = dataclasses.replace(wal, lost=lost)
