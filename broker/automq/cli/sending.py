"""Sending records from the command line, on our own codec: works with any Kafka.

A batch is sent once. It is sent again only after an answer that says it was not appended.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from automq.cli.client import KafkaClient, RequestFailed, error_name
from automq.protocol.compression import Compression
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from automq.protocol.records import Record, build_batch
from automq.runtime.clock import SystemClock

TIMEOUT_MS: Final = 30_000
# Topics by name.
PRODUCE_VERSIONS: Final = range(3, 13)
TRIES_MAX: Final = 40
RETRY_S: Final = 0.25
NOT_APPENDED: Final = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)
"""Answers after which the same batch may be sent to whoever leads the partition by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One record to send. Without `partition` its key decides, and without a key the batch that it comes in."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None


class Sender:
    """Sends to one topic, waiting for each batch to be acknowledged."""

    def __init__(self, client: KafkaClient, topic: str, *, compression: Compression = Compression.NONE) -> None:
        self._client = client
        self._topic = topic
        self._compression = compression
        self._clock = SystemClock()
        self._leaders: dict[int, int] = {}
        self._batches = 0
        self.sent = 0
        """Records that were acknowledged."""

    def send(self, records: Sequence[Outgoing]) -> None:
        """Send `records` and wait until all are acknowledged. Raises RequestFailed."""
        if not self._leaders:
            self._refresh()
        self._batches += 1
        partitions: dict[int, list[Outgoing]] = {}
        for record in records:
            partitions.setdefault(self._partition_of(record), []).append(record)
        for partition, chosen in partitions.items():
            self._send_to(partition, chosen)
            self.sent += len(chosen)

    def _partition_of(self, record: Outgoing) -> int:
        count = len(self._leaders)
        if record.partition is not None:
            if record.partition not in self._leaders:
                raise RequestFailed(f"topic {self._topic} has no partition {record.partition}; it has {count}")
            return record.partition
        if record.key is not None:
            return (murmur2(record.key) & 0x7FFFFFFF) % count
        return self._batches % count

    def _refresh(self) -> None:
        """Who leads each partition; makes the topic where the broker makes topics that are asked for."""
        code = 0
        for _ in range(TRIES_MAX):
            (answered,) = self._client.metadata([self._topic], create=True).topics
            code = answered.error_code
            leaders = {part.partition_index: part.leader_id for part in answered.partitions}
            if not code and leaders and min(leaders.values()) >= 0:
                self._leaders = leaders
                return
            if code and code not in NOT_APPENDED:
                break
            _pause()
        raise RequestFailed(f"topic {self._topic} cannot be written: the broker answers {error_name(code)}")

    def _send_to(self, partition: int, records: Sequence[Outgoing]) -> None:
        now_ms = self._clock.wall_ms()
        made = [
            Record(timestamp=now_ms, key=each.key, value=each.value, headers=tuple(each.headers)) for each in records
        ]
        batch = build_batch(made, compression=self._compression)
        request = ProduceRequest(
            acks=-1,
            timeout=TIMEOUT_MS,
            topic_data=[
                TopicProduceData(
                    name=self._topic,
                    partition_data=[PartitionProduceData(index=partition, records=memoryview(batch))],
                )
            ],
        )
        for _ in range(TRIES_MAX):
            answer = self._client.call(
                request, ProduceResponse, node=self._leaders[partition], versions=PRODUCE_VERSIONS
            )
            result = answer.responses[0].partition_responses[0]
            if not result.error_code:
                return
            if result.error_code not in NOT_APPENDED:
                why = f": {result.error_message}" if result.error_message else ""
                raise RequestFailed(
                    f"partition {partition} of {self._topic}: the broker answers {error_name(result.error_code)}{why}"
                )
            _pause()
            self._refresh()
        raise RequestFailed(f"partition {partition} of {self._topic} has no leader that takes records")


def _pause() -> None:
    threading.Event().wait(RETRY_S)


def murmur2(data: bytes) -> int:
    """The hash by which Java's producer chooses the partition of a key."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for position in range(0, whole, 4):
        chunk = int.from_bytes(data[position : position + 4], "little") * factor & mask
        chunk = (chunk ^ chunk >> 24) * factor & mask
        value = (value * factor & mask) ^ chunk
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * factor & mask
    value = (value ^ value >> 13) * factor & mask
    return value ^ value >> 15
