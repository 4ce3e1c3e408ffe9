"""A partition that another broker leads, read here: what of it lies in objects, for consumers of this broker's zone.

A replica answers below the end that its own image shows as committed, and only there: that is durable, and every owner
to come has it. What is at or above it is the leader's to answer, and the reader is sent back there; it never gets an
answer without records that would have it wait here for what only the leader sees.
"""

from collections.abc import Sequence
from typing import Final, Union

from automq.ids import Offset, StreamEpoch, StreamId, TopicPartition
from automq.metadata.image import MetadataImage, PartitionImage, StreamImage, TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition.leader_epochs import EpochEnd, check_leader_epoch
from automq.partition.partition import Partition
from automq.partition.traffic import PartitionTraffic, TrafficMeter
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.arena import ReadResult
from automq.s3stream.storage import Storage
from automq.s3stream.stream import Stream

Readable = Union[Partition, "ReplicaPartition"]
"""What Fetch reads."""
REPLICAS_MAX: Final = 1_000
"""Partitions that are kept ready to be read, a kilobyte each; one more has the one read longest ago made anew."""


class ReplicaPartition:
    """As `Partition`, for readers; valid as long as `is_open`: no longer than one leader's term."""

    __slots__ = ("__weakref__", "_metadata", "_storage", "_stream", "leader_epoch", "name", "stream_id", "traffic")

    is_replica: Final = True
    quarantine: Final = None
    """What is committed is readable."""

    def __init__(
        self,
        *,
        name: TopicPartition,
        part: PartitionImage,
        storage: Storage,
        metadata: MetadataPublisher,
        traffic: PartitionTraffic,
    ) -> None:
        self.name, self.traffic = name, traffic
        self.stream_id: StreamId = part.stream
        self.leader_epoch: StreamEpoch = part.leader_epoch
        self._storage, self._metadata = storage, metadata
        self._stream: Stream = storage.replica_stream(part.stream)

    @property
    def is_open(self) -> bool:
        """Whether nothing but the committed end has changed since it was made."""
        state = self._metadata.image.streams.get(self.stream_id)
        return (
            self.traffic.is_open
            and state is not None
            and state.epoch == self.leader_epoch
            and self._storage.halted is None
        )

    def _state(self) -> StreamImage:
        state = self._metadata.image.streams.get(self.stream_id)
        if state is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{self.name} was deleted")
        return state

    @property
    def log_start_offset(self) -> Offset:
        return self._state().start

    @property
    def high_watermark(self) -> Offset:
        """Everything below is in objects and may be read here."""
        return self._state().end

    @property
    def last_stable_offset(self) -> Offset:
        return self._state().end

    def check_leader_epoch(self, epoch: int) -> None:
        """See `Partition.check_leader_epoch`."""
        check_leader_epoch(self.name, theirs=epoch, ours=self.leader_epoch)

    def check_offset(self, offset: int) -> None:
        """Rule: what is not committed is the leader's to answer, with an error that both kinds of consumers return to
        it after: librdkafka and Java would begin anew somewhere after OFFSET_OUT_OF_RANGE, if it comes at a bad time.
        """
        state = self._state()
        if offset < state.start:
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{self.name} begins at {state.start}")
        if offset >= state.end:
            raise ApiError(
                ErrorCode.OFFSET_NOT_AVAILABLE, f"{self.name} is known up to {state.end} here: ask its leader"
            )

    def check_end(self, offset: int) -> None:
        """Nothing is quarantined here."""

    def epoch_end(self, epoch: int) -> EpochEnd:
        """Leader epochs are known to leaders."""
        raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"ask the leader of {self.name} for epoch {epoch}")

    # Reading: nothing of it is in the log cache.

    def measure_cached(self, _start: Offset, _max_bytes: int) -> tuple[Offset, Offset, int] | None:
        return None

    def cached_buffers(
        self, _start: Offset, _end: Offset, _max_bytes: int, *, buffers_max: int
    ) -> Sequence[memoryview | bytes] | None:
        return None

    def bytes_available(self, _start: int, *, bytes_max: int, end: int | None = None) -> int | None:
        return None

    async def read(self, start: Offset, max_bytes: int) -> ReadResult:
        """Committed batches from `start` on. Raises ApiError, and as `Stream.read`."""
        stream = self._stream
        while True:
            state = self._state()
            stream.start_offset, stream.confirmed_offset = state.start, state.end
            self.check_offset(start)
            result = await stream.read(start, state.end, max_bytes)
            if result.batches:
                return result
            # A range that was given up: what follows it, if anything does.
            start = result.end_offset


class Replicas:
    """The partitions of others that are read here. `own_rack` of the image's own broker decides who reads."""

    def __init__(self, *, storage: Storage, metadata: MetadataPublisher, traffic: TrafficMeter) -> None:
        self._storage, self._metadata, self._traffic = storage, metadata, traffic
        self._kept: dict[StreamId, ReplicaPartition] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, image: MetadataImage, topic: TopicImage, part: PartitionImage) -> ReplicaPartition | None:
        """The partition as it may be read here; None where nothing of it is committed, or the engine stands still."""
        if part.stream not in image.streams or self._storage.halted is not None:
            return None
        kept = self._kept.pop(part.stream, None)
        if kept is None or not kept.is_open:
            if kept is not None:
                self._close(kept)
            kept = ReplicaPartition(
                name=TopicPartition(topic.name, part.index),
                part=part,
                storage=self._storage,
                metadata=self._metadata,
                traffic=self._traffic.open(topic.name, part.stream),
            )
        # The one that was asked for last is the last to go.
        self._kept[part.stream] = kept
        while len(self._kept) > REPLICAS_MAX:
            self._close(self._kept.pop(next(iter(self._kept))))
        return kept

    def _close(self, replica: ReplicaPartition) -> None:
        self._traffic.close(replica.name.topic, replica.traffic)
