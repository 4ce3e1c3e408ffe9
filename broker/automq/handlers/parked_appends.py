"""Batches of one Produce request that wait because their partitions change hands.

A partition that is sealed here, or about to be opened here, mostly takes appends again, or has another leader, within a
fraction of a second: the request waits for that, and so does its connection, which has one deadline for all of it. What
is parked at a partition is appended, or refused, in the turn in which that is decided, in the order of arrival.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from automq.handlers.leaders import Leader, leader_of
from automq.ids import TopicId
from automq.metadata.publisher import MetadataPublisher
from automq.partition.parking import ARRIVING_S, PARKED_S, Parking
from automq.partition.partition import Partition
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import LeaderIdAndEpoch
from automq.protocol.produce_codec import ProduceResult
from automq.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Arriving:
    """A partition that is about to be opened here."""

    topic_id: TopicId
    index: int
    parking: Parking


class ParkedAppends:
    """Of one request. `find` finds an open partition; `leaders` gets those that the answer names."""

    def __init__(
        self,
        *,
        clock: Clock,
        metadata: MetadataPublisher,
        find: Callable[[TopicId, int], Partition | None],
        listener_name: str,
        leaders: list[Leader],
    ) -> None:
        self._clock, self._metadata, self._find = clock, metadata, find
        self._listener_name, self._leaders = listener_name, leaders
        self._parked_since: float | None = None

    async def arrived(self, arriving: Arriving) -> Partition | None:
        """The partition, once it is open here; None when it is not in time."""
        await self._wait(arriving.parking, lambda: None, ARRIVING_S)
        return self._find(arriving.topic_id, arriving.index)

    async def taken(self, partition: Partition, take: Callable[[], object]) -> bool:
        """`take` was called, in the turn in which the partition took appends again; False: refuse it."""
        parking = partition.parking
        assert parking is not None
        return await self._wait(parking, take, PARKED_S)

    async def _wait(self, parking: Parking, take: Callable[[], object], seconds: float) -> bool:
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def decide(takes: bool) -> None:
            if takes:
                take()
            decided.set_result(takes)

        if not parking.park(decide):
            return False
        now = self._clock.monotonic()
        if self._parked_since is None:
            self._parked_since = now
        left_s = max(0.0, self._parked_since + seconds - now)
        await asyncio.wait((decided,), timeout=left_s)
        if not decided.done():
            parking.leave(decide)
            return False
        return decided.result()

    def refuse(self, result: ProduceResult, topic_id: TopicId) -> None:
        """It is elsewhere, or on its way: with the leader that the metadata name by now, unless that is still us."""
        image = self._metadata.image
        result.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        result.error_message = "the partition is changing hands"
        leader = leader_of(image, image.topic_by_id(topic_id), result.index, self._listener_name)
        if leader is not None and self._find(topic_id, result.index) is None:
            result.current_leader = LeaderIdAndEpoch(leader_id=leader.node, leader_epoch=leader.epoch)
            self._leaders.append(leader)
