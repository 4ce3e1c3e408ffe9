"""Snapshots bound what a start has to replay, and let old slots go.

A snapshot is named after the slot it includes and holds durable state only. Rules that live here, each a function of
its own: `is_durable_state`, `below_boundary`, `is_fence`, `newest_of_each_epoch`.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.image import MetadataImage
from automq.metadata.log import MetadataLog
from automq.metadata.log_format import (
    HEADER_BYTES,
    NONCE_BYTES,
    LogPosition,
    encode_snapshot,
    log_folder,
    parse_slot_key,
    parse_snapshot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.patience import Patience
from automq.metadata.records import encode_record
from automq.metadata.snapshot_records import to_records
from automq.runtime.entropy import Entropy
from automq.s3stream.ports import ObjectInfo, ObjectStorage
from automq.s3stream.store.listing import Listed, list_own

# Encoded in one turn of the event loop: less than a millisecond's work.
BYTES_A_TURN: Final = 32 * 1024
DELETES_AT_ONCE: Final = 1000


class Snapshots:
    """Writes snapshots of one controller's log, and deletes what they make superfluous."""

    def __init__(
        self, *, store: ObjectStorage, cluster_id: ClusterId, log: MetadataLog, entropy: Entropy, patience: Patience
    ) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._log = log
        self._entropy = entropy
        self._patience = patience

    async def write(self, image: MetadataImage) -> bool:
        """Write a snapshot of `image` if it is exactly what the log durably holds; then trim. False if it is not."""
        position = self._log.durable
        if position is None or not is_durable_state(image, self._log):
            return False
        encoded: list[bytes] = []
        turn_bytes = 0
        for record in to_records(image):
            encoded.append(encode_record(record))
            turn_bytes += len(encoded[-1])
            if turn_bytes >= BYTES_A_TURN:
                turn_bytes = 0
                await asyncio.sleep(0)
        body = encode_snapshot(
            self._cluster_id,
            position,
            record_number=image.record_number,
            encoded=encoded,
            nonce=self._entropy.token(NONCE_BYTES),
        )
        key = snapshot_key(self._cluster_id, position)
        await self._patience.insist(lambda: self._store.put(key, body))
        await self.trim()
        return True

    async def trim(self) -> None:
        """Delete slots that no reader needs any more, and snapshots before the second newest. Repeats are harmless."""
        snapshots = await self._patience.insist(
            lambda: list_own(self._store, snapshot_folder(self._cluster_id), parse_snapshot_key)
        )
        if len(snapshots) < 2:
            return
        slots = await self._patience.insist(lambda: list_own(self._store, log_folder(self._cluster_id), parse_slot_key))
        keys = [listed.info.key for listed in snapshots[:-2]]
        keys.extend(superfluous_slots(slots, boundary=snapshots[-2].parsed))
        for first in range(0, len(keys), DELETES_AT_ONCE):
            some = keys[first : first + DELETES_AT_ONCE]
            await self._patience.insist(lambda some=some: self._store.delete(some))  # type: ignore[misc]


def is_durable_state(image: MetadataImage, log: MetadataLog) -> bool:
    """Rule: a snapshot holds exactly the state after the durable slot that it names."""
    return image.record_number == log.record_number


def superfluous_slots(slots: Sequence[Listed[LogPosition]], *, boundary: LogPosition) -> list[str]:
    """Keys to delete out of a listing of the whole log; what late PUTs put into trimmed ranges is among them."""
    newest = frozenset(newest_of_each_epoch(slots).values())
    return [
        listed.info.key
        for listed in slots
        if below_boundary(listed.parsed, boundary) and not is_fence(listed.info) and listed.parsed not in newest
    ]


def below_boundary(position: LogPosition, boundary: LogPosition) -> bool:
    """Rule: slots are deleted only below the snapshot before the newest."""
    return position < boundary


def is_fence(info: ObjectInfo) -> bool:
    """Rule: fences stay. A fence is a header and nothing else."""
    return info.size <= HEADER_BYTES


def newest_of_each_epoch(slots: Sequence[Listed[LogPosition]]) -> dict[ControllerEpoch, LogPosition]:
    """Rule: an epoch's newest slot is never deleted: it is what voids a fence in a trimmed slot."""
    newest: dict[ControllerEpoch, LogPosition] = {}
    for listed in slots:
        position = listed.parsed
        newest[position.epoch] = max(position, newest.get(position.epoch, position))
    return newest
