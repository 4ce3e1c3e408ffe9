"""How the ranges of one upload become objects.

An upload is one object for each retention class in it (`objects_of`): an object lives as long as the longest-lived
stream in it. All of them are one commit, which moves T: a crash between two PUTs is a crash before the upload. Only
ranges that are too many for one change of the metadata are several commits, one after the other, and the last one alone
moves T: the log still has what is not committed yet, and recovery passes over what streams' ends show to be committed.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from automq.ids import StreamId
from automq.runtime.turns import Pace
from automq.s3stream.model import KEPT, CommitTooLarge, RetentionClass


class StreamRun(Protocol):
    """Consecutive batches of one stream."""

    @property
    def stream(self) -> StreamId:
        """Whose they are."""
        ...

    @property
    def size(self) -> int:
        """Bytes of batches."""
        ...


R = TypeVar("R", bound=StreamRun)
T = TypeVar("T")

# A recorded range has 50 bytes at most, a change of the metadata some 7 MiB. Judging so many is already a long turn.
RANGES_MAX: Final = 50_000
# Each object is a PUT, and bytes of index and metadata.
OBJECTS_MAX: Final = 4
# A class with less than this share of an upload is no object of its own where a longer one takes it.
SMALL_SHARE: Final = 8
# About how long it takes to learn a stream's class.
CLASS_US: Final = 20
CLASSES_A_PART: Final = 50


async def in_commits(
    runs: Sequence[R],
    upload: Callable[[Sequence[Sequence[R]], bool], Coroutine[Any, Any, T]],
    *,
    class_of: Callable[[StreamId], RetentionClass],
    ranges_max: int | None = None,
) -> T:
    """The result of the last `upload(runs of each object of one commit, whether it is the last)`.

    What is too large for one commit is halved. `runs` are ordered by stream, and so are those of an object.
    """
    classes, pace = list[RetentionClass](), Pace()
    for first in range(0, len(runs), CLASSES_A_PART):
        classes += [class_of(run.stream) for run in runs[first : first + CLASSES_A_PART]]
        await pace.spend(CLASS_US * CLASSES_A_PART)
    commits = deque(_divided(objects_of(runs, classes), ranges_max or RANGES_MAX))
    while True:
        objects = commits.popleft()
        try:
            result = await upload(objects, not commits)
        except CommitTooLarge:
            ranges = sum(map(len, objects))
            if ranges == 1:
                raise
            commits.extendleft(reversed(_divided(objects, (ranges + 1) // 2)))
            continue
        if not commits:
            return result


def objects_of(runs: Sequence[R], classes: Sequence[RetentionClass]) -> list[list[R]]:
    """What becomes an object of its own: see `shared_classes`. Runs stay in their order; each has its class."""
    sizes: dict[RetentionClass, int] = defaultdict(int)
    for run, retention in zip(runs, classes, strict=True):
        sizes[retention] += run.size
    hosts = shared_classes(sizes)
    by_host: dict[RetentionClass, list[R]] = defaultdict(list)
    for run, retention in zip(runs, classes, strict=True):
        by_host[hosts[retention]].append(run)
    return [of_host for _, of_host in sorted(by_host.items())]


def shared_classes(sizes: Mapping[RetentionClass, int]) -> dict[RetentionClass, RetentionClass]:
    """For each class with its bytes in one upload: the class whose object it lies in, at most OBJECTS_MAX of them.

    A class that is small, or one too many, shares the object of the next longer one: it is kept a little too long then.
    What is never trimmed shares with nobody: in its object deleted data would stay for ever.
    """
    held = {retention: sizes[retention] for retention in sorted(sizes) if retention != KEPT}
    hosts = {retention: retention for retention in sizes}
    small = sum(sizes.values()) // SMALL_SHARE
    objects_max = OBJECTS_MAX - (KEPT in sizes)
    while len(held) > 1:
        *shorter, _longest = held
        least = min(shorter, key=lambda retention: (held[retention], retention))
        if held[least] >= small and len(held) <= objects_max:
            break
        longer = min(retention for retention in held if retention > least)
        held[longer] += held.pop(least)
        hosts = {retention: longer if host == least else host for retention, host in hosts.items()}
    return hosts


def _divided(objects: Sequence[Sequence[R]], ranges_max: int) -> list[list[Sequence[R]]]:
    """The objects of each commit, in order: none has more than `ranges_max` ranges."""
    commits: list[list[Sequence[R]]] = []
    room = 0
    for runs in objects:
        first = 0
        while first < len(runs):
            if not room:
                commits.append([])
                room = ranges_max
            part = runs[first : first + room]
            commits[-1].append(part)
            first += len(part)
            room -= len(part)
    return commits
