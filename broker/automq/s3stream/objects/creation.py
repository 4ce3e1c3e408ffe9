"""How an object is put exactly once, under an id that was prepared for whoever puts it."""

from collections.abc import Sequence

from automq.s3stream.model import StoreDamaged
from automq.s3stream.ports import Buffer, ObjectExists, ObjectNotFound, ObjectStorage


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


async def _is_ours(store: ObjectStorage, key: str, body: Sequence[Buffer]) -> bool:
    """By the size and the footer, which has the checksum of the index, which has those of all blocks."""
    footer = bytes(body[-1])
    start = sum(len(buffer) for buffer in body) - len(footer)
    try:
        return bytes(await store.get_range(key, start, start + len(footer) + 1)) == footer
    except ObjectNotFound:
        return False
