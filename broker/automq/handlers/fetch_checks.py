"""Pure: what a reader of one partition is to be told besides records, and how much there is for it."""

from collections.abc import Sequence

from automq.partition.fetch_session import FetchTarget
from automq.partition.leader_epochs import EpochEnd
from automq.partition.partition import Partition
from automq.partition.purgatory import ALL_BYTES
from automq.partition.replica import Readable
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.model import StreamError


def needs_checks(target: FetchTarget, partition: Readable) -> bool:
    """Whether a reader at the high watermark may be refused or told something."""
    return (
        target.last_fetched_epoch >= 0
        or partition.quarantine is not None
        or partition.is_replica
        or (target.leader_epoch != partition.leader_epoch and target.leader_epoch >= 0)
    )


def are_quiet(targets: Sequence[FetchTarget]) -> bool:
    """Whether their client reads at the high watermarks that it was told of, and nothing else is to be said."""
    for target in targets:
        partition: Partition | None = target.partition_ref()
        if (
            partition is None
            or not partition.is_open
            or (end := partition.high_watermark) != target.fetch_offset
            or end != target.sent_high_watermark
            or partition.log_start_offset != target.sent_log_start
            or needs_checks(target, partition)
        ):
            return False
    return True


def check(target: FetchTarget, partition: Readable) -> EpochEnd | None:
    """Where the client's log diverges from ours, if it does. Raises ApiError, DataMissing."""
    partition.check_leader_epoch(target.leader_epoch)
    offset = target.fetch_offset
    if target.last_fetched_epoch >= 0:
        end = partition.epoch_end(target.last_fetched_epoch)
        if end.epoch < 0 or end.end_offset < 0:
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE, f"epoch {target.last_fetched_epoch} is not known")
        if end.epoch < target.last_fetched_epoch or end.end_offset < offset:
            return end
    if partition.quarantine is not None:
        partition.check_end(offset)
    partition.check_offset(offset)
    return None


def available_bytes(target: FetchTarget, partition: Readable, *, bytes_max: int) -> int | None:
    """Bytes that the target could be given now, counted up to `bytes_max`; None when there is something to tell.

    Negative where the high watermark is before the fetch offset. Something to tell is also that records are not in
    memory: who reads old data waits for no new ones.
    """
    try:
        if check(target, partition) is not None:
            return None
    except (ApiError, StreamError):
        return None
    end = partition.high_watermark
    if target.fetch_offset > end:
        # What has to become durable first is counted when it does.
        before = partition.bytes_available(end, end=target.fetch_offset, bytes_max=ALL_BYTES)
        return None if before is None else -before
    return partition.bytes_available(target.fetch_offset, bytes_max=bytes_max)
