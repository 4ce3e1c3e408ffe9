"""Pure: incremental fetch sessions (KIP-227): a consumer of a thousand partitions does not name them every time.

A full request (epoch 0) opens a session and gets its id; later ones, numbered 1, 2, ..., name only what changed, and
are answered only with the partitions that have something to say. A partition that gave data goes to the end of the
line, so that every one gets its turn under the response limit. Epoch -1 ends the session named, if any, and opens none.
A client whose session is gone is told so and starts over; a session is never refused, it is just not opened.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from automq.callbacks import ignore
from automq.ids import TopicId
from automq.protocol.errors import ErrorCode
from automq.protocol.fetch_codec import TOPIC_IDS_SINCE, FetchResult
from automq.protocol.messages.fetch import FetchPartition, FetchRequest
from automq.steps import Steps, at_once, slices

NO_SESSION: Final = 0
OPENING_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
EPOCH_MAX: Final = 2**31 - 1

# A session that was used within this time gives its slot to nobody.
IDLE_MS_MIN: Final = 120_000

# Partitions of all sessions together, some 250 bytes each. Beyond it clients send full requests.
PARTITIONS_MAX: Final = 200_000

# About how long one partition of a request takes, and how many are a part of the work.
TARGET_US: Final = 2
SLICE: Final = 256


class FetchTarget:
    """One partition a client reads, and what it was last told of it. Not frozen: sessions keep it up to date."""

    __slots__ = (
        "fetch_offset",
        "index",
        "known_topic",
        "last_fetched_epoch",
        "leader_epoch",
        "max_bytes",
        "partition_ref",
        "sent_high_watermark",
        "sent_log_start",
        "topic",
        "topic_id",
    )

    def __init__(self, topic: str, topic_id: TopicId, asked: FetchPartition) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.index = asked.partition
        self.partition_ref: Callable[[], Any] = ignore
        """The handler's: gives the Partition that this was found to be last, which may be closed by now, or None. It is
        a weak reference: a session that nobody uses any more does not keep what was deleted."""
        self.known_topic = ""
        """Its name, once it was found: clients that name topics by id do not say it."""
        self.sent_high_watermark = -1
        self.sent_log_start = -1
        self.ask(asked)

    def ask(self, asked: FetchPartition) -> None:
        """What the client asks of this partition from now on."""
        self.fetch_offset = asked.fetch_offset
        self.max_bytes = asked.partition_max_bytes
        self.leader_epoch = asked.current_leader_epoch
        self.last_fetched_epoch = asked.last_fetched_epoch


_Key = tuple[object, int]
"""Topic name or id, and index: both kinds never meet in one session."""


class FetchSession:
    """One client's partitions, in the order in which they get their turn."""

    __slots__ = ("epoch", "plan", "session_id", "targets", "used_ms", "uses_ids")

    def __init__(self, session_id: int, targets: dict[_Key, FetchTarget], *, uses_ids: bool, now_ms: int) -> None:
        self.session_id = session_id
        self.epoch = 1
        """What the next request must carry."""
        self.targets = targets
        self.uses_ids = uses_ids
        self.used_ms = now_ms
        self.plan: FetchPlan | None = None
        """What a request reads that changes nothing; None when that has to be found out."""


class FetchPlan:
    """What a request reads. Not frozen; those of a session that read the same in the same order share one."""

    __slots__ = ("error", "is_incremental", "session", "session_id", "targets")

    def __init__(
        self,
        targets: Sequence[FetchTarget],
        *,
        error: ErrorCode = ErrorCode.NONE,
        session: FetchSession | None = None,
        is_incremental: bool = False,
    ) -> None:
        self.targets = targets
        self.error = error
        self.session_id = NO_SESSION if session is None else session.session_id
        self.is_incremental = is_incremental
        self.session = session

    def to_send(self, results: Iterable[tuple[FetchTarget, FetchResult]]) -> list[tuple[FetchTarget, FetchResult]]:
        """Of results, in order, those the client must be told; once for each, for the answer that is sent."""
        session = self.session
        if session is None:
            return list(results)
        chosen = []
        for target, result in results:
            if self._is_news(target, result) or not self.is_incremental:
                chosen.append((target, result))
            if result.size:
                key = _key_of(target, session.uses_ids)
                # Unless a later request has forgotten it.
                if session.targets.get(key) is target:
                    del session.targets[key]
                    session.targets[key] = target
                    session.plan = None
        return chosen

    def is_unchanged(self, target: FetchTarget, *, high_watermark: int, log_start: int) -> bool:
        """Whether the client knows everything of the partition but records: its answer may be left out then."""
        return (
            self.is_incremental and target.sent_high_watermark == high_watermark and target.sent_log_start == log_start
        )

    @staticmethod
    def _is_news(target: FetchTarget, result: FetchResult) -> bool:
        is_news = bool(
            result.size
            or result.error_code
            or result.diverging_epoch
            or result.preferred_read_replica >= 0
            or result.high_watermark != target.sent_high_watermark
            or result.log_start_offset != target.sent_log_start
        )
        # After an error the next answer is news whatever it is: it tells that the error is over.
        target.sent_high_watermark = -1 if result.error_code else result.high_watermark
        target.sent_log_start = result.log_start_offset
        return is_news


