"""How an object is put exactly once, under an id that was prepared for whoever puts it."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from crc32c import crc32c

from automq.runtime.turns import Pace
from automq.s3stream.model import CorruptData, StoreDamaged
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.ports import Buffer, ObjectExists, ObjectNotFound, ObjectStorage

# One ranged GET, and the checksum that is computed in one turn of the loop.
READ_BACK_BYTES: Final = 4 * 1024 * 1024
# About how long the check of a small one takes.
PIECE_US: Final = 4


async def put_object(store: ObjectStorage, key: str, body: Sequence[Buffer]) -> None:
    """Create the object, or see that an earlier try of ours did. Raises StoreDamaged, StoreError.

    Its id was prepared for us alone. If its key is taken by other bytes all the same, the id was given before: the
    metadata are behind what lies in the store, and nothing may be overwritten.
    """
    try:
        await store.create_bulk(key, body)
    except ObjectExists:
        if not await _is_ours(store, key, body):
            raise StoreDamaged(
                f"{key} exists already and is not ours, though its id was never given before: the metadata are behind "
                "what lies in the store, or the store keeps half a PUT",
                key=key,
            ) from None


async def read_back(store: ObjectStorage, key: str, pieces: Sequence[IndexEntry]) -> None:
    """See that pieces of checkpoints are in the store: some megabytes a read. Raises CorruptData, StoreError.

    They lie behind each other.
    """
    if not pieces:
        return
    end = pieces[-1].position + pieces[-1].size
    position = pieces[0].position
    unchecked, crc, pace = deque(pieces), 0, Pace()
    while position < end:
        data = memoryview(await store.get_range(key, position, min(position + READ_BACK_BYTES, end)))
        while unchecked and len(data):
            piece = unchecked[0]
            part = data[: piece.position + piece.size - position]
            crc = crc32c(part, crc)
            position, data = position + len(part), data[len(part) :]
            if position < piece.position + piece.size:
                break
            if crc != piece.crc:
                raise CorruptData(key=key, offset=piece.position, length=piece.size, what="checkpoint block")
            unchecked.popleft()
            crc = 0
            await pace.spend(PIECE_US)
        else:
            if unchecked:
                raise CorruptData(key=key, offset=position, length=end - position, what="checkpoint block")


async def _is_ours(store: ObjectStorage, key: str, body: Sequence[Buffer]) -> bool:
    """By the size and the footer, which has the checksum of the index, which has those of all blocks."""
    footer = bytes(body[-1])
    start = sum(len(buffer) for buffer in body) - len(footer)
    try:
        return bytes(await store.get_range(key, start, start + len(footer) + 1)) == footer
    except ObjectNotFound:
        return False
