"""One Fetch request between its arrival and its answer: Kafka's DelayedFetch.

`DelayedFetch.missing_bytes` is the distance to "enough", which is a question about the log and not about the answer:
what is available of each partition (from its fetch offset to the high watermark, at most its partition_max_bytes),
summed, against min_bytes. What then fits the answer may be less, as whole batches are given.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from automq.handlers.leaders import Leader
from automq.handlers.record_range import RecordRange
from automq.handlers.zone_hint import zone_hint
from automq.partition.fetch_session import FetchPlan, FetchTarget
from automq.partition.partition import Partition
from automq.partition.purgatory import Tick
from automq.partition.replica import Readable
from automq.protocol.connection import ResponseSlot
from automq.protocol.fetch_codec import REPLICA_STATE_SINCE, TOPIC_IDS_SINCE, FetchResult
from automq.protocol.messages.fetch import FetchRequest
from automq.security.session import Session

CONSUMER_MAX: Final = -1
"""Replica ids above it are those of brokers."""

NOTHING: Final[frozenset[FetchTarget]] = frozenset()


class Answerer(Protocol):
    """Who answers a fetch."""

    def answer(self, fetch: "DelayedFetch") -> None:
        """Answer with what there is."""
        ...

    def expire(self, fetch: "DelayedFetch") -> bool:
        """As `answer`, of one whose time is up: whether it rests (`Waiter.on_expiration`)."""
        ...

    def unpark(self, fetch: "DelayedFetch") -> bool:
        """Take the fetch out of the purgatory; whether it was there."""
        ...


class WaitingFetch(Protocol):
    """What a connection knows of a Fetch that is not answered yet."""

    is_done: bool

    def hasten(self) -> None:
        """Answer with what there is, whatever it waits for: the broker is draining."""
        ...

    def cancel(self) -> None:
        """The connection is gone: nobody waits for the answer any more."""
        ...


class DelayedFetch:
    """One request, as long as it waits; used again when the same client asks for the same."""

    __slots__ = (
        "_answerer",
        "bytes_max",
        "correlation_id",
        "is_by_id",
        "is_done",
        "is_from_replica",
        "is_hastened",
        "min_bytes",
        "missing_bytes",
        "open_partitions",
        "plan",
        "reading",
        "refused",
        "request",
        "resting",
        "session",
        "slot",
        "tick",
        "version",
        "wait_s",
        "work",
        "zone",
    )

    def __init__(
        self,
        answerer: Answerer,
        slot: ResponseSlot,
        request: FetchRequest,
        plan: FetchPlan,
        *,
        version: int,
        correlation_id: int,
        session: Session,
        bytes_max: int,
    ) -> None:
        self._answerer = answerer
        self.version = version
        self.correlation_id = correlation_id
        self.slot = slot
        self.request = request
        self.plan = plan
        self.session = session
        self.refused: frozenset[FetchTarget] = NOTHING
        """What the client may not read."""
        self.is_by_id = version >= TOPIC_IDS_SINCE
        replica = request.replica_state.replica_id if version >= REPLICA_STATE_SINCE else request.replica_id
        self.is_from_replica = replica > CONSUMER_MAX
        self.zone = request.rack_id or zone_hint(session.client_id)
        """Where it comes from; empty where that is not known."""
        self.bytes_max = bytes_max
        """Most bytes of records in the answer; a first batch may be larger."""
        self.min_bytes = min(request.min_bytes, bytes_max)
        self.missing_bytes = self.min_bytes
        self.open_partitions = 0
        self.wait_s = request.max_wait / 1000
        self.tick: Tick | None = None
        self.resting: Mapping[Partition, int] | None = None
        self.reading: asyncio.Task[None] | None = None
        """Reads objects for the answer."""
        self.work: asyncio.Task[None] | None = None
        """Looks through very many partitions in turns."""
        self.is_hastened = False
        self.is_done = False

    def renew(self, slot: ResponseSlot, plan: FetchPlan, correlation_id: int) -> None:
        """It was answered, and its client asks for the same again."""
        assert self.is_done
        self.slot, self.plan, self.correlation_id = slot, plan, correlation_id
        self.missing_bytes = self.min_bytes
        self.is_done = False

    def rest_no_more(self) -> None:
        """Its client asks for something else."""
        if self.resting is not None:
            self._answerer.unpark(self)

    def force_complete(self) -> None:
        """Enough is available, or a partition was lost."""
        self._answerer.answer(self)

    def on_expiration(self) -> bool:
        """The time is up: what there is must do."""
        return self._answerer.expire(self)

    def hasten(self) -> None:
        """Answer with what there is, whatever it waits for: the broker is draining."""
        self.is_hastened = True
        if self._answerer.unpark(self):
            self._answerer.answer(self)
        elif self.reading is not None:
            self.reading.cancel()

    def cancel(self) -> None:
        """The connection is gone: nobody waits for the answer any more."""
        self.is_done = True
        self._answerer.unpark(self)
        for task in (self.reading, self.work):
            if task is not None:
                task.cancel()


class Collected:
    """What there is to answer at one moment. Not frozen: one is made for every answer."""

    __slots__ = ("cold", "has_news", "leaders", "results", "size")

    def __init__(self) -> None:
        self.results: list[tuple[FetchTarget, FetchResult]] = []
        self.cold: list[tuple[FetchTarget, Readable]] = []
        """Partitions with data that are not in memory."""
        self.leaders: list[Leader] = []
        self.size = 0
        self.has_news = False
        """An error or a diverging epoch: answered without waiting for data."""

    def add(self, result: FetchResult, records: RecordRange) -> None:
        """`records` go into the answer."""
        result.records = (records,)
        result.size = len(records)
        self.size += result.size
