"""Handing streams over: what their owner does between the wish and the new owner.

    upload      what is held is uploaded as ever, and ids for the last objects are prepared: what is left is small
    seal        nothing is appended to the streams any more; the open block is closed, with all there is of them
    release     that block's commit names them: ranges, new owners and epochs become durable together, or it says which
                streams stay
    the end     who has a new owner is closed by the image; what stays takes appends again

Once the streams are sealed nothing lifts the seal but the answer, or an image that shows that the move is gone and the
stream still ours: then no release for it can come to pass any more. However long a controller is away, nothing is
appended meanwhile. So nothing can be acknowledged that the new owner does not see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from automq.ids import NodeId, Offset, StreamEpoch, StreamId
from automq.s3stream.append_path import AppendPath
from automq.s3stream.model import StreamNotFound, StreamRelease
from automq.s3stream.ports import StreamManager
from automq.s3stream.upload.parts import OBJECTS_MAX
from automq.s3stream.upload_path import UploadPath

# More than this is uploaded before the streams are sealed, at most so many times: a producer may be faster.
SMALL_BYTES: Final = 4 * 1024 * 1024
UPLOADS_MAX: Final = 3


class SealedStream(Protocol):
    """What is needed of an open stream."""

    next_offset: Offset

    def seal(self) -> None:
        """Nothing is appended from now on."""

    def unseal(self) -> None:
        """It takes appends again."""

    def renew_checkpoint(self) -> None:
        """Its checkpoint goes with the next upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A stream of ours and the move that it is to be released for."""

    stream: StreamId
    epoch: StreamEpoch
    move: int
    opened: SealedStream | None
    """None where it is not open here: then nothing was appended at this epoch, and nothing will be."""
    renews_checkpoint: bool = True
    """False where the newest one describes its end, as long as nothing is appended."""


class Handover:
    """Releases streams of `node` with the upload of what it appended last."""

    def __init__(self, *, node: NodeId, append: AppendPath, upload: UploadPath, streams: StreamManager) -> None:
        self._node, self._append, self._upload, self._streams = node, append, upload, streams

    async def release(
        self,
        departures: Sequence[Departure],
        *,
        is_wanted: Callable[[Departure], bool],
        on_sealed: Callable[[Departure], None],
    ) -> Sequence[tuple[Departure, bool]]:
        """Release all that is still wanted when it comes to it; for each that was sealed whether it has its new owner.

        What has not is not unsealed here: whoever called may have another reason. `on_sealed` is called in the turn of
        the seal. One call at a time. Returns only with an answer, however long that takes. Raises BrokerFenced,
        StoreDamaged: then nothing is appended any more anyway.
        """
        ends: dict[StreamId, Offset] = {}
        for _ in range(UPLOADS_MAX):
            for departure in departures:
                opened = departure.opened
                if opened is None:
                    continue
                if departure.renews_checkpoint if departure.stream not in ends else self._has_grown(departure, ends):
                    opened.renew_checkpoint()
                ends[departure.stream] = opened.next_offset
            await self._upload.flush()
            if self._append.cache.open.size < SMALL_BYTES:
                break
        prepared = await self._upload.uploader.prepare(OBJECTS_MAX)
        sealed: list[Departure] = []
        releases: list[StreamRelease] = []
        # From here to the end of `seal_block` in one turn: what is sealed and what is uploaded is the same.
        for departure in departures:
            end = self._sealed_at(departure, ends) if is_wanted(departure) else None
            if end is None:
                continue
            on_sealed(departure)
            sealed.append(departure)
            releases.append(StreamRelease(stream=departure.stream, epoch=departure.epoch, move=departure.move, end=end))
        if not releases:
            return ()
        releasing = self._upload.seal_block(releases, prepared)
        if releasing is None:
            assert self._append.halted is not None
            raise self._append.halted.with_traceback(None)
        await self._upload.uploader.drain()
        return list(zip(sealed, releasing.released, strict=True))

    def _sealed_at(self, departure: Departure, ends: Mapping[StreamId, Offset]) -> Offset | None:
        """Seal it; where it ends. None when it is not ours any more. `ends` are those that were uploaded before."""
        try:
            state = self._streams.state(departure.stream)
        except StreamNotFound:
            return None
        is_open_here = self._append.is_open(departure.stream, departure.opened)
        if state.owner != self._node or state.epoch != departure.epoch or not is_open_here:
            return None
        if departure.opened is None:
            return max(state.end, state.start)
        departure.opened.seal()
        end = departure.opened.next_offset
        if self._has_grown(departure, ends):
            departure.opened.renew_checkpoint()
        return end

    def _has_grown(self, departure: Departure, ends: Mapping[StreamId, Offset]) -> bool:
        return departure.opened is not None and departure.opened.next_offset != ends[departure.stream]
