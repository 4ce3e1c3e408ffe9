"""Produce of very many partitions: what `handlers.produce` does in one turn of the event loop, some partitions a turn.

The frame stays where it is, and the connection's next request waits, until every batch is appended or refused: order
is kept as it is for a request that is appended in turns because it is large. A batch is judged in the turn in which it
is appended. The request has arrived whole: it is appended even if its client is gone meanwhile, as by Kafka.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from automq.handlers.leaders import Leader
from automq.handlers.pending_produce import AnswerWatch, Appending, Connection, PendingProduce, override_result
from automq.handlers.produce import Deferred, ProduceHandler
from automq.handlers.produce_results import endpoints_of
from automq.ids import TopicId
from automq.protocol.apis import APIS, ApiKey, encode_response_in_parts
from automq.protocol.codec import MalformedMessage, decode_in_parts
from automq.protocol.connection import RequestHead, ResponseSlot
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from automq.protocol.produce_codec import (
    FLEXIBLE_SINCE,
    LEADERS_SINCE,
    TOPIC_IDS_SINCE,
    ManyPartitions,
    ProduceResult,
    partition_response,
)
from automq.runtime.turns import Pace, in_turns
from automq.security.authorizer import Operation, ResourceType
from automq.security.session import Session

SLICE: Final = 64
# About how long a partition takes: to be found or refused, and its result to be made part of the answer; to be
# answered something else.
RESULT_US: Final = 8
OVERRIDDEN_US: Final = 1

_PRODUCE: Final = APIS[ApiKey.PRODUCE]
_VALID_ACKS: Final = (0, 1, -1)


class WidePendingProduce(PendingProduce):
    """As its base; where the answer becomes another one after all, that is made in turns by whoever awaits `end`."""

    __slots__ = ("_is_over", "_override")

    def __init__(
        self,
        head: RequestHead,
        slot: ResponseSlot,
        acks: int,
        timeout_ms: int,
        close: Callable[[], None],
        watch: AnswerWatch,
        throttle_ms: int,
    ) -> None:
        super().__init__(head, slot, acks, timeout_ms, close, watch, throttle_ms)
        self._is_over = asyncio.Event()
        self._override: tuple[ErrorCode, str] | None = None

    def keep(self, answer: bytes, *, batches: int) -> None:
        """The answer to a request of so many batches, once they are durable."""
        self.slot.is_own_write = 0 < batches == self.appends
        self._answer = answer

    def override(self, code: ErrorCode, message: str) -> None:
        self.slot.is_own_write = False
        self._override = code, message

    def answer(self) -> None:
        if self._override is None:
            super().answer()
        else:
            self.is_done = True
            self._watch.watched.pop(self, None)
        self._is_over.set()

    def answer_nothing(self) -> None:
        """There is no answer: acks are 0."""
        self.is_done = True
        self.slot.discard()
        self._is_over.set()

    async def end(self) -> None:
        """Wait until it is answered, or answer what it is to be answered instead."""
        await self._is_over.wait()
        if self._override is None:
            return
        code, message = self._override
        start = 9 if self.version >= FLEXIBLE_SINCE else 8
        response, _ = await in_turns(decode_in_parts(ProduceResponse, self.version, bytes(self._answer), start))
        self._answer = b""
        pace = Pace()
        for topic in response.responses:
            for result in topic.partition_responses:
                override_result(result, code, message, self._watch.on_error)
                await pace.spend(OVERRIDDEN_US)
        parts = encode_response_in_parts(_PRODUCE, self.version, self.correlation_id, response)
        self.slot.complete((await in_turns(parts),))


class _Answer:
    """What the answer will say, while batches are appended."""

    def __init__(self, pending: WidePendingProduce) -> None:
        self.response = ProduceResponse(responses=[], throttle_time=pending.throttle_ms, node_endpoints=[])
        self.batches = 0
        self.is_any_refused = False
        self.leaders: list[Leader] = []
        """Of partitions that are elsewhere, since the last slice."""
        self._by_node: dict[int, Leader] = {}
        self._has_leaders = pending.version >= LEADERS_SINCE
        self._is_given = pending.acks != 0

    def begin_topic(self, topic: TopicProduceData) -> TopicProduceResponse:
        """What follows is of that topic."""
        answer = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[])
        if self._is_given:
            self.response.responses.append(answer)
        return answer

    def add(
        self, topic: TopicProduceResponse, results: Sequence[ProduceResult], on_error: Callable[[int], None]
    ) -> None:
        """A slice of it is over."""
        self.batches += len(results)
        for result in results:
            if result.error_code:
                self.is_any_refused = True
                on_error(result.error_code)
        if self._is_given:
            topic.partition_responses += [partition_response(one, has_leaders=self._has_leaders) for one in results]
        self._by_node |= {leader.node: leader for leader in self.leaders if leader.host is not None}
        self.leaders.clear()

    def complete(self) -> ProduceResponse:
        """All of it."""
        if self._has_leaders:
            self.response.node_endpoints = endpoints_of(list(self._by_node.values()))
        return self.response


class WideProduceHandler(ProduceHandler):
    """Produce of one broker, of any number of partitions."""

    def start(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        session: Session,
        connection: Connection,
    ) -> Appending | None:
        try:
            return super().start(head, frame, slot, session, connection)
        except ManyPartitions:
            pass
        # Nothing has been done for it yet.
        throttle_ms = session.throttle(ApiKey.PRODUCE, len(frame)) if session.has_rules else 0
        release = connection.keep_frame()
        if release is None:
            frame = memoryview(bytearray(frame))
            self._receive.charge(len(frame))
            release = partial(self._receive.release, len(frame))
        appending = Appending(connection.proceed)
        work = self._produce_in_turns(head, frame, slot, session, connection, throttle_ms, appending, release)
        _ = self._tasks.spawn(work, name="wide produce")
        return appending

    async def _produce_in_turns(
        self,
        head: RequestHead,
        frame: memoryview,
        slot: ResponseSlot,
        session: Session,
        connection: Connection,
        throttle_ms: int,
        appending: Appending,
        release: Callable[[], None],
    ) -> None:
        try:
            try:
                request, _ = await in_turns(decode_in_parts(ProduceRequest, head.version, frame, head.body_offset))
            except MalformedMessage as error:
                slot.discard()
                connection.end(error)
                return
            pending = WidePendingProduce(
                head, slot, request.acks, request.timeout, connection.close, self.watch, throttle_ms
            )
            answer = await self._append_topics(pending, request, session)
        finally:
            release()
        # It may take long until the answer leaves.
        del frame, release
        await self._finish_in_turns(pending, answer)
        appending.finish()
        await pending.end()

    async def _append_topics(self, pending: WidePendingProduce, request: ProduceRequest, session: Session) -> _Answer:
        """Append what can be; what is done with is freed on the way."""
        answer, pace = _Answer(pending), Pace()
        may_write_all = not session.has_rules or session.allows_every(Operation.WRITE, ResourceType.TOPIC)
        has_ids = pending.version >= TOPIC_IDS_SINCE
        parked = self._parked(answer.leaders, session.listener_name)
        deadline = self._clock.monotonic() + pending.timeout_ms / 1000
        topics = request.topic_data
        topics.reverse()
        while topics:
            topic = topics.pop()
            code = ErrorCode.NONE
            if pending.acks not in _VALID_ACKS:
                code = ErrorCode.INVALID_REQUIRED_ACKS
            elif not may_write_all and not self._may_write(session, topic, has_ids):
                code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            topic_answer = answer.begin_topic(topic)
            asked = topic.partition_data
            asked.reverse()
            while asked:
                some = asked[: -SLICE - 1 : -1]
                del asked[-SLICE:]
                if code:
                    results = [ProduceResult(one.index, code) for one in some]
                else:
                    results, found = self._find(topic, some, session.listener_name, answer.leaders, has_ids=has_ids)
                    await self._append_each(pending, found, parked, pace, deadline)
                answer.add(topic_answer, results, self._on_error)
                await pace.spend(len(some) * RESULT_US)
            await pace.spend(RESULT_US)
        return answer

    def _find(
        self,
        topic: TopicProduceData,
        some: Sequence[PartitionProduceData],
        listener_name: str,
        leaders: list[Leader],
        *,
        has_ids: bool,
    ) -> tuple[list[ProduceResult], list[Deferred]]:
        """A result for each of them, and those of them that are here, or about to be."""
        results: list[ProduceResult] = []
        found: list[Deferred] = []
        topic_id = TopicId(topic.topic_id)
        for asked in some:
            index = asked.index
            result = ProduceResult(index, 0)
            results.append(result)
            partition = (
                self._partitions.find_by_id(topic_id, index) if has_ids else self._partitions.find(topic.name, index)
            )
            target = self._arriving(topic, has_ids, index) if partition is None else partition
            if target is None:
                self._refuse_unknown(result, topic, has_ids, listener_name, leaders)
            else:
                found.append((result, target, memoryview(b"") if asked.records is None else asked.records))
        return results, found

    async def _finish_in_turns(self, pending: WidePendingProduce, answer: _Answer) -> None:
        """As `_finish`."""
        if pending.acks == 0:
            pending.answer_nothing()
            if answer.is_any_refused:
                pending.close()
            return
        parts = encode_response_in_parts(_PRODUCE, pending.version, pending.correlation_id, answer.complete())
        pending.keep(await in_turns(parts), batches=answer.batches)
        if pending.position < 0:
            pending.answer()
            return
        self._append_path.when_durable(pending.position, pending.on_durable)
        if not pending.is_done:
            pending.deadline = self.watch.deadline(pending.timeout_ms)
            self.watch.add(pending)
