"""Fetch: synchronous where the data are in memory, without a task for each request.

What is available is counted first, in the session's order, until it is enough. A request that lacks something is
parked, and what its partitions bring is counted (`partition.purgatory`): results are built once, for the answer. The
answer is a plan: what of the log cache it announces is taken from there when the socket takes it (`record_range`). Only
what must be read from objects gets a task, on a budget that is held while reading and no longer, so that readers of old
data disturb neither producers nor readers of new data, nor one another.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from weakref import ref

from automq.handlers.delayed_fetch import Collected, DelayedFetch, WaitingFetch
from automq.handlers.errors import error_code_of
from automq.handlers.fetch_answers import by_topic, endpoints
from automq.handlers.fetch_checks import are_quiet, available_bytes, check, needs_checks
from automq.handlers.leaders import leader_of
from automq.handlers.reader_pins import ReaderPins
from automq.handlers.record_range import RecordRange, client_of
from automq.handlers.zones import Zones
from automq.ids import Offset
from automq.metadata.publisher import MetadataPublisher
from automq.partition.fetch_session import FetchPlan, FetchSessions, FetchTarget
from automq.partition.manager import PartitionManager
from automq.partition.partition import Partition
from automq.partition.replica import Readable
from automq.protocol.apis import ApiKey
from automq.protocol.codec import MalformedMessage
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.fetch_codec import (
    TOPIC_IDS_SINCE,
    FetchResult,
    FetchTopicResult,
    encode_fetch_response,
    encode_quiet_response,
    parse_fetch_request,
)
from automq.protocol.messages.fetch import FetchRequest
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError
from automq.security.authorizer import Operation, ResourceType
from automq.security.session import Session

MIB: Final = 1024 * 1024
READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

_FETCH: Final = ApiKey.FETCH

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
    """Most bytes of one answer, whatever is asked: it may have to be read at once; a first batch may be larger."""


class FetchHandler:
    """Fetch of one broker."""

    def __init__(
        self,
        *,
        partitions: PartitionManager,
        sessions: FetchSessions,
        metadata: MetadataPublisher,
        settings: FetchSettings,
        pins: ReaderPins,
        zones: Zones,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        on_error: Callable[[int], None] = lambda _code: None,
    ) -> None:
        """`on_error` is called with every code that is answered."""
        self._on_error = on_error
        self.reads = self.cold_reads = 0
        """Partitions that were read for an answer, and those whose data had to be read from objects."""
        self._partitions = partitions
        self._purgatory = partitions.purgatory
        self._sessions = sessions
        self._metadata = metadata
        self._bytes_max = max(0, min(settings.request_bytes_max, settings.response_bytes_max))
        self._clock, self._entropy, self._tasks = clock, entropy, tasks
        self._pins, self._zones = pins, zones

    def start(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        *,
        session: Session,
        end: Callable[[MalformedMessage], None],
    ) -> WaitingFetch | None:
        """Answer now, or what to cancel when the connection is lost. Raises MalformedMessage, or tells `end` later."""
        request = parse_fetch_request(frame, head.body_offset, head.version)
        plan = self._sessions.begin(request, head.version, now_ms=self._now_ms(), draw_id=self._draw_id)
        fetch = self._planned(head, slot, request, plan, session)
        return fetch if fetch is not None and self._begin(fetch) else None

    def _planned(
        self, head: RequestHead, slot: ResponseSlot, request: FetchRequest, plan: FetchPlan, session: Session
    ) -> DelayedFetch | None:
        """What is to be answered; None when it is refused as a whole."""
        if plan.error:
            self._refuse_session(slot, plan.error, version=head.version, correlation_id=head.correlation_id)
            return None
        if plan.targets and request.isolation_level not in (READ_UNCOMMITTED, READ_COMMITTED):
            self._refuse_whole(head, slot, request, ErrorCode.UNKNOWN_SERVER_ERROR)
            return None
        return DelayedFetch(
            self,
            slot,
            request,
            plan,
            version=head.version,
            correlation_id=head.correlation_id,
            session=session,
            bytes_max=self.bytes_max(request),
        )

    def _begin(self, fetch: DelayedFetch) -> bool:
        """Answer now, or let it wait: whether it does."""
        session, plan = fetch.session, fetch.plan
        if session.has_rules and not session.allows_every(Operation.READ, ResourceType.TOPIC):
            fetch.refused = frozenset(target for target in plan.targets if not self._may_read(fetch, target))
        wait_s = fetch.wait_s
        rooms = self._rooms(fetch) if wait_s > 0 and plan.targets and not fetch.refused else None
        if rooms is None:
            self.answer(fetch)
            return not fetch.is_done
        self._purgatory.park(fetch, rooms, wait_s)
        return True

    def bytes_max(self, request: FetchRequest) -> int:
        """Most bytes of records in the answer to `request`."""
        asked, limit = request.max_bytes, self._bytes_max
        return limit if asked > limit else max(asked, 0)

    def unpark(self, fetch: DelayedFetch) -> bool:
        """Take `fetch` out of those that wait; whether it was there."""
        return self._purgatory.forget(fetch)

    # What is available.

    def _rooms(self, fetch: DelayedFetch) -> dict[Partition, int] | None:
        """What to wait for: the bytes of each partition that would count beside what is available.

        None when the fetch is to be answered now: enough is available, nothing more can be, something is not in memory
        or there is an error to tell.
        """
        if fetch.missing_bytes <= 0 or fetch.is_from_replica:
            return None
        rooms = self._rooms_of(fetch, fetch.plan.targets)
        return rooms if rooms is not None and any(rooms.values()) else None

    def _rooms_of(self, fetch: DelayedFetch, targets: Sequence[FetchTarget]) -> dict[Partition, int] | None:
        """As `_rooms`, of some of its targets; what is available is not missing any more."""
        missing = fetch.missing_bytes
        rooms: dict[Partition, int] = {}
        for target in targets:
            partition: Readable | None = target.partition_ref()
            if not isinstance(partition, Partition) or not partition.is_open:
                found = self._find(fetch, target)
                if not isinstance(found, Partition):
                    return None
                partition = found
            # A first batch is given to those who want no byte, too.
            room = target.max_bytes if target.max_bytes > 0 else 1
            if target.fetch_offset != partition.high_watermark or needs_checks(target, partition):
                available = available_bytes(target, partition, bytes_max=min(room, missing))
                if available is None:
                    return None
                available = min(available, room)
                missing -= available
                room -= available
                if missing <= 0:
                    return None
            rooms[partition] = room
        fetch.missing_bytes = missing
        return rooms

    # What there is to read.

    def expire(self, fetch: DelayedFetch) -> bool:
        """As `answer`, of one whose time is up: whether it rests (`Waiter.on_expiration`)."""
        self.answer(fetch)
        return False

    def answer(self, fetch: DelayedFetch) -> None:
        """Answer with what there is, read from objects if need be."""
        if self._is_quiet(fetch, fetch.plan.targets):
            self._complete_quiet(fetch)
            return
        found = self._collect(fetch, {})
        if not found.cold:
            self._complete(fetch, found)
            return
        _ = self._tasks.spawn(self._answer_cold(fetch, found), name="cold fetch")

    @staticmethod
    def _is_quiet(fetch: DelayedFetch, targets: Sequence[FetchTarget]) -> bool:
        """Whether the client of a session was told everything of them: with most fetches at the end of a log it is."""
        return fetch.plan.is_incremental and not fetch.refused and not fetch.is_from_replica and are_quiet(targets)

    def _collect(self, fetch: DelayedFetch, cold: Mapping[FetchTarget, RecordRange | Exception]) -> Collected:
        """Every partition's state, and its data if they are in memory or in `cold`."""
        found = Collected()
        self._collect_of(fetch, fetch.plan.targets, cold, found)
        return found

    def _collect_of(
        self,
        fetch: DelayedFetch,
        targets: Sequence[FetchTarget],
        cold: Mapping[FetchTarget, RecordRange | Exception],
        found: Collected,
    ) -> None:
        """As `_collect`, of some targets, into `found`."""
        plan = fetch.plan
        for target in targets:
            partition: Readable | None = target.partition_ref()
            if partition is None or not partition.is_open:
                partition = self._find(fetch, target)
            if target in fetch.refused:
                result = FetchResult(target.index, ErrorCode.TOPIC_AUTHORIZATION_FAILED, aborted_transactions=())
                found.has_news = True
            elif partition is None:
                result = self._refuse(fetch, target, found)
            elif (
                target.fetch_offset == (end := partition.high_watermark)
                and plan.is_unchanged(target, high_watermark=end, log_start=partition.log_start_offset)
                and not needs_checks(target, partition)
                and not fetch.is_from_replica
                and target not in cold
            ):
                continue
            else:
                try:
                    result = self._read(fetch, target, partition, cold.get(target), found)
                except (ApiError, StreamError, StoreError) as error:
                    result = FetchResult(target.index, error_code_of(error))
                    found.has_news = True
            found.results.append((target, result))

    def _may_read(self, fetch: DelayedFetch, target: FetchTarget) -> bool:
        """Whether the client may read the topic; of an id that is not known there is nothing to ask."""
        name = target.topic
        if fetch.is_by_id:
            topic = self._metadata.image.topic_by_id(target.topic_id)
            if topic is None:
                return True
            name = topic.name
        return fetch.session.allows(Operation.READ, (ResourceType.TOPIC, name))

    def _find(self, fetch: DelayedFetch, target: FetchTarget) -> Readable | None:
        partition: Readable | None
        if fetch.is_by_id:
            partition = self._partitions.find_by_id(target.topic_id, target.index)
        else:
            partition = self._partitions.find(target.topic, target.index)
        if partition is None and fetch.zone:
            partition = self._zones.replica(fetch, target)
        if partition is not None:
            target.partition_ref = ref(partition)
            target.known_topic = partition.name.topic
        return partition

    def _read(
        self,
        fetch: DelayedFetch,
        target: FetchTarget,
        partition: Readable,
        cold: RecordRange | Exception | None,
        found: Collected,
    ) -> FetchResult:
        """One partition. Raises ApiError, StreamError, StoreError."""
        if isinstance(cold, Exception):
            raise cold
        if fetch.is_from_replica:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{partition.name} has no followers")
        offset = target.fetch_offset
        end = partition.high_watermark
        diverging = check(target, partition)
        aborted = () if fetch.request.isolation_level == READ_COMMITTED else None
        result = FetchResult(
            target.index, 0, end, partition.last_stable_offset, partition.log_start_offset, (), 0, aborted
        )
        if diverging is not None:
            result.diverging_epoch = (diverging.epoch, diverging.end_offset)
            found.has_news = True
            return result
        room = fetch.bytes_max - found.size
        named = self._zones.named(fetch, target, partition) if fetch.zone else None
        if named is not None:
            result.preferred_read_replica = named
            found.has_news = True
        elif cold is not None:
            found.add(result, cold)
        elif offset < end and (room > 0 or not found.size):
            limit = min(target.max_bytes, room)
            measured = partition.measure_cached(Offset(offset), limit)
            if measured is None:
                found.cold.append((target, partition))
            elif not found.size or measured[2] <= limit:
                # A batch larger than the limit is given only when it is the first thing in the answer.
                first, stop, size = measured
                found.add(result, self._range(fetch, partition, first, stop, size))
        return result

    def _refuse(self, fetch: DelayedFetch, target: FetchTarget, found: Collected) -> FetchResult:
        """There is no such partition, or it is another broker's."""
        found.has_news = True
        image = self._metadata.image
        if fetch.is_by_id:
            error = self._partitions.refusal_by_id(target.topic_id, target.index)
            topic = image.topic_by_id(target.topic_id)
        else:
            error = self._partitions.refusal(target.topic, target.index)
            topic = image.topic(target.topic)
        if topic is None and fetch.is_by_id and target.known_topic:
            # A session knows the topic by name, too: Kafka says whether the name is gone or means another topic.
            is_named = image.topic(target.known_topic) is not None
            error = ApiError(
                ErrorCode.INCONSISTENT_TOPIC_ID if is_named else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {target.known_topic} is not {target.topic_id} any more",
            )
        result = FetchResult(target.index, error.code, aborted_transactions=())
        if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            leader = leader_of(image, topic, target.index, fetch.session.listener_name)
            if leader is not None:
                result.current_leader = (leader.node, leader.epoch)
                found.leaders.append(leader)
        return result

    def _refuse_session(self, slot: ResponseSlot, error: ErrorCode, *, version: int, correlation_id: int) -> None:
        """There is no such session, or this is not its next request."""
        self._on_error(error)
        slot.complete(
            encode_fetch_response(version=version, correlation_id=correlation_id, topics=(), error_code=error)
        )

    def _refuse_whole(self, head: RequestHead, slot: ResponseSlot, request: FetchRequest, code: ErrorCode) -> None:
        """As Kafka: one code for everything, and from version 13 on no partitions beside it."""
        self._on_error(code)
        topics = [
            FetchTopicResult(
                topic.topic, topic.topic_id, [FetchResult(one.partition, code) for one in topic.partitions]
            )
            for topic in (() if head.version >= TOPIC_IDS_SINCE else request.topics)
        ]
        slot.complete(
            encode_fetch_response(
                version=head.version,
                correlation_id=head.correlation_id,
                topics=topics,
                error_code=code,
                session_id=request.session_id,
            )
        )

    # Cold reads.

    async def _answer_cold(self, fetch: DelayedFetch, found: Collected) -> None:
        """Read what is not in memory, then answer with that and with what is."""
        results = await self._come_cold(fetch, found)
        if not fetch.is_done:
            self._complete(fetch, self._collect(fetch, results))

    async def _come_cold(self, fetch: DelayedFetch, found: Collected) -> dict[FetchTarget, RecordRange | Exception]:
        """What of `found.cold` has come when its time is up."""
        wait_s = COLD_WAIT_WITH_HOT_S if found.has_news or found.size >= max(1, fetch.min_bytes) else COLD_WAIT_S
        results: dict[FetchTarget, RecordRange | Exception] = {}
        fetch.reading = self._tasks.spawn(self._read_cold(fetch, found.cold, results), name="cold read")
        # Where the store is slow, what has not come by then is asked for again by the next request.
        await asyncio.wait((fetch.reading,), timeout=0 if fetch.is_hastened else wait_s)
        fetch.reading.cancel()
        fetch.reading = None
        return results

    async def _read_cold(
        self,
        fetch: DelayedFetch,
        cold: Sequence[tuple[FetchTarget, Readable]],
        results: dict[FetchTarget, RecordRange | Exception],
    ) -> None:
        """Read some of `cold`, each into `results` as it comes. The budget is held while reading, and no longer."""
        chosen = cold[:COLD_PARTITIONS_MAX]
        self.cold_reads += len(chosen)
        share = max(COLD_BYTES_MIN, fetch.bytes_max // len(chosen))
        sizes = [min(max(target.max_bytes, 1), share) for target, _ in chosen]

        async def read_one(target: FetchTarget, partition: Readable, size: int) -> None:
            try:
                read = await partition.read(Offset(target.fetch_offset), size)
            except (ApiError, StreamError, StoreError) as error:
                results[target] = error
                return
            if read.size:
                # What came into the log cache in the meantime is taken from there when it is sent.
                loaded = () if read.is_pinned else read.batches
                results[target] = self._range(
                    fetch, partition, read.start_offset, read.end_offset, read.size, loaded=loaded
                )
            read.release()

        async with self._pins.reading(client_of(fetch.session), sum(sizes)):
            await asyncio.gather(*(read_one(*of, size) for of, size in zip(chosen, sizes, strict=True)))

    def _range(
        self,
        fetch: DelayedFetch,
        partition: Readable,
        start: Offset,
        end: Offset,
        size: int,
        *,
        loaded: Sequence[memoryview] = (),
    ) -> RecordRange:
        return RecordRange(
            partition, start=start, end=end, size=size, pins=self._pins, session=fetch.session, loaded=loaded
        )

    # Answers.

    def _complete_quiet(self, fetch: DelayedFetch) -> None:
        """Complete the slot with nothing."""
        fetch.is_done = True
        session = fetch.session
        throttle_time = session.throttle(_FETCH, 0) if session.has_rules else 0
        fetch.slot.complete(
            encode_quiet_response(fetch.version, fetch.correlation_id, fetch.plan.session_id, throttle_time)
        )

    def _complete(self, fetch: DelayedFetch, found: Collected) -> None:
        """Complete the slot with what was found."""
        fetch.is_done = True
        self._count(found.results)
        if fetch.zone:
            self._zones.count_out(fetch.zone, found.size)
        chosen = fetch.plan.to_send(found.results)
        parts = encode_fetch_response(
            version=fetch.version,
            correlation_id=fetch.correlation_id,
            topics=by_topic(chosen),
            session_id=fetch.plan.session_id,
            throttle_time=fetch.session.throttle(_FETCH, found.size),
            node_endpoints=endpoints(found.leaders),
        )
        fetch.slot.complete(parts)

    def _count(self, results: Sequence[tuple[FetchTarget, FetchResult]]) -> None:
        for target, result in results:
            if result.size:
                self.reads += 1
                partition: Readable | None = target.partition_ref()
                if partition is not None:
                    partition.traffic.given(result.size)
            elif result.error_code:
                self._on_error(result.error_code)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def _draw_id(self) -> int:
        return int.from_bytes(self._entropy.token(4), "big") & 0x7FFF_FFFF or 1
