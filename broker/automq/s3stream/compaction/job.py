"""What one compaction is to do, and its form on a wire: whoever plans it need not be the process that does it.

A job reads pieces of committed objects and writes new ones. It decides nothing: which pieces may replace which is the
planner's and, when it is done, the compaction check's business.
"""

from typing import Final

import msgspec

from automq.ids import ClusterId, ObjectId, Offset, StreamId

VERSION: Final = 2


class Source(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object that is read."""

    object_id: ObjectId
    size: int


class Piece(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Offsets [start, end) of one stream, as one source holds them."""

    stream: StreamId
    source: int
    """Its place among the job's sources."""
    start: Offset
    end: Offset


class Output(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object that is written: `pieces` ascend by (stream, start)."""

    object_id: ObjectId
    pieces: tuple[Piece, ...]


class CompactionJob(msgspec.Struct, frozen=True, array_like=True):
    """All of it. Outputs ascend by the streams they begin with, so that each source is read from front to end once."""

    version: int
    cluster_id: ClusterId
    sources: tuple[Source, ...]
    outputs: tuple[Output, ...]
    bytes_per_second: int
    """How fast sources are read; 0: as fast as they come."""


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where in an output the blocks of one stream lie, one behind the other."""

    position: int
    size: int


class WrittenObject(msgspec.Struct, frozen=True, array_like=True):
    """An output that was put, and what each of its streams has there, in their order."""

    size: int
    shares: tuple[Share, ...]


class Written(msgspec.Struct, frozen=True, array_like=True):
    """What became of a job: its outputs, in their order; or why there are none."""

    objects: tuple[WrittenObject, ...] = ()
    damaged: str | None = None
    """The key of a source that is damaged or missing: the same job fails again."""
    error: str | None = None


class FormatMismatch(Exception):
    """The worker is of another release than the process that asks it."""


def encode_job(job: CompactionJob) -> bytes:
    """The inverse of `decode_job`."""
    return msgspec.msgpack.encode(job)


def decode_job(data: bytes) -> CompactionJob:
    """Raises FormatMismatch."""
    try:
        job = msgspec.msgpack.decode(data, type=CompactionJob)
    except msgspec.DecodeError as error:
        raise FormatMismatch(f"no compaction job: {error}") from error
    if job.version != VERSION:
        raise FormatMismatch(f"a compaction job of version {job.version}; this program does version {VERSION}")
    return job
