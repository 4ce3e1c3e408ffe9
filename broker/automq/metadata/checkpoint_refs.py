"""Pure: where the pieces of a stream's checkpoints lie, oldest first, packed: 16 bytes each.

Each piece is an object's id and the offset that it describes, both u64, big-endian.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NewType

from automq.ids import ObjectId, Offset

CheckpointRefs = NewType("CheckpointRefs", bytes)

NO_CHECKPOINT: Final = CheckpointRefs(b"")
_REF: Final = struct.Struct(">QQ")


def unpack_refs(refs: CheckpointRefs) -> Iterator[tuple[ObjectId, Offset]]:
    """All of them."""
    for object_id, offset in _REF.iter_unpack(refs):
        yield ObjectId(object_id), Offset(offset)


def newest_ref(refs: CheckpointRefs) -> tuple[ObjectId, Offset] | None:
    """The newest one."""
    if not refs:
        return None
    object_id, offset = _REF.unpack_from(refs, len(refs) - _REF.size)
    return ObjectId(object_id), Offset(offset)


def one_ref(object_id: ObjectId, offset: Offset) -> CheckpointRefs:
    """A single one."""
    return CheckpointRefs(_REF.pack(object_id, offset))


def with_piece(
    refs: CheckpointRefs, object_id: ObjectId, offset: Offset, *, kept: int
) -> tuple[CheckpointRefs, Sequence[ObjectId]]:
    """Those and a newer one, `kept` of them in all; and the objects of those that are not kept, one for each."""
    assert kept > 0
    whole = refs + _REF.pack(object_id, offset)
    cut = len(whole) - kept * _REF.size
    if cut <= 0:
        return CheckpointRefs(whole), ()
    dropped = [dropped_id for dropped_id, _ in unpack_refs(CheckpointRefs(whole[:cut]))]
    return CheckpointRefs(whole[cut:]), dropped


def check_refs(refs: bytes) -> CheckpointRefs:
    """What was read from a snapshot, if it is such a value. Raises ValueError."""
    if len(refs) % _REF.size:
        raise ValueError(f"{len(refs)} bytes are no places of checkpoints")
    return CheckpointRefs(refs)
