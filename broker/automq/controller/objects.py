"""Pure: the life of an object: prepared, committed, destroyed, deleted. The commit itself is judged in `commit_check`.

An object is destroyed when nothing refers to it (all its records lie below trim points or in deleted streams, and no
stream's newest checkpoint is in it), or when it was prepared and nobody committed it in time. Ids are never reused.
"""

from collections.abc import Sequence
from typing import Final

from automq.controller.brokers import check_alive
from automq.ids import BrokerEpoch, NodeId, ObjectId
from automq.metadata.image import MetadataImage
from automq.metadata.records import MetadataRecord, ObjectsDeleted, ObjectsDestroyed, ObjectsPrepared
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision

# One upload prepares a handful; a caller that asks for more is broken.
PREPARE_MAX: Final = 10_000
# In one record: keeps a record and a listing of deletes small.
SWEEP_MAX: Final = 1_000


def prepare_objects(
    image: MetadataImage, node: NodeId, epoch: BrokerEpoch, count: int, *, now_ms: int, expiry_ms: int
) -> Decision[MetadataRecord, Sequence[ObjectId]]:
    """Fresh ids that may be committed until they expire."""
    check_alive(image, node, epoch)
    if not 0 < count <= PREPARE_MAX:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{count} object ids asked for; 1 to {PREPARE_MAX} are given at once")
    first = image.next_object
    record = ObjectsPrepared(first=first, count=count, node=node, epoch=epoch, expires_ms=now_ms + expiry_ms)
    return Decision((record,), [ObjectId(number) for number in range(first, first + count)])


def destroy_superfluous(image: MetadataImage, *, now_ms: int) -> Decision[MetadataRecord, int]:
    """Mark what nothing refers to, and what expired; at most SWEEP_MAX a time."""
    expired = [number for number, prepared in image.prepared.items() if prepared.expires_ms <= now_ms]
    doomed = sorted([*image.unreferenced, *expired])[:SWEEP_MAX]
    if not doomed:
        return Decision((), 0)
    return Decision((ObjectsDestroyed(objects=tuple(doomed), at_ms=now_ms),), len(doomed))


def deletable(image: MetadataImage, *, now_ms: int, grace_ms: int) -> Sequence[ObjectId]:
    """Destroyed objects whose grace period is over: nobody reads them any more; at most SWEEP_MAX."""
    over = [number for number, destroyed in image.destroyed.items() if destroyed.destroyed_ms + grace_ms <= now_ms]
    return sorted(over)[:SWEEP_MAX]


def objects_deleted(image: MetadataImage, objects: Sequence[ObjectId]) -> Decision[MetadataRecord, None]:
    """Their bytes are gone."""
    gone = tuple(number for number in objects if number in image.destroyed)
    return Decision((ObjectsDeleted(objects=gone),) if gone else (), None)
