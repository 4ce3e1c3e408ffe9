"""One round of retention: partitions that have something to forget do so together, by one change of the metadata."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from automq.ids import Offset
from automq.partition.partition import Partition
from automq.protocol.errors import ApiError
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.turns import Pace
from automq.runtime.wall_time import WallTimeGuard
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError
from automq.s3stream.storage import Storage

log = logging.getLogger(__name__)

# Partitions whose starts move by one change of the metadata.
TRIMS_MAX: Final = 500
# What may happen to one partition at retention: the next round does it.
PUT_OFF_BY: Final = (StreamError, StoreError, LogFailed, LogFenced, ApiError)
# About how long a look at one partition takes.
LOOK_US: Final = 60


async def retain(
    partitions: Iterable[Partition],
    storage: Storage,
    *,
    aging: WallTimeGuard,
    producer_id_expiration_ms: int,
    ranges_of: Callable[[Partition], int] = lambda _partition: 0,
) -> int:
    """Records and producers that are too old go; the most objects that hold one of the partitions.

    Most partitions have nothing to forget, and cost no more than a look at their oldest segment.
    """
    pace, due, ranges = Pace(), list[tuple[Partition, Offset]](), 0
    for partition in partitions:
        now_ms = aging.aging_ms()
        await partition.expire_producers(now_ms, producer_id_expiration_ms)
        await _renew_checkpoint(partition)
        retained_from = _retained_from(partition, now_ms)
        if retained_from is not None:
            due.append((partition, retained_from))
        if len(due) == TRIMS_MAX:
            await _forget_all(storage, due)
            due.clear()
        ranges = max(ranges, ranges_of(partition))
        await pace.spend(LOOK_US)
    await _forget_all(storage, due)
    return ranges


async def _renew_checkpoint(partition: Partition) -> None:
    try:
        await partition.renew_checkpoint()
    except PUT_OFF_BY as error:
        log.info("the checkpoint of %s is not written anew: %s", partition.name, error)


def _retained_from(partition: Partition, now_ms: int) -> Offset | None:
    """None when everything is kept."""
    try:
        retained_from = partition.retained_from(now_ms)
    except PUT_OFF_BY as error:
        log.info("retention of %s is put off: %s", partition.name, error)
        return None
    return retained_from if retained_from > partition.log_start_offset else None


async def _forget_all(storage: Storage, due: Sequence[tuple[Partition, Offset]]) -> None:
    try:
        refused = await forget(storage, due)
    except PUT_OFF_BY as error:
        log.info("retention of %d partitions is put off: %s", len(due), error)
        return
    for partition, why in refused:
        log.info("retention of %s is put off: %s", partition.name, why)


async def forget(storage: Storage, wanted: Sequence[tuple[Partition, Offset]]) -> Sequence[tuple[Partition, Exception]]:
    """Partitions forget what lies below the offsets, by one change; those that do not, and why.

    What was quarantined or closed since it was looked at keeps everything. Raises what the controller raises.
    """
    wanted = [(partition, start) for partition, start in wanted if partition.is_open and not partition.is_quarantined]
    if not wanted:
        return ()
    results = await storage.trim([(partition.stream, start) for partition, start in wanted])
    refused: list[tuple[Partition, Exception]] = []
    for (partition, _), error in zip(wanted, results, strict=True):
        if error is None:
            partition.trimmed()
        else:
            refused.append((partition, error))
    return refused
