"""Synthetic worlds: the metadata of many partitions after a long time, made without brokers, records or waiting.

Every partition has a record a second. An upload takes what was written since the last one of all partitions, as one
object; offsets, sizes and times differ from partition to partition as they would.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY
from automq.metadata.packed_ranges import pack_columns
from automq.metadata.records import (
    BrokerRegistered,
    CommittedObject,
    MetadataRecord,
    NewPartition,
    ObjectsCommitted,
    ObjectsPrepared,
    PartitionsCreated,
    TopicCreated,
)
from automq.metadata.replay import MetadataMachine
from automq.runtime.entropy import SeededEntropy
from automq.s3stream.model import CommitObject, CommitRange, CommitRequest

NODE = NodeId(1)
EPOCH = BrokerEpoch(1)
PARTITIONS_A_TOPIC = 10
RECORD_BYTES = 100
FIRST_MS = 1_700_000_000_000
UPLOAD_S = 300
"""The default pace of uploads of the object write-ahead log."""
WEEK_S = 7 * 24 * 3600


@dataclass(slots=True)
class Growth:
    """A cluster that grows: `partitions` of them, and how far they have come."""

    partitions: int
    machine: MetadataMachine
    dice: random.Random
    starts: list[int]
    next_object: int = 1
    now_ms: int = FIRST_MS

    @property
    def streams(self) -> Sequence[int]:
        """The ids of all streams."""
        return range(1, self.partitions + 1)

    def upload(self, upload_s: int = UPLOAD_S) -> ObjectsCommitted:
        """The commit of what was written in `upload_s`; applied by `grow`."""
        counts = [max(1, upload_s + self.dice.randint(-2, 2)) for _ in self.starts]
        self.now_ms += upload_s * 1000
        ranges = pack_columns(
            self.streams,
            self.starts,
            counts,
            [count * RECORD_BYTES + self.dice.randint(0, 999) for count in counts],
            [self.now_ms - self.dice.randint(0, 1999) for _ in counts],
        )
        size = self.partitions * upload_s * RECORD_BYTES
        self.starts = [start + count for start, count in zip(self.starts, counts, strict=True)]
        kinds = bytes([1]) * self.partitions
        return ObjectsCommitted(
            NODE, EPOCH, self.next_object, (CommittedObject(ObjectId(self.next_object), size, ranges, kinds),)
        )

    def prepared(self) -> ObjectsPrepared:
        """What comes before the next upload."""
        return ObjectsPrepared(first=ObjectId(self.next_object), count=1, node=NODE, epoch=EPOCH, expires_ms=0)

    def records(self, upload_s: int = UPLOAD_S) -> Iterator[MetadataRecord]:
        """Of one upload."""
        yield self.prepared()
        yield self.upload(upload_s)
        self.next_object += 1

    def grow(self, uploads: int, *, upload_s: int = UPLOAD_S) -> None:
        """So many uploads."""
        for _ in range(uploads):
            for record in self.records(upload_s):
                self.machine.replay(record)

    def request(self, upload_s: int = UPLOAD_S) -> CommitRequest:
        """What the broker asks for next: an object that is prepared, with a range of every stream."""
        image = self.machine.image
        ranges = [
            CommitRange(
                stream=StreamId(stream),
                epoch=image.streams[StreamId(stream)].epoch,
                start=Offset(start),
                end=Offset(start + upload_s),
                size=upload_s * RECORD_BYTES,
                max_timestamp_ms=self.now_ms,
            )
            for stream, start in zip(self.streams, self.starts, strict=True)
        ]
        return CommitRequest(
            objects=[CommitObject(object_id=ObjectId(self.next_object), size=1, ranges=ranges)],
            node=NODE,
            epoch=EPOCH,
            trim_to=self.next_object,
        )


def new_cluster(partitions: int, *, remembers: bool = False) -> Growth:
    """One broker, its topics, and nothing written yet."""
    dice = random.Random(f"{partitions} partitions")
    entropy = SeededEntropy(f"{partitions} partitions")
    machine = MetadataMachine(EMPTY, remembers=remembers)
    machine.replay(BrokerRegistered(node=NODE, epoch=EPOCH, rack=None, endpoints=()))
    for first in range(0, partitions, PARTITIONS_A_TOPIC):
        topic_id = TopicId(entropy.uuid())
        count = min(PARTITIONS_A_TOPIC, partitions - first)
        machine.replay(TopicCreated(topic_id=topic_id, name=f"topic-{first}", is_internal=False, replication_factor=1))
        machine.replay(
            PartitionsCreated(
                topic_id=topic_id,
                partitions=tuple(
                    NewPartition(
                        index=index,
                        stream=StreamId(first + index + 1),
                        leader=NODE,
                        leader_epoch=StreamEpoch(0),
                    )
                    for index in range(count)
                ),
            )
        )
    # Partitions are not as old as each other.
    return Growth(partitions, machine, dice, starts=[dice.randint(0, WEEK_S) for _ in range(partitions)])
