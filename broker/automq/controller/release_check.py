"""Pure: may these streams be handed over with this commit. The commit's ranges are judged in `commit_check` before.

Each stream alone; one that is refused stays with its owner, and its move is void:

    the stream is deleted                                                                   void
    its current move is another one, or there is none (fenced, cancelled, replaced)         void
    the committing incarnation is not the move's source, or does not own it at that epoch   void
    the target is not the current incarnation of its node, or is fenced or stopping         void
    something of it may lie in a damaged log, or a person has to look at it                 void
    a range of it was refused, or it does not end, behind all ranges, where it was sealed   void
    else: its owner is the target, under the next epoch, in this very append
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from automq.ids import Offset, StreamEpoch, StreamId
from automq.metadata.image import MetadataImage, MoveImage, StreamImage
from automq.metadata.move_records import NamedMove, ReleasedStream, StreamsReleased
from automq.s3stream.model import CommitRequest, StreamRelease


def judge_releases(
    image: MetadataImage, request: CommitRequest, ends: Mapping[StreamId, Offset], refused: AbstractSet[StreamId]
) -> StreamsReleased:
    """What becomes of `request.releasing`. `ends` are the streams' ends behind the ranges of this very commit."""
    released: list[ReleasedStream] = []
    unreleased: list[NamedMove] = []
    for release in request.releasing:
        stream = image.stream(release.stream)
        move = image.moves.get(release.stream)
        if (
            stream is None
            or move is None
            or not is_current_move(move, release)
            or not is_released_by_owner(stream, move, request, release)
            or not is_target_alive(image, move)
            or image.quarantine(release.stream)
            or release.stream in refused
            or not is_whole(stream, release, ends.get(release.stream, stream.end))
        ):
            unreleased.append(NamedMove(stream=release.stream, move=release.move))
            continue
        target, target_epoch = move.target
        released.append(
            ReleasedStream(
                stream=release.stream,
                move=release.move,
                end=release.end,
                target=target,
                target_epoch=target_epoch,
                epoch=StreamEpoch(stream.epoch + 1),
            )
        )
    return StreamsReleased(request.node, request.epoch, tuple(released), tuple(unreleased))


def is_current_move(move: MoveImage, release: StreamRelease) -> bool:
    """Clause: a release is for the stream's current move; one that was cancelled or replaced moves nothing."""
    return move.move == release.move


def is_released_by_owner(stream: StreamImage, move: MoveImage, request: CommitRequest, release: StreamRelease) -> bool:
    """Clause: only the incarnation that the move names as its source releases, at the stream's current epoch.

    A recoverer gives streams on by another way.
    """
    is_source = request.recoverer is None and move.source == (request.node, request.epoch)
    return is_source and stream.belongs_to(request.node, request.epoch) and stream.epoch == release.epoch


def is_target_alive(image: MetadataImage, move: MoveImage) -> bool:
    """Clause: nothing is handed to an incarnation that is fenced or superseded: nobody would ever open it."""
    node, epoch = move.target
    broker = image.broker(node)
    return broker is not None and broker.epoch == epoch and not broker.fenced and not broker.stopping


def is_whole(stream: StreamImage, release: StreamRelease, end: Offset) -> bool:
    """Clause: what the owner has acknowledged is committed: the stream ends where it was sealed, or was trimmed to."""
    return max(end, stream.start) == release.end


def is_same(releasing: Sequence[StreamRelease], image_moves: Sequence[NamedMove]) -> bool:
    """Whether these are the moves that a commit was to release."""
    asked = {(release.stream, release.move) for release in releasing}
    return asked == {(named.stream, named.move) for named in image_moves}
