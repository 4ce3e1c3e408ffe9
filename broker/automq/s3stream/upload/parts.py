"""How the ranges of one upload become objects, and how an object is put exactly once.

An upload is one object and one commit for each retention class in it: an object lives as long as the longest-lived
stream in it, so streams that are never trimmed must not share one with those that are. Ranges that are too many for one
change of the metadata are several objects, too. Objects of one upload are committed one after the other, and only the
last one moves T. A crash between two of them is a crash before the upload for what is not committed yet: the log still
has it all, and recovery passes over what streams' ends show to be committed.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from automq.ids import StreamId
from automq.s3stream.model import CommitTooLarge, RetentionClass, StoreDamaged
from automq.s3stream.ports import Buffer, ObjectExists, ObjectNotFound, ObjectStorage


class StreamRun(Protocol):
    """Consecutive batches of one stream."""

    @property
    def stream(self) -> StreamId:
        """Whose they are."""
        ...


R = TypeVar("R", bound=StreamRun)
T = TypeVar("T")

# A recorded range has 50 bytes at most, a change of the metadata some 7 MiB. Judging so many is already a long turn.
RANGES_MAX: Final = 50_000


async def in_parts(
    runs: Sequence[R],
    upload: Callable[[Sequence[R], bool], Coroutine[Any, Any, T]],
    *,
    class_of: Callable[[StreamId], RetentionClass],
    ranges_max: int | None = None,
) -> T:
    """The result of the last `upload(runs of one part, whether it is the last)`; a part that is too large is halved.

    No part mixes retention classes.
    """
    most = ranges_max or RANGES_MAX
    by_class: dict[RetentionClass, list[R]] = defaultdict(list)
    for run in runs:
        by_class[class_of(run.stream)].append(run)
    parts = deque(
        of_class[first : first + most]
        for _, of_class in sorted(by_class.items())
        for first in range(0, len(of_class), most)
    )
    while True:
        part = parts.popleft()
        try:
            result = await upload(part, not parts)
        except CommitTooLarge:
            if len(part) == 1:
                raise
            middle = len(part) // 2
            parts.extendleft((part[middle:], part[:middle]))
            continue
        if not parts:
            return result


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
