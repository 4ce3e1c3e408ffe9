"""A member of a consumer group, in the classic protocol: join, sync, heartbeat, fetch, commit."""

import asyncio
import random

from automq.protocol.apis import ApiKey
from automq.protocol.codec import decode_versioned, encode_versioned
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
)
from automq.protocol.messages.group import (
    FindCoordinatorRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
)
from automq.protocol.schema import Message
from tests.sim.actors import RETRIABLE
from tests.sim.history import History
from tests.support.batches import parse_batches
from tests.support.client import Address, CallFailed, ErrorAnswered, SimClient

REJOIN = frozenset({ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID})
SESSION_MS = 6000
FETCHES_MAX = 20
POLL_S = SESSION_MS / 2000


class GroupMember:
    """Consumes its share of the topic and commits where it is."""

    def __init__(self, client: SimClient, dice: random.Random, history: History, *, group: str, topic: str) -> None:
        self._client = client
        self._dice = dice
        self._history = history
        self._group = group
        self._topic = topic
        self._member_id = ""
        self._generation = -1
        self._coordinator: Address | None = None
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    async def run(self) -> None:
        """Be a member for ever, whatever happens."""
        while True:
            try:
                await self._join()
                await self._consume()
            except CallFailed:
                self._coordinator = None
            except ErrorAnswered as error:
                if error.code is ErrorCode.UNKNOWN_MEMBER_ID:
                    self._member_id = ""
                if error.code in RETRIABLE:
                    self._coordinator = None
                elif error.code not in REJOIN:
                    self._history.violation(f"group {self._group}: a member was refused with {error.code.name}")
            await asyncio.sleep(self._dice.uniform(0.05, 0.5))

    async def _call(self, key: ApiKey, version: int, request: Message):
        if self._coordinator is None:
            found = await self._client.call(
                self._client.any_address(), ApiKey.FIND_COORDINATOR, 3, FindCoordinatorRequest(key=self._group)
            )
            if found.error_code:
                raise ErrorAnswered(found.error_code)
            self._coordinator = (found.host, found.port)
        return await self._client.call(self._coordinator, key, version, request)

    async def _join(self) -> None:
        subscription = encode_versioned(ConsumerProtocolSubscription(topics=[self._topic]), 1)
        request = JoinGroupRequest(
            group_id=self._group,
            session_timeout=SESSION_MS,
            rebalance_timeout=SESSION_MS,
            member_id=self._member_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=subscription)],
        )
        joined: JoinGroupResponse = await self._call(ApiKey.JOIN_GROUP, 5, request)
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = request.member_id = joined.member_id
            joined = await self._call(ApiKey.JOIN_GROUP, 5, request)
        _check(joined.error_code)
        self._member_id, self._generation = joined.member_id, joined.generation_id
        assignments = []
        if joined.leader == joined.member_id:
            assignments = self._assign([member.member_id for member in joined.members])
        synced = await self._call(
            ApiKey.SYNC_GROUP,
            3,
            SyncGroupRequest(
                group_id=self._group,
                generation_id=self._generation,
                member_id=self._member_id,
                assignments=assignments,
            ),
        )
        _check(synced.error_code)
        mine = decode_versioned(ConsumerProtocolAssignment, synced.assignment, is_newest_for_newer=True)
        partitions = [index for topic in mine.assigned_partitions for index in topic.partitions]
        await self._fetch_committed(partitions)

    def _assign(self, members: list[str]) -> list[SyncGroupRequestAssignment]:
        partitions = range(self._history.partitions)
        return [
            SyncGroupRequestAssignment(
                member_id=member,
                assignment=encode_versioned(
                    ConsumerProtocolAssignment(
                        assigned_partitions=[
                            TopicPartition(topic=self._topic, partitions=list(partitions[place :: len(members)]))
                        ]
                    ),
                    0,
                ),
            )
            for place, member in enumerate(sorted(members))
        ]

    async def _fetch_committed(self, partitions: list[int]) -> None:
        known = {index: self._history.committed.get((self._group, index), -1) for index in partitions}
        self._positions, self._committed = {}, {}
        if not partitions:
            return
        answer = await self._call(
            ApiKey.OFFSET_FETCH,
            7,
            OffsetFetchRequest(
                group_id=self._group,
                topics=[OffsetFetchRequestTopic(name=self._topic, partition_indexes=partitions)],
                require_stable=True,
            ),
        )
        _check(answer.error_code)
        assert self._coordinator is not None
        is_stale = self._history.is_stale(self._coordinator)
        for found in answer.topics[0].partitions:
            _check(found.error_code)
            index = found.partition_index
            if not is_stale:
                self._history.saw_commit(self._group, index, found.committed_offset, at_least=known[index])
            self._committed[index] = found.committed_offset
            self._positions[index] = max(found.committed_offset, self._history.trims[index], 0)

    async def _consume(self) -> None:
        while True:
            beat = await self._call(
                ApiKey.HEARTBEAT,
                3,
                HeartbeatRequest(group_id=self._group, generation_id=self._generation, member_id=self._member_id),
            )
            _check(beat.error_code)
            await self._poll()
            await self._commit()
            await asyncio.sleep(self._dice.uniform(0.3, 1.5))

    async def _poll(self) -> None:
        """Read on, as far as there is something, but not past the next heartbeat."""
        now = asyncio.get_running_loop().time
        deadline = now() + POLL_S
        for partition in list(self._positions):
            # The next round begins with those that this one does not reach.
            self._positions[partition] = self._positions.pop(partition)
            for _ in range(FETCHES_MAX):
                before = self._positions[partition]
                await self._fetch(partition)
                if now() > deadline:
                    return
                if self._positions[partition] == before:
                    break

    async def _fetch(self, partition: int) -> None:
        try:
            answer = await self._client.fetch(
                self._topic, partition, self._positions[partition], max_bytes=1_000_000, max_wait_ms=0
            )
        except CallFailed:
            self._client.forget_leader(self._topic, partition)
            return
        except ErrorAnswered as error:
            self._client.forget_leader(self._topic, partition)
            if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:
                self._positions[partition] = max(self._positions[partition], self._history.trims[partition])
            elif error.code not in RETRIABLE:
                raise
            return
        for batch in parse_batches(answer.records or b""):
            self._positions[partition] = self._history.read(
                partition, self._positions[partition], batch, reader=f"group {self._group}"
            )

    async def _commit(self) -> None:
        moved = {index: offset for index, offset in self._positions.items() if offset > self._committed.get(index, -1)}
        if not moved:
            return
        partitions = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="")
            for index, offset in moved.items()
        ]
        answer = await self._call(
            ApiKey.OFFSET_COMMIT,
            7,
            OffsetCommitRequest(
                group_id=self._group,
                generation_id_or_member_epoch=self._generation,
                member_id=self._member_id,
                topics=[OffsetCommitRequestTopic(name=self._topic, partitions=partitions)],
            ),
        )
        for done in answer.topics[0].partitions:
            _check(done.error_code)
            self._history.commit(self._group, done.partition_index, moved[done.partition_index])
            self._committed[done.partition_index] = moved[done.partition_index]


def _check(code: int) -> None:
    if code:
        raise ErrorAnswered(code)
