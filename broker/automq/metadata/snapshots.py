"""Snapshots bound what a start has to replay, and let old slots go.

A snapshot is named after the slot it includes and holds durable state only. It is read back before anything is deleted
on its strength: slots go only below the older of two snapshots that were found whole.

Rules that live here, each a function of its own: `is_durable_state`, `below_boundary`, `is_fence`,
`newest_of_each_epoch`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.image import MetadataImage
from automq.metadata.log import MetadataLog
from automq.metadata.log_format import (
    HEADER_BYTES,
    NONCE_BYTES,
    LogPosition,
    log_folder,
    parse_slot_key,
    parse_snapshot_key,
    snapshot_folder,
    snapshot_key,
)
from automq.metadata.patience import Patience
from automq.metadata.snapshot_format import SnapshotCheck, encode_snapshot
from automq.metadata.snapshot_records import to_records
from automq.runtime.budget import BorrowingBudget, ByteBudget
from automq.runtime.entropy import Entropy
from automq.runtime.turns import in_turns
from automq.s3stream.model import StoreDamaged
from automq.s3stream.ports import ObjectInfo, ObjectNotFound, ObjectStorage
from automq.s3stream.store.listing import Listed, list_own

log = logging.getLogger(__name__)

DELETES_AT_ONCE: Final = 1000
# What is read back is held a piece at a time, however large the snapshot is.
PIECE_BYTES: Final = 1 << 20
UNLIMITED: Final = 1 << 62


class Snapshots:
    """Writes snapshots of one controller's log, and deletes what they make superfluous."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        log: MetadataLog,
        entropy: Entropy,
        patience: Patience,
        on_damage: Callable[[StoreDamaged], None] = lambda _error: None,
        memory: BorrowingBudget | None = None,
    ) -> None:
        """`on_damage` is called once for every snapshot found damaged; `memory` counts what is held of them."""
        self._memory = BorrowingBudget(UNLIMITED, ByteBudget(0)) if memory is None else memory
        self._is_too_large = False
        self._store = store
        self._cluster_id = cluster_id
        self._log = log
        self._entropy = entropy
        self._patience = patience
        self._on_damage = on_damage
        self._verified: set[LogPosition] = set()
        self._damaged: set[LogPosition] = set()

    async def write(self, image: MetadataImage) -> bool:
        """Write a snapshot of `image` if it is exactly what the log durably holds; then trim. False if it is not.

        One that reads back damaged is told of, and lets nothing be deleted.
        """
        position = self._log.durable
        if position is None or not is_durable_state(image, self._log):
            return False
        with self._memory.counting() as held:
            body = await in_turns(
                encode_snapshot(
                    self._cluster_id,
                    position,
                    record_number=image.record_number,
                    records=to_records(image),
                    nonce=self._entropy.token(NONCE_BYTES),
                    on_bytes=held,
                )
            )
            self._report_size()
            key = snapshot_key(self._cluster_id, position)
            await self._patience.retry_forever(lambda: self._store.put(key, body))
        await self.trim()
        return True

    def _report_size(self) -> None:
        """Rule: it is written however large it is, for a log without snapshots grows for ever. Reported once."""
        unmet = self._memory.unmet
        if unmet and not self._is_too_large:
            log.warning(
                "a snapshot of the metadata takes more memory than its account and the block cache have: raise "
                "automq.memory.bytes",
                extra={"held": self._memory.used, "limit": self._memory.limit, "missing": unmet},
            )
        self._is_too_large = unmet > 0

    async def trim(self) -> None:
        """Delete slots that no reader needs any more, and snapshots that nobody falls back to. Repeats are harmless."""
        snapshots = await self._patience.retry_forever(
            lambda: list_own(self._store, snapshot_folder(self._cluster_id), parse_snapshot_key)
        )
        boundary = await self._boundary([listed.parsed for listed in snapshots])
        if boundary is None:
            return
        slots = await self._patience.retry_forever(
            lambda: list_own(self._store, log_folder(self._cluster_id), parse_slot_key)
        )
        keys = [listed.info.key for listed in snapshots if listed.parsed < boundary]
        keys.extend(superfluous_slots(slots, boundary=boundary))
        for first in range(0, len(keys), DELETES_AT_ONCE):
            some = keys[first : first + DELETES_AT_ONCE]
            await self._patience.retry_forever(lambda some=some: self._store.delete(some))  # type: ignore[misc]

    async def _boundary(self, positions: Sequence[LogPosition]) -> LogPosition | None:
        """The second newest of those snapshots that are whole; None when there are no two."""
        self._verified.intersection_update(positions)
        self._damaged.intersection_update(positions)
        whole = 0
        for position in sorted(positions, reverse=True):
            whole += await self._is_whole(position)
            if whole == 2:
                return position
        return None

    async def _is_whole(self, position: LogPosition) -> bool:
        """Rule: read back before anything is deleted on its strength. What was whole once is not read again."""
        if position in self._verified:
            return True
        if position in self._damaged:
            return False
        key = snapshot_key(self._cluster_id, position)
        check, read = SnapshotCheck(self._cluster_id, position), 0
        try:
            while True:
                start = read
                piece = await self._patience.retry_forever(
                    lambda start=start: self._store.get_range(key, start, start + PIECE_BYTES)  # type: ignore[misc]
                )
                read += len(piece)
                with self._memory.counting(len(piece)):
                    if not await in_turns(check.add(piece, is_last=len(piece) < PIECE_BYTES)):
                        break
        except ObjectNotFound:
            return False
        except StoreDamaged as error:
            self._damaged.add(position)
            log.error(
                "a snapshot of the metadata is damaged: nothing is deleted on its strength; look at the store",
                extra={"key": key, "why": str(error)},
            )
            self._on_damage(error)
            return False
        self._verified.add(position)
        return True


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
