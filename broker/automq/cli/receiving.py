"""Reading records from the command line, on our own codec: works with any Kafka. Joins no group and commits nothing."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from automq.cli.client import KafkaClient, RequestFailed, check
from automq.cli.views import EARLIEST, LATEST, list_offsets
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from automq.protocol.records import HEADER_BYTES, LENGTH_END, CorruptRecords, Record, batches_in, records_in

# Topics by name.
FETCH_VERSIONS: Final = range(4, 13)
PARTITION_BYTES_MAX: Final = 1024 * 1024
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
DECOMPRESSED_BYTES_MAX: Final = 256 * 1024 * 1024
WAIT_MS: Final = 500
RETRY_S: Final = 0.25
MOVED: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.OFFSET_NOT_AVAILABLE,
    }
)
"""Answers after which the partition's leader is looked up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin: at an offset, at the start of the log, or with what comes from now on."""

    offset: int | None = None
    is_earliest: bool = False
    partition: int | None = None
    """Of all partitions this one alone."""


class Reader:
    """Reads one topic. `on_gap` is called when records that were to be read next are deleted already."""

    def __init__(self, client: KafkaClient, topic: str, start: Start, *, on_gap: Callable[[str], None]) -> None:
        self._client = client
        self._topic = topic
        self._on_gap = on_gap
        self._leaders = self._find(start.partition)
        asked = {(topic, index): leader for index, leader in self._leaders.items()}
        earliest, self._ends = list_offsets(client, asked, EARLIEST), list_offsets(client, asked, LATEST)
        for key in asked:
            if key not in earliest or key not in self._ends:
                raise RequestFailed(f"partition {key[1]} of {topic} has no leader that answers; try again")
        if start.offset is not None:
            self._positions = dict.fromkeys(self._leaders, start.offset)
        else:
            begins = earliest if start.is_earliest else self._ends
            self._positions = {index: begins[topic, index] for index in self._leaders}

    def _find(self, only: int | None) -> dict[int, int]:
        (answered,) = self._client.metadata([self._topic]).topics
        if answered.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise RequestFailed(f"there is no topic {self._topic}; `automq topics` lists all")
        check(answered.error_code, f"topic {self._topic}")
        leaders = {part.partition_index: part.leader_id for part in answered.partitions}
        if only is None:
            return leaders
        if only not in leaders:
            raise RequestFailed(f"topic {self._topic} has no partition {only}; it has {len(leaders)}")
        return {only: leaders[only]}

    @property
    def is_at_end(self) -> bool:
        """Whether everything was read that was there when reading began."""
        return all(self._positions[index] >= self._ends[self._topic, index] for index in self._positions)

    def read(self) -> Iterator[tuple[int, Record]]:
        """Partition and record of what comes next; nothing when nothing came for a moment. Raises RequestFailed."""
        by_leader: dict[int, list[int]] = {}
        for index, leader in self._leaders.items():
            by_leader.setdefault(leader, []).append(index)
        for leader, indexes in by_leader.items():
            request = FetchRequest(
                max_wait=WAIT_MS // len(by_leader),
                min_bytes=1,
                max_bytes=ANSWER_BYTES_MAX,
                topics=[FetchTopic(topic=self._topic, partitions=[self._question(index) for index in indexes])],
            )
            answer = self._client.call(request, FetchResponse, node=leader, versions=FETCH_VERSIONS)
            check(answer.error_code, f"topic {self._topic} cannot be read")
            for topic in answer.responses:
                for partition in topic.partitions:
                    yield from self._records_of(partition)

    def _question(self, index: int) -> FetchPartition:
        return FetchPartition(
            partition=index, fetch_offset=self._positions[index], partition_max_bytes=PARTITION_BYTES_MAX
        )

    def _records_of(self, partition: PartitionData) -> Iterator[tuple[int, Record]]:
        index = partition.partition_index
        if partition.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._skip_gap(index)
            return
        if partition.error_code in MOVED:
            threading.Event().wait(RETRY_S)
            self._leaders |= self._find(index)
            return
        check(partition.error_code, f"partition {index} of {self._topic} at offset {self._positions[index]}")
        if not partition.records:
            return
        try:
            for batch in batches_in(whole_batches(memoryview(partition.records))):
                if not batch.is_control:
                    for record in records_in(batch, decompressed_bytes_max=DECOMPRESSED_BYTES_MAX):
                        if record.offset >= self._positions[index]:
                            self._positions[index] = record.offset + 1
                            yield index, record
                self._positions[index] = max(self._positions[index], batch.next_offset)
        except CorruptRecords as error:
            position = self._positions[index]
            raise RequestFailed(
                f"partition {index} of {self._topic}: what is at offset {position} is no record ({error}); "
                f"read on with --partition {index} --offset {position + 1}"
            ) from error

    def _skip_gap(self, index: int) -> None:
        before = self._positions[index]
        asked = {(self._topic, index): self._leaders[index]}
        earliest = list_offsets(self._client, asked, EARLIEST).get((self._topic, index))
        latest = list_offsets(self._client, asked, LATEST).get((self._topic, index))
        if earliest is None or latest is None:
            return
        self._positions[index] = earliest if before < earliest else latest
        self._on_gap(f"partition {index}: offset {before} is not in the log; going on at {self._positions[index]}")


def whole_batches(records: memoryview) -> memoryview:
    """`records` without a last batch that is cut off: Kafka answers so many bytes, wherever a batch ends."""
    end = 0
    while len(records) - end >= LENGTH_END:
        size = LENGTH_END + int.from_bytes(records[end + LENGTH_END - 4 : end + LENGTH_END], "big", signed=True)
        if size < HEADER_BYTES or end + size > len(records):
            break
        end += size
    return records[:end] if end else records
