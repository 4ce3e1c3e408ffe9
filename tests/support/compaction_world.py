"""A cluster's metadata with uploads, trims and deletions, and compactions of it, without any store."""

import itertools
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from automq.controller.commit_check import judge
from automq.controller.compaction_check import (
    CompactionRequest,
    CompactionResult,
    judge_compaction,
)
from automq.controller.compaction_job import request_of
from automq.controller.compaction_plan import CompactionPlan, CompactionSettings, PlannedOutput, plan
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import (
    BrokerRegistered,
    MetadataRecord,
    NewPartition,
    ObjectsDestroyed,
    ObjectsPrepared,
    PartitionsCreated,
    StreamsDeleted,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
)
from automq.metadata.replay import replay_all
from automq.s3stream.compaction.job import Share, WrittenObject
from automq.s3stream.model import KEPT, CommitObject, CommitRange, CommitRequest, RetentionClass
from automq.s3stream.objects.format import HEADER_BYTES
from automq.steps import at_once

NODE, EPOCH = NodeId(1), BrokerEpoch(1)
SMALL = CompactionSettings(sources=3, object_bytes=1000, job_bytes=10_000, range_bytes=100)


@dataclass
class CompactionWorld:
    """`images` are all that there were; the newest is last."""

    streams: int = 4
    settings: CompactionSettings = SMALL
    classes: dict[StreamId, RetentionClass] = field(default_factory=dict)
    image: MetadataImage = EMPTY
    at_ms: int = 0

    def __post_init__(self) -> None:
        self.apply([BrokerRegistered(node=NODE, epoch=EPOCH, rack=None, endpoints=())])
        for stream in range(1, self.streams + 1):
            # A topic each, so that one stream can be deleted.
            topic = TopicId(uuid.UUID(int=stream))
            partition = NewPartition(index=0, stream=StreamId(stream), leader=NODE)
            self.apply([
                TopicCreated(topic_id=topic, name=f"t{stream}", is_internal=False, replication_factor=1),
                PartitionsCreated(topic_id=topic, partitions=(partition,)),
            ])  # fmt: skip

    def apply(self, records: Sequence[MetadataRecord]) -> None:
        self.image = replay_all(self.image, records)

    def class_of(self, stream: StreamId) -> RetentionClass:
        return self.classes.get(stream, KEPT)

    def prepare(self, count: int) -> list[ObjectId]:
        first = self.image.next_object
        self.apply([ObjectsPrepared(first=first, count=count, node=NODE, epoch=EPOCH, expires_ms=1 << 60)])
        return [ObjectId(number) for number in range(first, first + count)]

    def upload(
        self, records: Mapping[int, int], *, record_bytes: int = 10, checkpoints: Collection[int] = ()
    ) -> ObjectId:
        """One object with so many records of each stream."""
        (object_id,) = self.prepare(1)
        ranges: list[CommitRange] = []
        for stream, count in sorted(records.items()):
            state = self.image.streams[StreamId(stream)]
            start = max(state.start, state.end)
            ranges.append(
                CommitRange(
                    stream=StreamId(stream),
                    epoch=StreamEpoch(0),
                    start=Offset(start),
                    end=Offset(start + count),
                    size=count * record_bytes,
                    max_timestamp_ms=start + count,
                    checkpoint=int(stream in checkpoints),
                )
            )
        size = sum(item.size for item in ranges) + 200
        objects = [CommitObject(object_id=object_id, size=size, ranges=ranges)]
        self.apply(judge(self.image, CommitRequest(objects=objects, node=NODE, epoch=EPOCH, trim_to=0)).records)
        return object_id

    def trim(self, stream: int, start: int) -> None:
        self.apply([StreamTrimmed(stream=StreamId(stream), start=Offset(start))])

    def delete(self, stream: int) -> None:
        topic = self.image.streams[StreamId(stream)].topic_id
        self.apply([StreamsDeleted(streams=(StreamId(stream),)), TopicDeleted(topic_id=topic)])

    def sweep(self) -> None:
        """What nothing refers to is destroyed."""
        if self.image.unreferenced:
            self.apply([ObjectsDestroyed(objects=tuple(sorted(self.image.unreferenced)), at_ms=self.at_ms)])

    def plan(self, *, excluded: Collection[ObjectId] = ()) -> CompactionPlan | None:
        return at_once(plan(self.image, class_of=self.class_of, settings=self.settings, excluded=excluded))

    def request(self, planned: CompactionPlan) -> CompactionRequest:
        """As if the worker were done."""
        ids = self.prepare(len(planned.outputs))
        return request_of(planned, ids, list(map(_written, planned.outputs)), node=NODE, epoch=EPOCH)

    def commit(self, request: CompactionRequest) -> CompactionResult:
        """Judge and apply. Raises what the check raises."""
        decision = at_once(judge_compaction(self.image, request, now_ms=self.at_ms))
        self.apply(decision.records)
        return decision.response

    def compact(self) -> CompactionResult | None:
        """One job, if one is worth it."""
        planned = self.plan()
        return None if planned is None else self.commit(self.request(planned))

    def held(self, stream: int) -> list[int]:
        """Every offset that readers may read."""
        state = self.image.streams[StreamId(stream)]
        spans = self.image.spans_of(StreamId(stream))
        return [offset for span in spans for offset in range(span.start, span.end) if offset >= state.start]


def _written(output: PlannedOutput) -> WrittenObject:
    """As large as what it was made of."""
    sizes = [sum(span.size for span in item.spans) for item in output.ranges]
    positions = itertools.accumulate(sizes, initial=HEADER_BYTES)
    shares = tuple(Share(position, size) for position, size in zip(positions, sizes, strict=False))
    return WrittenObject(sum(sizes) + 200, shares)
