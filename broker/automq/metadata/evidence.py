"""What a cluster's folder says of its metadata log, whatever the log says itself: a lost tail leaves traces elsewhere.

A log that lost its newest slots reads as a shorter log, and everything that rests on it goes back in time: object ids
are given twice, the write-ahead log is trimmed where it must not be. So before anything is claimed, what else is there
is compared with it. Each trace was written after the record that it follows from:

    trace                                               the log must have
    a slot of a write-ahead log, of (node, epoch)       the registration of a broker at that epoch or above
    an object                                           the record that prepared its id
    a lease, or a claim, that names a record number     at least as many records
    any of these                                        slots or a snapshot, and the folder a claim

Traces are taken before the log is read (the log only grows), objects after it, twice where one is found. What leaves no
trace cannot be noticed: the newest slots, when nothing was done with what they say.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId, ControllerEpoch, ObjectId
from automq.metadata.claim import NO_EPOCH, Claim, read_claim
from automq.metadata.lease import LeaseContent, decode_lease, lease_key
from automq.metadata.loader import Loaded
from automq.metadata.log_format import (
    claim_folder,
    claim_key,
    log_folder,
    parse_claim_key,
    parse_slot_key,
    parse_snapshot_key,
    slot_key,
    snapshot_folder,
)
from automq.metadata.patience import Patience
from automq.s3stream.model import StoreDamaged
from automq.s3stream.objects.format import object_folder, object_key, parse_object_key
from automq.s3stream.ports import ObjectNotFound, ObjectStorage
from automq.s3stream.store.layout import CLUSTER_KEY, parse_key
from automq.s3stream.store.listing import list_own
from automq.s3stream.wal.format import SlotId
from automq.s3stream.wal.format import parse_slot_key as parse_wal_slot_key

# Objects that a lost tail may have prepared: some of the first ids after the known ones were used, if any was.
PROBES: Final = 8
PAGE_KEYS: Final = 100
RESTORE: Final = "put them back from a backup or an older version of the bucket; nothing was touched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What was found beside the log."""

    cluster_id: ClusterId
    newest_wal: SlotId | None
    """A slot of the highest broker epoch."""
    an_object: str | None
    lease: LeaseContent | None
    has_log: bool
    """There are slots or snapshots."""
    claimed: ControllerEpoch | None
    """The newest claim; None when there is none at all."""
    claim: Claim | None
    """What the newest claim says, where that can be read."""

    @property
    def epoch(self) -> ControllerEpoch:
        """The highest controller epoch that claims and the lease know of."""
        lease = NO_EPOCH if self.lease is None or self.lease.record_number is None else self.lease.epoch
        return max(self.claimed or NO_EPOCH, lease)

    @property
    def records(self) -> tuple[int, str]:
        """How many records the log had at least, and the key that says so."""
        lease = 0 if self.lease is None else self.lease.record_number or 0
        claim = 0 if self.claim is None else self.claim.record_number or 0
        if claim > lease:
            return claim, claim_key(self.cluster_id, self.claimed or NO_EPOCH)
        return lease, lease_key(self.cluster_id)


async def find_traces(store: ObjectStorage, cluster_id: ClusterId, patience: Patience) -> Traces:
    """Look, what follows from something before what it follows from: a cluster may be at work meanwhile."""
    wal = await patience.retry_forever(lambda: list_own(store, f"{cluster_id}/wal/", parse_wal_slot_key))
    objects = await patience.retry_forever(
        lambda: list_own(store, object_folder(cluster_id), parse_object_key, limit=1)
    )
    lease = await _get(store, lease_key(cluster_id), patience)
    slots = await patience.retry_forever(lambda: list_own(store, log_folder(cluster_id), parse_slot_key, limit=1))
    snapshots = await patience.retry_forever(
        lambda: list_own(store, snapshot_folder(cluster_id), parse_snapshot_key, limit=1)
    )
    claims = await patience.retry_forever(lambda: list_own(store, claim_folder(cluster_id), parse_claim_key))
    claimed = max((claim.parsed for claim in claims), default=None)
    return Traces(
        cluster_id=cluster_id,
        newest_wal=max((listed.parsed for listed in wal), key=lambda slot: slot.epoch, default=None),
        an_object=objects[0].info.key if objects else None,
        lease=None if lease is None else decode_lease(lease),
        has_log=bool(slots or snapshots),
        claimed=claimed,
        claim=None if claimed is None else await read_claim(store, cluster_id, claimed, patience),
    )


