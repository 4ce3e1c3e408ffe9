"""Produce: synchronous, without a task for each request.

A request is parsed and every batch appended in one go; its answer is completed when the newest of its batches is
durable, from the engine's callback. Replies that only depend on state which is not durable yet, a duplicate or a
refused sequence, wait for that state in the same way. acks=1 and acks=-1 mean the same: durable. acks=0 has no answer;
an error closes the connection instead. `min.insync.replicas` never refuses: the object store replicates.

What takes longer than a turn of the event loop is the exception: a request of many megabytes, a batch of many records,
one that must be compressed or needs a slot of its own. It is done in turns, and the connection starts its next request
when it is appended, so that order is kept; it does not wait until it is durable.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from automq.core import encode_produced
from automq.core.produce_frame import Scanned
from automq.handlers.leaders import Leader, leader_of
from automq.handlers.parked_appends import Arriving, ParkedAppends
from automq.handlers.pending_produce import (
    STATE_CODES,
    AnswerWatch,
    Appending,
    Connection,
    PendingAnswer,
    PendingProduce,
)
from automq.handlers.produce_results import endpoints_of, fail, refused
from automq.ids import TopicId
from automq.metadata.publisher import MetadataPublisher
from automq.partition.content_worker import ContentWorker
from automq.partition.large_batch import LargeBatch, fill_in_turns, prepare_in_turns
from automq.partition.manager import PartitionManager
from automq.partition.partition import Partition
from automq.partition.records_work import BYTES_PER_US, in_place_us, prepare
from automq.partition.validation import ZSTD_SINCE_PRODUCE, check_produce_version
from automq.protocol.apis import ApiKey
from automq.protocol.compression import DecompressedTooLarge
from automq.protocol.connection import RequestHead, ResponseQueue, ResponseSlot
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.produce import (
    LeaderIdAndEpoch,
    TopicProduceData,
)
from automq.protocol.produce_codec import (
    TOPIC_IDS_SINCE,
    ProduceResult,
    TopicResults,
    parse_produce_request,
)
from automq.runtime.budget import ByteCount
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.turns import Pace
from automq.s3stream.append_path import AppendPath
from automq.s3stream.model import StorageFull, StreamError, StreamSealed
from automq.s3stream.stream import StagedBatch
from automq.security.authorizer import Operation, ResourceType
from automq.security.session import Session

_VALID_ACKS: Final = (0, 1, -1)

# Looked up for every request: members of an enumeration take a while to find.
_WRITE: Final = Operation.WRITE
_TOPIC: Final = ResourceType.TOPIC
_PRODUCE: Final = ApiKey.PRODUCE


# One request's batches are appended in one turn of the loop up to here: about a millisecond, or a batch of a mebibyte.
IN_PLACE_US_MAX: Final = (1 << 20) // BYTES_PER_US

# About how long an append takes, whatever its size.
APPENDED_US: Final = 8

# Room that is made is looked at again this often: less than a large batch needs may come at a time.
ROOM_CHECK_S: Final = 0.1

Deferred = tuple[ProduceResult, Partition | Arriving, memoryview]
"""A batch that is appended in a later turn, and where its outcome goes."""


class ProduceHandler:
    """Produce of one broker."""

    def __init__(
        self,
        *,
        partitions: PartitionManager,
        append_path: AppendPath,
        metadata: MetadataPublisher,
        clock: Clock,
        contents: ContentWorker,
        tasks: Tasks,
        receive: ByteCount,
        on_error: Callable[[int], None] = lambda _code: None,
    ) -> None:
        """`receive` counts copies of what was received; `on_error` is called with every code that is answered."""
        self._receive = receive
        self._on_error = on_error
        self._append_bytes_max = append_path.append_bytes_max
        self._partitions, self._append_path = partitions, append_path
        self._metadata = metadata
        self._clock, self._contents, self._tasks = clock, contents, tasks
        self.watch = AnswerWatch(on_error)

    def start(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        session: Session,
        connection: Connection,
    ) -> Appending | None:
        """Append what the request brings; the slot is completed now or later. Raises MalformedMessage, ManyPartitions.

        Something when the connection must not start another request before it is done.
        """
        version = head.version
        request = parse_produce_request(frame, head.body_offset, version)
        may_write_all = not session.has_rules or session.allows_every(_WRITE, _TOPIC)
        throttle_ms = session.throttle(_PRODUCE, len(frame)) if session.has_rules else 0
        close = connection.close
        pending = PendingProduce(head, slot, request.acks, request.timeout, close, self.watch, throttle_ms)
        if request.acks not in _VALID_ACKS:
            self._refuse(pending, request.topic_data)
            return None
        has_ids = version >= TOPIC_IDS_SINCE
        topics: list[TopicResults] = []
        deferred: list[Deferred] = []
        leaders: list[Leader] = []
        spent_us = 0
        for topic in request.topic_data:
            results: list[ProduceResult] = []
            topics.append((topic, results))
            if not may_write_all and not self._may_write(session, topic, has_ids):
                results += refused(topic, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
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
                    arriving = self._arriving(topic, has_ids, index)
                    if arriving is None:
                        self._refuse_unknown(result, topic, has_ids, session.listener_name, leaders)
                    else:
                        deferred.append((result, arriving, memoryview(b"") if records is None else records))
                    continue
                if records is None:
                    records = memoryview(b"")
                rules = partition.rules.append
                batch_us = in_place_us(records, rules)
                if (
                    deferred
                    or batch_us is None
                    or spent_us > IN_PLACE_US_MAX
                    or len(records) > self._append_bytes_max
                    or not self._append_now(pending, result, partition, records)
                ):
                    # What comes behind is deferred, too: a partition's batches stay in their order.
                    deferred.append((result, partition, records))
                    continue
                spent_us += batch_us
        if deferred:
            return self._defer(pending, topics, leaders, deferred, connection, session.listener_name)
        self._finish(pending, topics, leaders)
        return None

    def start_scanned(self, scanned: Scanned, data: memoryview, queue: ResponseQueue) -> bool:
        """As `start`, of a request of the common shape in `data`, whose client has no rules; its answer gets its place.

        False: nothing has changed, and it goes through `start`.
        """
        _, version, correlation_id, timeout_ms, key, records_start, records_end = scanned
        partition = self._partitions.opened.find_by_key(key, has_id=version >= TOPIC_IDS_SINCE)
        if partition is None:
            return False
        base_offset = partition.next_offset
        if not partition.append_received(data, records_start, records_end, self._clock.wall_ms()):
            return False
        answer = encode_produced(key, correlation_id, base_offset, partition.log_start_offset)
        pending = PendingAnswer(self.watch, queue, answer, version, self.watch.deadline(timeout_ms))
        queue.add(pending)
        self.watch.add(pending)
        # At once, where the log is durable without waiting.
        self._append_path.when_durable(partition.last_position, pending.on_durable)
        return True

    def _defer(
        self,
        pending: PendingProduce,
        topics: list[TopicResults],
        leaders: list[Leader],
        deferred: list[Deferred],
        connection: Connection,
        listener_name: str,
    ) -> Appending:
        """Append the rest in later turns."""
        appending = Appending(connection.proceed)
        release = connection.keep_frame()
        if release is None:
            deferred = [(result, partition, memoryview(bytearray(records))) for result, partition, records in deferred]
            copied = sum(len(records) for _, _, records in deferred)
            self._receive.charge(copied)
            release = partial(self._receive.release, copied)
        work = self._append_deferred(
            pending, topics, leaders, deferred, appending, release, self._parked(leaders, listener_name)
        )
        _ = self._tasks.spawn(work, name="produce in turns")
        return appending

    def _parked(self, leaders: list[Leader], listener_name: str) -> ParkedAppends:
        return ParkedAppends(
            clock=self._clock,
            metadata=self._metadata,
            find=self._partitions.find_by_id,
            listener_name=listener_name,
            leaders=leaders,
        )

    def _append_now(
        self, pending: PendingProduce, result: ProduceResult, partition: Partition, records: memoryview
    ) -> bool:
        """One batch that looks small; False, nothing having changed: it is more than a turn's work, or has to wait."""
        try:
            if partition.rules.append.compression is None:
                self._append(pending, result, partition, records)
            else:
                self._append_compressed(pending, result, partition, records)
        except (DecompressedTooLarge, StreamSealed):
            return False
        return True

    def _append(
        self,
        pending: PendingProduce,
        result: ProduceResult,
        partition: Partition,
        records: memoryview,
        *,
        is_prepared: bool = False,
        large: LargeBatch | None = None,
    ) -> None:
        """One batch; its outcome goes into `result`. Raises DecompressedTooLarge and StreamSealed as `append`."""
        try:
            if pending.version < ZSTD_SINCE_PRODUCE:
                check_produce_version(records, pending.version)
            appended = partition.append(records, is_prepared=is_prepared, large=large)
        except StreamSealed:
            raise
        except (ApiError, StreamError) as error:
            self._fail(pending, result, partition, error)
            return
        result.base_offset = appended.base_offset
        result.log_append_time = appended.log_append_time_ms
        result.log_start_offset = partition.log_start_offset
        if appended.record_count:
            pending.appends += 1
        if appended.position > pending.position:
            pending.position = appended.position

    @staticmethod
    def _fail(pending: PendingProduce, result: ProduceResult, partition: Partition, error: Exception) -> None:
        fail(result, error)
        code = ErrorCode(result.error_code)
        pending.position = max(pending.position, awaited_position(partition, code))
        if code in STATE_CODES:  # the log was looked at: Kafka says where it begins
            result.log_start_offset = partition.log_start_offset

    def _append_compressed(
        self, pending: PendingProduce, result: ProduceResult, partition: Partition, records: memoryview
    ) -> None:
        """One small batch of a topic that has a compression of its own. Raises DecompressedTooLarge as `prepare`."""
        try:
            records = prepare(records, partition.rules.append, self._clock.wall_ms())
        except ApiError as error:
            fail(result, error)
            return
        self._append(pending, result, partition, records, is_prepared=True)

    async def _append_deferred(
        self,
        pending: PendingProduce,
        topics: list[TopicResults],
        leaders: list[Leader],
        deferred: list[Deferred],
        appending: Appending,
        release: Callable[[], None],
        parked: ParkedAppends,
    ) -> None:
        deadline = self._clock.monotonic() + pending.timeout_ms / 1000
        try:
            await self._append_each(pending, deferred, parked, Pace(), deadline)
        finally:
            release()
        self._finish(pending, topics, leaders)
        appending.finish()

    async def _append_each(
        self, pending: PendingProduce, deferred: list[Deferred], parked: ParkedAppends, pace: Pace, deadline: float
    ) -> None:
        """One after the other."""
        for result, target, records in deferred:
            batch_us: int | None = 0
            partition = await self._awaited(pending, result, target, records, parked)
            if partition is not None:
                batch_us = in_place_us(records, partition.rules.append)
                if self._is_closed(partition):
                    parked.refuse(result, partition.topic_id)
                elif (
                    batch_us is None
                    or len(records) > self._append_bytes_max
                    or not self._append_now(pending, result, partition, records)
                ):
                    await self._append_in_turns(pending, result, partition, records, deadline, parked)
            await pace.spend(APPENDED_US + (batch_us or 0))

    async def _awaited(
        self,
        pending: PendingProduce,
        result: ProduceResult,
        target: Partition | Arriving,
        records: memoryview,
        parked: ParkedAppends,
    ) -> Partition | None:
        """The partition, once it takes appends; None when the batch was appended in that very turn, or refused."""
        partition = await parked.arrived(target) if isinstance(target, Arriving) else target
        if partition is None:
            parked.refuse(result, target.topic_id)
            return None
        if partition.parking is None or self._is_closed(partition):
            return partition
        appended: list[bool] = []

        def take() -> None:
            is_small = in_place_us(records, partition.rules.append) is not None
            if is_small and len(records) <= self._append_bytes_max:
                appended.append(self._append_now(pending, result, partition, records))

        if not await parked.taken(partition, take):
            partition.refuse(records)
            parked.refuse(result, partition.topic_id)
            return None
        return None if any(appended) else partition

    async def _append_in_turns(
        self,
        pending: PendingProduce,
        result: ProduceResult,
        partition: Partition,
        records: memoryview,
        deadline: float,
        parked: ParkedAppends,
    ) -> None:
        """One batch that takes longer than a turn. The partition may be gone, or open at another epoch, at its end."""
        large: LargeBatch | None = None
        sent, made_bytes = records, 0
        try:
            rules = partition.rules.append
            records = await prepare_in_turns(records, rules, self._clock.wall_ms(), self._contents)
            if records is not sent:
                made_bytes = len(records)
                self._receive.charge(made_bytes)
            if len(records) > self._append_bytes_max:
                staged = await self._stage(partition, len(records), deadline)
                large = await fill_in_turns(staged, records)
                records = staged.payload
            if self._is_closed(partition):
                raise _closed_meanwhile(partition)
        except (ApiError, StreamError) as error:
            self._fail(pending, result, partition, error)
        else:
            append = partial(self._append, pending, result, partition, records, is_prepared=True, large=large)
            try:
                append()
            except StreamSealed:
                if not await parked.taken(partition, append):
                    partition.refuse(records)
                    parked.refuse(result, partition.topic_id)
        finally:
            self._receive.release(made_bytes)
            if large is not None:
                large.discard()

    def _is_closed(self, partition: Partition) -> bool:
        """Whether it is another broker's by now, gone, or open at another epoch."""
        return self._partitions.find_by_id(partition.topic_id, partition.name.partition) is not partition

    async def _stage(self, partition: Partition, size: int, deadline: float) -> StagedBatch:
        """Memory for a large batch, once there is room. Raises as `Partition.stage`, StorageFull at the deadline."""
        while True:
            try:
                return partition.stage(size)
            except StorageFull:
                left_s = deadline - self._clock.monotonic()
                if left_s <= 0:
                    raise
                room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._append_path.when_room(partial(_set_once, room))
                # Room is told of once there is some, which need not be enough.
                await asyncio.wait([room], timeout=min(left_s, ROOM_CHECK_S))

    def _finish(self, pending: PendingProduce, topics: list[TopicResults], leaders: list[Leader]) -> None:
        """All batches are appended: answer when they are durable."""
        for _, results in topics:
            for result in results:
                if result.error_code:
                    self._on_error(result.error_code)
        if pending.acks == 0:
            pending.is_done = True
            pending.slot.discard()
            if any(result.error_code for _, results in topics for result in results):
                pending.close()
            return
        pending.prepare(topics, endpoints_of(leaders) if leaders else [])
        if pending.position < 0:
            pending.answer()
        else:
            self._append_path.when_durable(pending.position, pending.on_durable)
            if not pending.is_done:
                pending.deadline = self.watch.deadline(pending.timeout_ms)
                self.watch.add(pending)

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

    def _refuse(self, pending: PendingProduce, topics: list[TopicProduceData]) -> None:
        """The whole request asks for what Kafka does not have."""
        answers: list[TopicResults] = [(topic, refused(topic, ErrorCode.INVALID_REQUIRED_ACKS)) for topic in topics]
        for _, results in answers:
            for _result in results:
                self._on_error(ErrorCode.INVALID_REQUIRED_ACKS)
        pending.prepare(answers, [])
        pending.answer()

    def _arriving(self, topic: TopicProduceData, has_ids: bool, index: int) -> Arriving | None:
        """The partition, if it is about to be opened here."""
        image = self._metadata.image
        known = image.topic_by_id(TopicId(topic.topic_id)) if has_ids else image.topic(topic.name)
        parking = None if known is None else self._partitions.arrival(known, index)
        return None if parking is None or known is None else Arriving(known.topic_id, index, parking)

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


def _closed_meanwhile(partition: Partition) -> ApiError:
    return ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{partition.name} was closed meanwhile")


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def awaited_position(partition: Partition, code: ErrorCode) -> int:
    """Rule of both logs, an error is an answer too: the WAL slot that must be durable before `code` is answered.

    -1 when the refusal depends on nothing but the batch itself.
    """
    return partition.last_position if code in STATE_CODES else -1
