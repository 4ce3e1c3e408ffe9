"""Looks at the write-ahead logs that nobody has recovered yet: the part of `automq fsck` that asks whether acknowledged
records are gone.

The rules are those of recovery (`s3stream.recovery`): what lies below a mark was durable. A log that somebody writes
meanwhile grows and is trimmed while it is looked at; so what is missing is looked for again, with the metadata's T as
it is then still below it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from automq.controller.failover import affected_streams
from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.metadata.image import MetadataImage, WalImage
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.listing import list_own
from automq.s3stream.wal.format import SLOT_HEADER_BYTES, SlotId, SlotKind, parse_slot_key, peek_header
from automq.server.tools.findings import Affected, Finding, Severity, affected

# Partitions that are named one by one; the rest is counted.
NAMED_MAX: Final = 100
# Missing slots that are named one by one in one log.
HOLES_MAX: Final = 1000

_REMEDY: Final = (
    "put the key back from a backup or an older version of the bucket and start the broker; or stop it and give the "
    "slot up: `automq repair STORE --lose-slot {key}`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSlot:
    """What was seen of one slot."""

    mark: int | None
    """Every slot below was durable; None where it does not say."""
    is_fence: bool
    error: str | None
    """Why it does not decode; None when it does, or was not read whole."""


async def examine_logs(
    store: ObjectStorage, cluster_id: ClusterId, image: MetadataImage, *, deep: bool
) -> list[Finding]:
    """One finding for each slot that is missing or damaged in a log that is not recovered. Raises StoreError."""
    by_log: dict[tuple[NodeId, BrokerEpoch], list[SlotId]] = defaultdict(list)
    for listed in await list_own(store, f"{cluster_id}/wal/", parse_slot_key):
        by_log[listed.parsed.node, listed.parsed.epoch].append(listed.parsed)
    findings: list[Finding] = []
    for (node, epoch), wal in sorted(image.wals.items()):
        slots = [slot for slot in by_log.get((node, epoch), []) if slot.sequence >= wal.trim_to]
        seen = {
            slot.sequence: found for slot in slots if (found := await _read_slot(store, slot, deep=deep)) is not None
        }
        parts = _affected(image, wal)
        for sequence, what in examine_run(seen, wal):
            slot = SlotId(cluster_id=cluster_id, node=node, epoch=epoch, sequence=sequence)
            if sequence in seen or await _is_missing(store, slot):
                findings.append(
                    Finding(
                        severity=Severity.DAMAGE,
                        key=slot.key,
                        what=what,
                        remedy=_REMEDY.format(key=slot.key),
                        affected=parts,
                    )
                )
    return findings


def examine_run(seen: Mapping[int, SeenSlot], wal: WalImage) -> Sequence[tuple[int, str]]:
    """Pure: which slots of a log are damaged or missing, and what is known of them.

    `seen` are the slots at or above T. What lies above a fence, and what a person gave up, does not count.
    """
    given_up = [(lost.start, lost.end) for lost in wal.lost]
    fence = min((sequence for sequence, slot in seen.items() if slot.is_fence), default=None)
    in_log = {sequence: slot for sequence, slot in seen.items() if fence is None or sequence <= fence}
    mark = max((slot.mark for slot in seen.values() if slot.mark is not None and slot.error is None), default=0)
    found: list[tuple[int, str]] = []
    for sequence, slot in sorted(in_log.items()):
        if slot.error is not None:
            known = (
                "it may have been acknowledged: a later slot shows that it was durable"
                if sequence < mark
                else "nothing shows that it was acknowledged"
            )
            found.append((sequence, f"{slot.error}; {known}"))
    for sequence in range(wal.trim_to, mark):
        if sequence not in seen and (fence is None or sequence < fence):
            found.append((sequence, "the slot is missing, though a later one shows that it was durable"))
            if len(found) >= HOLES_MAX:
                break
    return sorted(
        (sequence, what)
        for sequence, what in found
        if not any(start <= sequence and (end is None or sequence < end) for start, end in given_up)
    )


async def _read_slot(store: ObjectStorage, slot: SlotId, *, deep: bool) -> SeenSlot | None:
    """None when it is gone by now."""
    try:
        data = await (store.get(slot.key) if deep else store.get_range(slot.key, 0, SLOT_HEADER_BYTES))
    except ObjectNotFound:
        return None
    header = None
    try:
        header = peek_header(slot, data)
        if header is None:
            raise CorruptData(key=slot.key, offset=0, length=len(data), what="WAL slot header")
        if deep:
            slot.decode(data)
    except (CorruptData, FormatTooNew) as error:
        return SeenSlot(mark=None if header is None else header.mark, is_fence=False, error=str(error))
    return SeenSlot(mark=header.mark, is_fence=header.kind is SlotKind.FENCE, error=None)


async def _is_missing(store: ObjectStorage, slot: SlotId) -> bool:
    try:
        await store.get_range(slot.key, 0, 1)
    except ObjectNotFound:
        return True
    return False


def _affected(image: MetadataImage, wal: WalImage) -> tuple[Affected, ...]:
    """Partitions that the log may hold acknowledged records of."""
    return tuple(
        affected(image, stream, state.next_offset, None)
        for stream in affected_streams(image, wal)[:NAMED_MAX]
        if (state := image.stream(stream)) is not None
    )