async def find_clusters(store: ObjectStorage) -> Sequence[ClusterId]:
    """Clusters whose folders the prefix holds, whatever the key `cluster` says. Raises StoreError."""
    found: list[ClusterId] = []
    start_after = ""
    while True:
        infos = await store.list("", start_after=start_after, limit=PAGE_KEYS)
        for info in infos:
            start_after = info.key
            parsed = parse_key(info.key)
            if parse_claim_key(info.key) == NO_EPOCH:
                # Of itself it is what a format left that did not end.
                continue
            if parsed is not None and parsed.cluster_id is not None:
                found.append(parsed.cluster_id)
                start_after = f"{parsed.cluster_id}/~"
                break
        else:
            if len(infos) < PAGE_KEYS:
                return found


def check_layout(traces: Traces, others: Sequence[ClusterId]) -> None:
    """Rule: absence is no emptiness. `others` are further clusters' folders. Raises StoreDamaged."""
    cluster_id = traces.cluster_id
    left = next(
        (found for found in (traces.newest_wal and traces.newest_wal.key, traces.an_object) if found is not None), None
    )
    if traces.claimed is None:
        folder = claim_folder(cluster_id)
        if others:
            raise StoreDamaged(
                f"the key `{CLUSTER_KEY}` names cluster {cluster_id}, of which there is no claim, while the prefix "
                f"holds the folder of cluster {', '.join(others)}: correct the cluster id in the key",
                key=CLUSTER_KEY,
            )
        what = f"while {left} exists" if left else "while the log exists" if traces.has_log else "nor anything else"
        raise StoreDamaged(
            f"there is no claim of cluster {cluster_id} below {folder}, {what}: its keys were removed; {RESTORE}. "
            f"If the cluster is to be given up, `automq erase --cluster-id {cluster_id}` removes the rest",
            key=folder,
        )
    records, source = traces.records
    if not traces.has_log and (left is not None or records):
        folder = log_folder(cluster_id)
        raise StoreDamaged(
            f"the metadata log of cluster {cluster_id} is gone: there is no slot below {folder}, while "
            f"{left if left is not None else f'{source} names {records} records of it'}; {RESTORE}",
            key=folder,
        )


def check_tail(traces: Traces, loaded: Loaded) -> None:
    """Rule: a log that is shorter than what followed from it has lost its end. Raises StoreDamaged."""
    image, slot = loaded.image, traces.newest_wal
    records, source = traces.records
    if records > image.record_number:
        raise _lost_tail(traces, loaded, f"{source} names {records} records, {image.record_number} are there")
    if slot is not None and slot.epoch >= image.next_broker_epoch:
        raise _lost_tail(
            traces, loaded, f"{slot.key} is of broker epoch {slot.epoch}, and {image.next_broker_epoch} comes next"
        )


async def check_objects(store: ObjectStorage, traces: Traces, loaded: Loaded, patience: Patience) -> str | None:
    """An object that no record prepared: the log has lost its end, or went on since. None: there is none."""
    first = loaded.image.next_object
    keys = [object_key(traces.cluster_id, ObjectId(number)) for number in range(first, first + PROBES)]

    async def exists(key: str) -> bool:
        try:
            await patience.retry_forever(lambda: store.get_range(key, 0, 1))
        except ObjectNotFound:
            return False
        return True

    found = await asyncio.gather(*map(exists, keys))
    return next((key for key, is_there in zip(keys, found, strict=True) if is_there), None)


def unknown_object(traces: Traces, loaded: Loaded, key: str) -> StoreDamaged:
    """What `check_objects` found twice with the same log."""
    return _lost_tail(traces, loaded, f"{key} exists, and no record prepared it")


def _lost_tail(traces: Traces, loaded: Loaded, what: str) -> StoreDamaged:
    key = slot_key(traces.cluster_id, loaded.end)
    return StoreDamaged(
        f"the metadata log of cluster {traces.cluster_id} has lost its newest slots, from {key} on: {what}; {RESTORE}",
        key=key,
    )


async def _get(store: ObjectStorage, key: str, patience: Patience) -> bytes | None:
    try:
        return await patience.retry_forever(lambda: store.get(key))
    except ObjectNotFound:
        return None