class FetchSessions:
    """All sessions of one broker; the least recently used come first."""

    def __init__(self, slots: int = 1000) -> None:
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}
        self.partitions = 0
        """Of all sessions together."""

    def __len__(self) -> int:
        return len(self._sessions)

    def resume(self, plan: FetchPlan, epoch: int, *, now_ms: int) -> FetchPlan | None:
        """What a request reads that names nothing new and follows the one of `plan`; None: `begin` is to say."""
        session = plan.session
        if session is None or session.epoch != epoch or self._sessions.get(session.session_id) is not session:
            return None
        return self._next_plan(session, now_ms)

    def begin(self, request: FetchRequest, version: int, *, now_ms: int, draw_id: Callable[[], int]) -> FetchPlan:
        """What `request` reads. `draw_id` gives random numbers of 1 to 2^31-1."""
        return at_once(self.begin_in_turns(request, version, now_ms=now_ms, draw_id=draw_id))

    def begin_in_turns(
        self, request: FetchRequest, version: int, *, now_ms: int, draw_id: Callable[[], int]
    ) -> Steps[FetchPlan]:
        """As `begin`, of a request that names very many partitions."""
        uses_ids = version >= TOPIC_IDS_SINCE
        epoch = request.session_epoch
        if epoch in (OPENING_EPOCH, FINAL_EPOCH):
            if request.session_id != NO_SESSION:
                self._remove(request.session_id)
            targets = yield from _named(request, uses_ids)
            session = None
            if epoch == OPENING_EPOCH:
                session = self._open(targets, uses_ids=uses_ids, now_ms=now_ms, draw_id=draw_id)
            return FetchPlan(list(targets.values()), session=session)
        if error := self._refusal(request, uses_ids):
            return FetchPlan([], error=error)
        session = self._sessions[request.session_id]
        if request.topics or request.forgotten_topics_data:
            yield from self._update(session, request)
            # Others may have had their turn meanwhile.
            if error := self._refusal(request, uses_ids):
                return FetchPlan([], error=error)
        if not session.targets:
            self._remove(session.session_id)
            return FetchPlan([])
        return self._next_plan(session, now_ms)

    def _refusal(self, request: FetchRequest, uses_ids: bool) -> ErrorCode:
        """Why the session does not go on with this request, if it does not."""
        session = self._sessions.get(request.session_id)
        if session is None:
            return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        if session.epoch != request.session_epoch:
            return ErrorCode.INVALID_FETCH_SESSION_EPOCH
        return ErrorCode.NONE if session.uses_ids == uses_ids else ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR

    def _next_plan(self, session: FetchSession, now_ms: int) -> FetchPlan:
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        session.used_ms = now_ms
        # Last in line for eviction.
        del self._sessions[session.session_id]
        self._sessions[session.session_id] = session
        plan = session.plan
        if plan is None:
            plan = session.plan = FetchPlan(list(session.targets.values()), session=session, is_incremental=True)
        return plan

    def _update(self, session: FetchSession, request: FetchRequest) -> Steps[None]:
        targets = session.targets
        for topic in request.forgotten_topics_data:
            for some in slices(topic.partitions, SLICE):
                before = len(targets)
                for index in some:
                    targets.pop((topic.topic_id if session.uses_ids else topic.topic, index), None)
                self._changed(session, before)
                yield len(some) * TARGET_US
        for named in request.topics:
            for part in slices(named.partitions, SLICE):
                before = len(targets)
                for asked in part:
                    key = (named.topic_id if session.uses_ids else named.topic, asked.partition)
                    known = targets.get(key)
                    if known is None:
                        targets[key] = FetchTarget(named.topic, TopicId(named.topic_id), asked)
                    else:
                        known.ask(asked)
                self._changed(session, before)
                yield len(part) * TARGET_US

    def _changed(self, session: FetchSession, before: int) -> None:
        """The session had `before` targets. One that was removed meanwhile counts no more."""
        session.plan = None
        if self._sessions.get(session.session_id) is session:
            self.partitions += len(session.targets) - before

    def _open(
        self, targets: dict[_Key, FetchTarget], *, uses_ids: bool, now_ms: int, draw_id: Callable[[], int]
    ) -> FetchSession | None:
        """A session, unless there is no room for it; sessions that are idle for long make room."""
        if not targets or not self._slots:
            return None
        while len(self._sessions) >= self._slots or self.partitions + len(targets) > PARTITIONS_MAX:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now_ms - oldest.used_ms < IDLE_MS_MIN:
                return None
            self._remove(oldest.session_id)
        session_id = draw_id()
        while session_id in self._sessions:
            session_id = draw_id()
        session = FetchSession(session_id, targets, uses_ids=uses_ids, now_ms=now_ms)
        self._sessions[session_id] = session
        self.partitions += len(targets)
        return session

    def _remove(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self.partitions -= len(session.targets)


def _named(request: FetchRequest, uses_ids: bool) -> Steps[dict[_Key, FetchTarget]]:
    targets: dict[_Key, FetchTarget] = {}
    for topic in request.topics:
        key = topic.topic_id if uses_ids else topic.topic
        for some in slices(topic.partitions, SLICE):
            for asked in some:
                targets[key, asked.partition] = FetchTarget(topic.topic, TopicId(topic.topic_id), asked)
            yield len(some) * TARGET_US
    return targets


def _key_of(target: FetchTarget, uses_ids: bool) -> _Key:
    return (target.topic_id if uses_ids else target.topic, target.index)
