"""Produce: synchronous, without a task for each request.

A request is parsed and every batch appended in one go; its answer is completed when the newest of its batches is
durable, from the engine's callback. Replies that only depend on state which is not durable yet, a duplicate or a
refused sequence, wait for that state in the same way. acks=1 and acks=-1 mean the same: durable. acks=0 has no answer;
an error closes the connection instead. `min.insync.replicas` never refuses: the object store replicates.

Large batches whose records must be walked or compressed are the exception: a worker does that, and the connection
starts its next request when they are appended, so that order is kept; it does not wait until they are durable.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from automq.handlers.errors import error_message_of, write_error_code_of
from automq.handlers.leaders import Leader, leader_of
from automq.ids import TopicId
from automq.metadata.publisher import MetadataPublisher
from automq.partition.manager import PartitionManager
from automq.partition.partition import Partition
from automq.partition.record_validation import RecordsRefused
from automq.partition.records_work import is_small, prepare
from automq.partition.validation import ZSTD_SINCE_PRODUCE, check_produce_version
from automq.protocol.apis import ApiKey
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.produce import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    TopicProduceData,
)
from automq.protocol.produce_codec import (
    TOPIC_IDS_SINCE,
    ProduceResult,
    TopicResults,
    change_produce_response,
    encode_produce_response,
    parse_produce_request,
)
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.workers import Workers
from automq.s3stream.model import StreamError
from automq.s3stream.stream import Storage
from automq.security.authorizer import Operation, ResourceType
from automq.security.session import Session

# Time-outs are looked at this often, all together, while anything waits.
SWEEP_MS: Final = 100

_VALID_ACKS: Final = (0, 1, -1)
_TIMED_OUT_MESSAGE: Final = "the object store does not answer in time; the records may still become durable"

# Looked up for every request: members of an enumeration take a while to find.
_WRITE: Final = Operation.WRITE
_TOPIC: Final = ResourceType.TOPIC
_PRODUCE: Final = ApiKey.PRODUCE

# Codes that say something about state: they are given when that state is durable.
_STATE_CODES: Final = frozenset(
    (ErrorCode.NONE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH)
)


class PendingProduce:
    """One request whose batches are appended and not durable yet. Not frozen: made for every request.

    The answer is encoded when the batches are appended and kept as bytes: what it is made of is in the processor's
    cache then, and would be gone from there, and still take memory, when the batches are durable.
    """

    __slots__ = (
        "_answer",
        "_watched",
        "acks",
        "close",
        "correlation_id",
        "deadline",
        "is_done",
        "position",
        "slot",
        "throttle_ms",
        "timeout_ms",
        "version",
    )

    def __init__(
        self,
        head: RequestHead,
        slot: ResponseSlot,
        acks: int,
        timeout_ms: int,
        close: Callable[[], None],
        watched: "dict[PendingProduce, None]",
        throttle_ms: int = 0,
    ) -> None:
        self._watched = watched
        """Those whose time-out is looked at, of which this one may be one."""
        self.version = head.version
        self.correlation_id = head.correlation_id
        self.slot = slot
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.throttle_ms = throttle_ms
        """For how long the client is not listened to."""
        self.close = close
        """Closes the connection."""
        self._answer: bytes | bytearray = b""
        self.position = -1
        """The newest WAL slot that the answer depends on."""
        self.deadline = 0
        """The sweep at which it is answered REQUEST_TIMED_OUT."""
        self.is_done = False

    def on_durable(self, error: Exception | None) -> None:
        """Everything the answer depends on is durable, or will never be known to be."""
        if self.is_done:
            return
        if error is not None:
            self.override(write_error_code_of(error), str(error))
        self.answer()

    def override(self, code: ErrorCode, message: str) -> None:
        """What depended on state that is not durable is answered with `code` instead."""

        def change(result: PartitionProduceResponse) -> None:
            if result.error_code in _STATE_CODES:
                result.error_code = code
                result.error_message = message
                result.base_offset = result.log_append_time = result.log_start_offset = -1

        self._answer = change_produce_response(self._answer, self.version, change)

    def prepare(self, topics: list[TopicResults], endpoints: list[NodeEndpoint]) -> None:
        """Encode the answer; nothing refers to `topics` after that."""
        self._answer = encode_produce_response(
            version=self.version,
            correlation_id=self.correlation_id,
            topics=topics,
            throttle_time=self.throttle_ms,
            node_endpoints=endpoints,
        )

    def answer(self) -> None:
        """Complete the slot."""
        self.is_done = True
        # At once, not when time-outs are looked at next: its memory is still in the processor's cache.
        self._watched.pop(self, None)
        self.slot.complete((self._answer,))


class ProduceHandler:
    """Produce of one broker."""

    def __init__(
        self,
        *,
        partitions: PartitionManager,
        storage: Storage,
        metadata: MetadataPublisher,
        clock: Clock,
        workers: Workers,
        tasks: Tasks,
    ) -> None:
        self._partitions = partitions
        self._storage = storage
        self._metadata = metadata
        self._clock, self._workers, self._tasks = clock, workers, tasks
        self._watched: dict[PendingProduce, None] = {}
        self._tick = 0
        self._is_sweeping = False

    def start(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        session: Session,
        *,
        close: Callable[[], None],
        on_appended: Callable[[], None],
    ) -> "Appending | None":
        """Append what the request brings; the slot is completed now or later. Raises MalformedMessage.

        Something when the connection must not start another request before it is done; `on_appended` is called then.
        """
        version = head.version
        request = parse_produce_request(frame, head.body_offset, version)
        throttle_ms = session.throttle(_PRODUCE, len(frame))
        pending = PendingProduce(head, slot, request.acks, request.timeout, close, self._watched, throttle_ms)
        if request.acks not in _VALID_ACKS:
            self._refuse(pending, request.topic_data)
            return None
        has_ids = version >= TOPIC_IDS_SINCE
        may_write_all = session.allows_every(_WRITE, _TOPIC)
        topics: list[TopicResults] = []
        deferred: list[tuple[ProduceResult, Partition, memoryview]] = []
        leaders: list[Leader] = []
        for topic in request.topic_data:
            results: list[ProduceResult] = []
            topics.append((topic, results))
            if not may_write_all and not self._may_write(session, topic, has_ids):
                for asked in topic.partition_data:
                    asked.records = None
                    results.append(ProduceResult(asked.index, ErrorCode.TOPIC_AUTHORIZATION_FAILED))
                continue
            for asked in topic.partition_data:
                index = asked.index
                records = asked.records
                # The frame's memory is used again: nothing that outlives this call may refer to it.
                asked.records = None
                if has_ids:
                    partition = self._partitions.find_by_id(TopicId(topic.topic_id), index)
                else:
                    partition = self._partitions.find(topic.name, index)
                result = ProduceResult(index, 0)
                results.append(result)
                if partition is None:
                    self._refuse_unknown(result, topic, has_ids, session.listener_name, leaders)
                    continue
                if records is None:
                    records = memoryview(b"")
                rules = partition.rules.append
                if rules.reads_records and not is_small(records, rules):
                    deferred.append((result, partition, memoryview(bytearray(records))))
                elif rules.compression is None:
                    self._append(pending, result, partition, records, version)
                else:
                    self._append_compressed(pending, result, partition, records, version)
        if deferred:
            appending = Appending(on_appended)
            work = self._append_deferred(pending, topics, leaders, deferred, appending)
            _ = self._tasks.spawn(work, name="produce in a worker")
            return appending
        self._finish(pending, topics, leaders)
        return None

    def _append(
        self,
        pending: PendingProduce,
        result: ProduceResult,
        partition: Partition,
        records: memoryview,
        version: int,
        *,
        is_prepared: bool = False,
    ) -> None:
        """One batch; its outcome goes into `result`."""
        try:
            if version < ZSTD_SINCE_PRODUCE:
                check_produce_version(records, version)
            appended = partition.append(records, is_prepared=is_prepared)
        except (ApiError, StreamError) as error:
            _fail(result, error)
            code = result.error_code
            pending.position = max(pending.position, awaited_position(partition, ErrorCode(code)))
            if code in _STATE_CODES:  # the log was looked at: Kafka says where it begins
                result.log_start_offset = partition.log_start_offset
            return
        result.base_offset = appended.base_offset
        result.log_append_time = appended.log_append_time_ms
        result.log_start_offset = partition.log_start_offset
        if appended.position > pending.position:
            pending.position = appended.position

    def _append_compressed(
        self, pending: PendingProduce, result: ProduceResult, partition: Partition, records: memoryview, version: int
    ) -> None:
        """One small batch of a topic that has a compression of its own."""
        try:
            records = prepare(records, partition.rules.append, self._clock.wall_ms())
        except ApiError as error:
            _fail(result, error)
            return
        self._append(pending, result, partition, records, version, is_prepared=True)

    async def _append_deferred(
        self,
        pending: PendingProduce,
        topics: list[TopicResults],
        leaders: list[Leader],
        deferred: list[tuple[ProduceResult, Partition, memoryview]],
        appending: "Appending",
    ) -> None:
        for result, partition, records in deferred:
            rules, now_ms = partition.rules.append, self._clock.wall_ms()
            try:
                prepared = await self._workers.run(prepare, records, rules, now_ms)
            except ApiError as error:
                _fail(result, error)
                continue
            # The partition may be gone, or open at another epoch, by now: its append says so.
            self._append(pending, result, partition, prepared, pending.version, is_prepared=True)
        self._finish(pending, topics, leaders)
        appending.finish()

    def _finish(self, pending: PendingProduce, topics: list[TopicResults], leaders: list[Leader]) -> None:
        """All batches are appended: answer when they are durable."""
        if pending.acks == 0:
            pending.is_done = True
            pending.slot.discard()
            if any(result.error_code for _, results in topics for result in results):
                pending.close()
            return
        pending.prepare(topics, _endpoints(leaders) if leaders else [])
        if pending.position < 0:
            pending.answer()
        else:
            self._storage.when_durable(pending.position, pending.on_durable)
            if not pending.is_done:
                self._watch(pending)

    def _watch(self, pending: PendingProduce) -> None:
        """Have the request answered at its own time-out, if it is not by then."""
        pending.deadline = self._tick + 1 + max(0, pending.timeout_ms) // SWEEP_MS
        self._watched[pending] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_MS / 1000, self._sweep)

    def _sweep(self) -> None:
        self._tick += 1
        for pending in list(self._watched):
            if pending.deadline <= self._tick:
                pending.override(ErrorCode.REQUEST_TIMED_OUT, _TIMED_OUT_MESSAGE)
                pending.answer()
        self._is_sweeping = bool(self._watched)
        if self._is_sweeping:
            asyncio.get_running_loop().call_later(SWEEP_MS / 1000, self._sweep)

    # Refusals.

    def _may_write(self, session: Session, topic: TopicProduceData, has_ids: bool) -> bool:
        """Whether the client may write to the topic; of an id that is not known there is nothing to ask."""
        name = topic.name
        if has_ids:
            known = self._metadata.image.topic_by_id(TopicId(topic.topic_id))
            if known is None:
                return True
            name = known.name
        return session.allows(_WRITE, (_TOPIC, name))

    @staticmethod
    def _refuse(pending: PendingProduce, topics: list[TopicProduceData]) -> None:
        """The whole request asks for what Kafka does not have."""
        answers: list[TopicResults] = []
        for topic in topics:
            codes = [ProduceResult(asked.index, ErrorCode.INVALID_REQUIRED_ACKS) for asked in topic.partition_data]
            for asked in topic.partition_data:
                asked.records = None
            answers.append((topic, codes))
        pending.prepare(answers, [])
        pending.answer()

    def _refuse_unknown(
        self,
        result: ProduceResult,
        topic: TopicProduceData,
        has_ids: bool,
        listener_name: str,
        leaders: list[Leader],
    ) -> None:
        """There is no such partition, or it is another broker's."""
        image = self._metadata.image
        topic_id = TopicId(topic.topic_id)
        if has_ids:
            error = self._partitions.refusal_by_id(topic_id, result.index)
            known = image.topic_by_id(topic_id)
        else:
            error = self._partitions.refusal(topic.name, result.index)
            known = image.topic(topic.name)
        result.error_code = error.code
        if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            leader = leader_of(image, known, result.index, listener_name)
            if leader is not None:
                result.current_leader = LeaderIdAndEpoch(leader_id=leader.node, leader_epoch=leader.epoch)
                leaders.append(leader)


class Appending:
    """A request whose batches are with a worker. Done when they are appended or refused."""

    __slots__ = ("_on_appended", "is_done")

    def __init__(self, on_appended: Callable[[], None]) -> None:
        self._on_appended = on_appended
        self.is_done = False

    def finish(self) -> None:
        """The connection may go on."""
        self.is_done = True
        self._on_appended()


def _fail(result: ProduceResult, error: Exception) -> None:
    result.error_code, result.error_message = write_error_code_of(error), error_message_of(error)
    if isinstance(error, RecordsRefused):
        result.record_errors = error.record_errors


def awaited_position(partition: Partition, code: ErrorCode) -> int:
    """Rule of both logs, an error is an answer too: the WAL slot that must be durable before `code` is answered.

    -1 when the refusal depends on nothing but the batch itself.
    """
    return partition.last_position if code in _STATE_CODES else -1


def _endpoints(leaders: list[Leader]) -> list[NodeEndpoint]:
    """Where the leaders are, each once."""
    by_node = {leader.node: leader for leader in leaders if leader.host is not None}
    return [
        NodeEndpoint(node_id=leader.node, host=leader.host or "", port=leader.port, rack=leader.rack)
        for leader in by_node.values()
    ]
