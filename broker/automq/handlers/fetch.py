"""Fetch: synchronous where the data are in memory, without a task for each request.

Every partition asked for is looked at in the session's order. What the log cache has is answered at once as views of
its arenas, pinned until the socket has taken them. A request that has less than it asked for is parked until data
arrive or its time is up. Only what must be read from objects gets a task, with a byte budget of its own, so that
readers of old data disturb neither producers nor readers of new data.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from automq.handlers.errors import error_code_of
from automq.handlers.leaders import Leader, leader_of
from automq.ids import Offset
from automq.metadata.publisher import MetadataPublisher
from automq.partition.fetch_session import FetchPlan, FetchSessions, FetchTarget
from automq.partition.manager import PartitionManager
from automq.partition.partition import Partition
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.fetch_codec import (
    TOPIC_IDS_SINCE,
    FetchResult,
    FetchTopicResult,
    encode_fetch_response,
    parse_fetch_request,
)
from automq.protocol.messages.fetch import FetchRequest, NodeEndpoint
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError
from automq.s3stream.stream import ReadResult

MIB: Final = 1024 * 1024
READ_COMMITTED: Final = 1

# A cold partition is read in at least such pieces: each costs a ranged GET.
COLD_BYTES_MIN: Final = 64 * 1024

# Cold partitions that one request reads at once; the others get their turn with the next request.
COLD_PARTITIONS_MAX: Final = 8

# How long an answer waits for objects: not long when there is something else to give, else a client's patience.
COLD_WAIT_WITH_HOT_S: Final = 0.5
COLD_WAIT_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """What a broker may tune."""

    request_bytes_max: int = 57_671_680
    """Most bytes that one request may ask for (fetch.max.bytes)."""
    response_bytes_max: int = 8 * MIB
    """Most bytes of one answer, whatever is asked: it pins arenas until it is sent; a first batch may be larger."""
    cold_bytes: int = 64 * MIB
    """Bytes of all cold answers that are read and not sent yet."""


class Collected:
    """What there is to answer at one moment. Not frozen: one is made for every try."""

    __slots__ = ("budget_release", "cold", "has_news", "leaders", "reads", "results", "size")

    def __init__(self) -> None:
        self.results: list[tuple[FetchTarget, FetchResult]] = []
        self.reads: list[ReadResult] = []
        self.cold: list[tuple[FetchTarget, Partition]] = []
        """Partitions with data that are not in memory."""
        self.leaders: list[Leader] = []
        self.size = 0
        self.has_news = False
        """An error or a diverging epoch: answered without waiting for data."""
        self.budget_release: Callable[[], None] | None = None

    def release(self) -> None:
        """The bytes have left, or are not wanted."""
        for read in self.reads:
            read.release()
        if self.budget_release is not None:
            self.budget_release()
            self.budget_release = None


class PendingFetch:
    """One request, as long as it waits. Not frozen: made for every request."""

    __slots__ = ("bytes_max", "handler", "head", "is_done", "listener_name", "min_bytes", "plan", "request", "slot")

    def __init__(
        self,
        handler: "FetchHandler",
        head: RequestHead,
        slot: ResponseSlot,
        request: FetchRequest,
        plan: FetchPlan,
        listener_name: str,
    ) -> None:
        self.handler = handler
        self.head = head
        self.slot = slot
        self.request = request
        self.plan = plan
        self.listener_name = listener_name
        self.bytes_max = handler.bytes_max(request)
        self.min_bytes = min(request.min_bytes, self.bytes_max)
        self.is_done = False

    def retry(self) -> bool:
        """A partition advanced: whether that was enough."""
        return self.handler.try_answer(self, is_last=False)

    def expire(self) -> None:
        """The time is up: what there is must do."""
        self.handler.try_answer(self, is_last=True)

    def hurry(self) -> None:
        """Answer with what there is, if it waits."""
        if self.handler.unpark(self):
            self.expire()

    def cancel(self) -> None:
        """The connection is gone: nobody waits for the answer any more."""
        self.is_done = True
        self.handler.unpark(self)


class FetchHandler:
    """Fetch of one broker."""

    def __init__(
        self,
        *,
        partitions: PartitionManager,
        sessions: FetchSessions,
        metadata: MetadataPublisher,
        settings: FetchSettings,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
    ) -> None:
        self._partitions = partitions
        self._purgatory = partitions.purgatory
        self._sessions = sessions
        self._metadata = metadata
        self._settings = settings
        self._clock, self._entropy, self._tasks = clock, entropy, tasks
        self._cold_budget = ByteBudget(settings.cold_bytes)

    def start(
        self, head: RequestHead, frame: memoryview, slot: ResponseSlot, *, listener_name: str
    ) -> PendingFetch | None:
        """Answer now, or what to cancel when the connection is lost first. Raises MalformedMessage."""
        request = parse_fetch_request(frame, head.body_offset, head.version)
        plan = self._sessions.begin(request, head.version, now_ms=self._now_ms(), draw_id=self._draw_id)
        if plan.error:
            slot.complete(
                encode_fetch_response(
                    version=head.version, correlation_id=head.correlation_id, topics=(), error_code=plan.error
                )
            )
            return None
        pending = PendingFetch(self, head, slot, request, plan, listener_name)
        wait_s = request.max_wait / 1000
        if self.try_answer(pending, is_last=wait_s <= 0 or not plan.targets):
            return None if pending.is_done else pending
        partitions = [found for target in plan.targets if (found := self._find(pending, target)) is not None]
        self._purgatory.park(pending, partitions, wait_s)
        return pending

    def bytes_max(self, request: FetchRequest) -> int:
        """Most bytes of records in the answer to `request`."""
        return min(request.max_bytes, self._settings.request_bytes_max, self._settings.response_bytes_max)

    def try_answer(self, pending: PendingFetch, *, is_last: bool) -> bool:
        """Answer if there is enough, or if this `is_last` chance; False to wait on."""
        found = self._collect(pending, {})
        if found.cold:
            found.release()
            wait_s = COLD_WAIT_WITH_HOT_S if found.has_news or found.size >= max(1, pending.min_bytes) else COLD_WAIT_S
            _ = self._tasks.spawn(self._answer_cold(pending, found.cold, wait_s), name="cold fetch")
            return True
        if not (is_last or found.has_news or found.size >= pending.min_bytes):
            found.release()
            return False
        self._answer(pending, found)
        return True

    def unpark(self, pending: PendingFetch) -> bool:
        """Take `pending` out of those that wait; whether it was there."""
        return self._purgatory.forget(pending)

    # What there is to read.

    def _collect(self, pending: PendingFetch, cold: dict[FetchTarget, ReadResult | Exception]) -> Collected:
        """Every partition's state, and its data if they are in memory or in `cold`."""
        found = Collected()
        for target in pending.plan.targets:
            partition = self._find(pending, target)
            if partition is None:
                result = self._refuse(pending, target, found)
            else:
                try:
                    result = self._look(pending, target, partition, cold.get(target), found)
                except (ApiError, StreamError, StoreError) as error:
                    result = FetchResult(target.index, error_code_of(error))
                    found.has_news = True
            found.results.append((target, result))
        return found

    def _find(self, pending: PendingFetch, target: FetchTarget) -> Partition | None:
        if pending.head.version >= TOPIC_IDS_SINCE:
            return self._partitions.find_by_id(target.topic_id, target.index)
        return self._partitions.find(target.topic, target.index)

    def _look(
        self,
        pending: PendingFetch,
        target: FetchTarget,
        partition: Partition,
        cold: ReadResult | Exception | None,
        found: Collected,
    ) -> FetchResult:
        """One partition. Raises ApiError, StreamError, StoreError."""
        if isinstance(cold, Exception):
            raise cold
        offset = target.fetch_offset
        if target.leader_epoch >= 0:
            partition.check_leader_epoch(target.leader_epoch)
        end = partition.high_watermark
        aborted = () if pending.request.isolation_level == READ_COMMITTED else None
        result = FetchResult(
            target.index, 0, end, partition.last_stable_offset, partition.log_start_offset, (), 0, aborted
        )
        if target.last_fetched_epoch >= 0 and _diverges(partition, target, result):
            found.has_news = True
            return result
        if partition.quarantine is not None:
            partition.check_end(offset)
        if not partition.is_readable(offset):
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"{partition.name} has no offset {offset} but up to {end} so far"
            )
        if cold is not None:
            _give(result, cold, found)
        elif offset < end and found.size < pending.bytes_max:
            room = pending.bytes_max - found.size
            read = partition.read_cached(Offset(offset), min(target.max_bytes, room))
            if read is None:
                found.cold.append((target, partition))
            elif found.size and read.size > min(target.max_bytes, room):
                # A batch larger than the limit is given only when it is the first thing in the answer.
                read.release()
            else:
                _give(result, read, found)
        return result

    def _refuse(self, pending: PendingFetch, target: FetchTarget, found: Collected) -> FetchResult:
        """There is no such partition, or it is another broker's."""
        found.has_news = True
        image = self._metadata.image
        if pending.head.version >= TOPIC_IDS_SINCE:
            error = self._partitions.refusal_by_id(target.topic_id, target.index)
            known = image.topic_by_id(target.topic_id)
        else:
            error = self._partitions.refusal(target.topic, target.index)
            known = image.topic(target.topic)
        result = FetchResult(target.index, error.code, aborted_transactions=())
        if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            leader = leader_of(image, known, target.index, pending.listener_name)
            if leader is not None:
                result.current_leader = (leader.node, leader.epoch)
                found.leaders.append(leader)
        return result

    # Cold reads.

    async def _answer_cold(
        self, pending: PendingFetch, cold: Sequence[tuple[FetchTarget, Partition]], wait_s: float
    ) -> None:
        """Read what is not in memory, then answer with that and with what is."""
        chosen = cold[:COLD_PARTITIONS_MAX]
        share = max(COLD_BYTES_MIN, pending.bytes_max // len(chosen))
        sizes = [min(max(target.max_bytes, 1), share) for target, _ in chosen]
        taken = sum(sizes)
        results: dict[FetchTarget, ReadResult | Exception] = {}

        async def read_one(target: FetchTarget, partition: Partition, size: int) -> None:
            try:
                results[target] = await partition.read(Offset(target.fetch_offset), size)
            except (StreamError, StoreError) as error:
                results[target] = error

        await self._cold_budget.acquire(taken)
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.gather(*(read_one(*of, size) for of, size in zip(chosen, sizes, strict=True)))
        except TimeoutError:
            # The store is slow: what has not come by now is asked for again by the next request.
            pass
        except asyncio.CancelledError:
            self._cold_budget.release(taken)
            raise
        found = self._collect(pending, results)
        for outcome in results.values():
            if isinstance(outcome, ReadResult) and outcome not in found.reads:
                outcome.release()
        found.budget_release = lambda: self._cold_budget.release(taken)
        self._answer(pending, found)

    # Answers.

    def _answer(self, pending: PendingFetch, found: Collected) -> None:
        """Complete the slot with what was found; its reads stay pinned until the bytes have left."""
        pending.is_done = True
        chosen = pending.plan.to_send(found.results)
        head = pending.head
        buffers = encode_fetch_response(
            version=head.version,
            correlation_id=head.correlation_id,
            topics=_by_topic(chosen),
            session_id=pending.plan.session_id,
            node_endpoints=_endpoints(found.leaders),
        )
        pending.slot.complete(buffers, found.release if found.reads or found.budget_release is not None else None)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def _draw_id(self) -> int:
        return int.from_bytes(self._entropy.token(4), "big") & 0x7FFF_FFFF or 1


def _give(result: FetchResult, read: ReadResult, found: Collected) -> None:
    result.records = read.batches
    result.size = read.size
    found.size += read.size
    found.reads.append(read)


def _diverges(partition: Partition, target: FetchTarget, result: FetchResult) -> bool:
    """Whether the client's log ends in another epoch than ours has there; says where ours ends. Raises ApiError."""
    end = partition.epoch_end(target.last_fetched_epoch)
    if end.epoch < 0 or end.end_offset < 0:
        raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE, f"epoch {target.last_fetched_epoch} is not known")
    if end.epoch < target.last_fetched_epoch or end.end_offset < target.fetch_offset:
        result.diverging_epoch = (end.epoch, end.end_offset)
        return True
    return False


def _by_topic(results: Sequence[tuple[FetchTarget, FetchResult]]) -> list[FetchTopicResult]:
    """Neighbours of one topic together; the order stays."""
    topics: list[FetchTopicResult] = []
    last: FetchTarget | None = None
    partitions: list[FetchResult] = []
    for target, result in results:
        if last is None or target.topic_id != last.topic_id or target.topic != last.topic:
            partitions = []
            topics.append(FetchTopicResult(target.topic, target.topic_id, partitions))
            last = target
        partitions.append(result)
    return topics


def _endpoints(leaders: Sequence[Leader]) -> list[NodeEndpoint]:
    """Where the leaders are, each once."""
    by_node = {leader.node: leader for leader in leaders if leader.host is not None}
    return [
        NodeEndpoint(node_id=leader.node, host=leader.host or "", port=leader.port, rack=leader.rack)
        for leader in by_node.values()
    ]
