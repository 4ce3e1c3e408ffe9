"""The group coordinator of one broker: which groups are ours, and one async method for every request about them.

A group belongs to the partition of `__consumer_offsets` that its name hashes to; who leads the partition coordinates
the group. A shard is loaded when its leadership comes and dropped when it goes; the topic is made at first use.
After `fence` every request fails with NOT_COORDINATOR and nothing that waits is answered otherwise.
"""

import asyncio
import heapq
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from automq.callbacks import ignore
from automq.coordinators.group.group_metrics import GroupMetrics
from automq.coordinators.group.model import GroupSettings, JoinCommand, shard_of
from automq.coordinators.group.offsets import COMMITTED_A_PART, parts_of_commit, parts_of_deletion
from automq.coordinators.group.ports import CreateInternalTopic, OffsetsPartition, OffsetsPartitions, WhenDurable
from automq.coordinators.group.record_log import PartitionRecordLog
from automq.coordinators.group.shard import GroupShard
from automq.coordinators.group.shard_runner import RunnerState, ShardRunner
from automq.coordinators.group.turn import Turn
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import ANY_INCARNATION, MetadataImage, PartitionImage
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from automq.protocol.messages.group_admin import DescribedGroup, ListedGroup
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponseTopic,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponseTopic,
    OffsetFetchRequestGroup,
    OffsetFetchResponseGroup,
)
from automq.protocol.records import CorruptRecords
from automq.replicated.machine import LogFailed
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.turns import in_turns, map_in_turns
from automq.runtime.wall_time import WallTimeGuard
from automq.s3stream.model import StoreDamaged, StreamError
from automq.s3stream.ports import StoreError
from automq.steps import Steps

AnsweredTopic = TypeVar("AnsweredTopic", OffsetCommitResponseTopic, OffsetDeleteResponseTopic)

OFFSETS_TOPIC: Final = "__consumer_offsets"
OFFSETS_TOPIC_CONFIGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "compression.type": "producer",
    "segment.bytes": "104857600",
}
# Shards that load at once: each may read from the store.
LOADS_INFLIGHT: Final = 8
# A partition opens a moment after the image names its leader.
OPEN_RETRY_S: Final = 0.05
RELOAD_DELAY_S: Final = 0.5
RELOAD_DELAY_S_MAX: Final = 10.0
NAME_LENGTH_MAX: Final = 8_000
"""Names become part of records, where their bytes are counted with 15 bits; a character has at most four."""

log = logging.getLogger(__name__)


# Groups sorted in one turn, and about how long it takes to put one into the order of all.
SORTED_A_TURN: Final = 1_000
MERGED_US: Final = 3
JOINED_US: Final = 20


class GroupCoordinator:
    """See the module's docstring. `start` once the broker is registered and its partitions are being opened."""

    def __init__(
        self,
        *,
        node: NodeId,
        epoch: BrokerEpoch = ANY_INCARNATION,
        settings: GroupSettings,
        metadata: MetadataPublisher,
        partitions: OffsetsPartitions,
        when_durable: WhenDurable,
        create_topic: CreateInternalTopic,
        clock: Clock,
        aging: WallTimeGuard,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._node, self._epoch = node, epoch
        self._settings = settings
        self._metadata = metadata
        self._partitions = partitions
        self._when_durable = when_durable
        self._create_topic = create_topic
        self._clock = clock
        self._aging = aging
        self._tasks = tasks
        self._runners: dict[int, ShardRunner] = {}
        self._failures: dict[int, int] = {}
        """Failures of a shard since it was last loaded."""
        self._damaged: dict[int, None] = {}
        """Shards whose log could not be read when it was last tried."""
        self._loading = asyncio.Semaphore(LOADS_INFLIGHT)
        self._creating = asyncio.Lock()
        self._is_closed = False
        self._unsubscribe: Callable[[], None] = ignore
        shards = metrics.gauge("automq_group_shards", "Partitions of __consumer_offsets whose groups are served here")
        shards.set_function(lambda: len(self._active()))
        self.metrics = GroupMetrics(
            metrics,
            groups_max=settings.metric_groups_max,
            sources=lambda: [runner.shard for runner in self._active()],
            end_offset=self._end_offset,
        )

    def start(self) -> None:
        """Load what is ours, and follow the metadata from now on."""
        self._unsubscribe = self._metadata.subscribe(self._on_change, to=(Aspect.TOPICS,))
        self._follow(self._metadata.image)

    def _end_offset(self, topic: str, index: int) -> int | None:
        try:
            return self._partitions.get(topic, index).high_watermark
        except ApiError:
            return None

    def fence(self) -> None:
        """Rule: a fenced process stops serving group answers and heartbeats. This one never answers again."""
        self._is_closed = True
        self._unsubscribe()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    close = fence

    # Where a group is coordinated.

    async def find_coordinator(self, group_id: str) -> NodeId:
        """The broker that coordinates the group. Makes the offsets topic if there is none. Raises ApiError."""
        if self._metadata.image.topic(OFFSETS_TOPIC) is None:
            await self._make_topic()
        return self._partition_of(group_id).leader

    async def _make_topic(self) -> None:
        async with self._creating:
            if self._metadata.image.topic(OFFSETS_TOPIC) is not None:
                return
            try:
                await self._create_topic(
                    name=OFFSETS_TOPIC,
                    partitions=self._settings.offsets_topic_partitions,
                    replication_factor=self._settings.offsets_topic_replication_factor,
                    configs=OFFSETS_TOPIC_CONFIGS,
                )
            except ApiError as error:
                if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
                    message = f"{OFFSETS_TOPIC} cannot be made: {error}"
                    raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, message) from error

    def _partition_of(self, group_id: str) -> PartitionImage:
        topic = self._metadata.image.topic(OFFSETS_TOPIC)
        if topic is None:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"there is no {OFFSETS_TOPIC} yet: try again")
        return topic.partitions[shard_of(group_id, len(topic.partitions))]

    def _runner(self, group_id: str, *, may_be_empty: bool = False) -> ShardRunner:
        """The shard that the group belongs to. Raises NOT_COORDINATOR if it is not served here."""
        if (not group_id and not may_be_empty) or len(group_id) > NAME_LENGTH_MAX:
            raise ApiError(ErrorCode.INVALID_GROUP_ID, "a group needs a name, and not a very long one")
        topic = self._metadata.image.topic(OFFSETS_TOPIC)
        runner = None if topic is None else self._runners.get(shard_of(group_id, len(topic.partitions)))
        if runner is None or self._is_closed:
            message = f"this broker does not coordinate group {group_id}: look it up again"
            raise ApiError(ErrorCode.NOT_COORDINATOR, message)
        return runner

    def _active(self) -> list[ShardRunner]:
        return [runner for runner in self._runners.values() if runner.state is RunnerState.ACTIVE]

    # Membership.

    async def join_group(self, command: JoinCommand) -> JoinGroupResponse:
        """Waits until the join phase ends. Raises ApiError."""
        runner = self._runner(command.group_id)
        settings = self._settings
        if not settings.session_timeout_ms_min <= command.session_timeout_ms <= settings.session_timeout_ms_max:
            raise ApiError(
                ErrorCode.INVALID_SESSION_TIMEOUT,
                f"the session timeout must lie between {settings.session_timeout_ms_min} and "
                f"{settings.session_timeout_ms_max} ms",
            )
        names = (command.client_id, command.instance_id or "", command.protocol_type)
        if any(len(name) > NAME_LENGTH_MAX for name in (*names, *(offer.name for offer in command.protocols))):
            raise ApiError(ErrorCode.INVALID_REQUEST, f"no name may be longer than {NAME_LENGTH_MAX} characters")
        response = await runner.decide_parked(lambda shard, turn, ticket: shard.join(turn, command, ticket))
        assert isinstance(response, JoinGroupResponse)
        return response

    async def sync_group(self, request: SyncGroupRequest) -> SyncGroupResponse:
        """Waits until the leader has brought the assignment. Raises ApiError."""
        runner = self._runner(request.group_id)
        if runner.is_loading:
            # Clients do not know COORDINATOR_LOAD_IN_PROGRESS as an answer to this and give up. They join again.
            raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS, f"shard {runner.index} is being loaded: join again")
        response = await runner.decide_parked(lambda shard, turn, ticket: shard.sync(turn, request, ticket))
        assert isinstance(response, SyncGroupResponse)
        return response

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        """Raises ApiError."""
        runner = self._runner(request.group_id)
        if runner.is_loading:
            # As Kafka does: clients give up at COORDINATOR_LOAD_IN_PROGRESS here, and nobody's session runs yet.
            return HeartbeatResponse(error_code=ErrorCode.NONE)
        code = await runner.read_membership(request.group_id, lambda shard, turn: shard.heartbeat(turn, request))
        return HeartbeatResponse(error_code=code)

    async def leave_group(self, request: LeaveGroupRequest) -> LeaveGroupResponse:
        """Raises ApiError."""
        return await self._runner(request.group_id).answer(lambda shard, turn: shard.leave(turn, request))

    # Offsets. Every topic in a request has its name, and its id where the image has one.

    async def offset_commit(self, request: OffsetCommitRequest, *, knows_group_errors: bool) -> OffsetCommitResponse:
        """Raises ApiError for all partitions together. `knows_group_errors`: from version 9 on.

        A commit of very many partitions is several to the group: what is refused may be stored in part, as it may be
        when it comes too late.
        """
        runner = self._runner(request.group_id, may_be_empty=True)

        def decision(part: OffsetCommitRequest) -> Callable[[GroupShard, Turn], OffsetCommitResponse]:
            return lambda shard, turn: shard.commit(turn, part, knows_group_errors=knows_group_errors)

        if len(request.topics) + sum(len(topic.partitions) for topic in request.topics) <= COMMITTED_A_PART:
            return await runner.answer(decision(request))
        parts = await in_turns(parts_of_commit(request))
        answers = await runner.answer_parts([decision(part) for part in parts])
        return OffsetCommitResponse(topics=await in_turns(_joined([answer.topics for answer in answers])))

    async def offset_fetch(self, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
        """Raises ApiError. Without transactions every committed offset is stable."""
        return await self._runner(request.group_id, may_be_empty=True).read(lambda shard: shard.fetch(request))

    async def offset_delete(self, request: OffsetDeleteRequest) -> OffsetDeleteResponse:
        """Raises ApiError. As with a commit, what names very many partitions may be done in part."""
        runner = self._runner(request.group_id)

        def decision(part: OffsetDeleteRequest) -> Callable[[GroupShard, Turn], OffsetDeleteResponse]:
            return lambda shard, turn: shard.delete_offsets(turn, part)

        if len(request.topics) + sum(len(topic.partitions) for topic in request.topics) <= COMMITTED_A_PART:
            return await runner.answer(decision(request))
        parts = await in_turns(parts_of_deletion(request))
        answers = await runner.answer_parts([decision(part) for part in parts])
        return OffsetDeleteResponse(topics=await in_turns(_joined([answer.topics for answer in answers])))

    # Administration.

    async def describe_group(self, group_id: str) -> DescribedGroup:
        """Raises ApiError."""
        return await self._runner(group_id, may_be_empty=True).read(lambda shard: shard.describe(group_id))

    async def list_groups(self, *, states: frozenset[str], types: frozenset[str]) -> list[ListedGroup]:
        """Every group coordinated here, sorted by name; filters in lower case. Raises ApiError while a shard loads.

        Groups of a damaged shard are not known; those of the others are listed all the same.
        """
        if self._is_closed:
            raise ApiError(ErrorCode.NOT_COORDINATOR, "this broker coordinates no groups")
        sorted_parts: list[list[ListedGroup]] = []
        for runner in [runner for runner in self._runners.values() if not runner.is_damaged]:
            groups = await runner.read(lambda shard: shard.list(states=states, types=types))
            for first in range(0, len(groups), SORTED_A_TURN):
                sorted_parts.append(sorted(groups[first : first + SORTED_A_TURN], key=_name_of))
                await asyncio.sleep(0)
        return await map_in_turns(lambda group: group, heapq.merge(*sorted_parts, key=_name_of), part_us=MERGED_US)

    async def delete_group(self, group_id: str) -> ErrorCode:
        """Raises ApiError."""
        return await self._runner(group_id, may_be_empty=True).delete_group(group_id)

    # Leadership.

    def _on_change(self, change: MetadataChange) -> None:
        if self._is_closed:
            return
        old, new = change.old, change.new
        before, now = old.topic(OFFSETS_TOPIC), new.topic(OFFSETS_TOPIC)
        if before is not now:
            self._follow(new)
        if any(old.topic_by_id(topic) is not None and new.topic_by_id(topic) is None for topic in change.topics):
            for runner in self._runners.values():
                runner.sweep_soon()

    def _follow(self, image: MetadataImage) -> None:
        """Load the shards that have become ours, drop those that are not any more."""
        topic = image.topic(OFFSETS_TOPIC)
        partitions = {} if topic is None else {part.index: part for part in topic.partitions}
        for index, runner in list(self._runners.items()):
            part = partitions.get(index)
            if part is None or not self._is_ours(image, part) or part.leader_epoch != runner.leader_epoch:
                runner.close()
                del self._runners[index]
        for index, part in partitions.items():
            if index not in self._runners and self._is_ours(image, part):
                self._load(part)

    def _is_ours(self, image: MetadataImage, part: PartitionImage) -> bool:
        return image.is_leader(part, self._node, self._epoch)

    def _load(self, part: PartitionImage, *, delay_s: float = 0.0) -> None:
        runner = ShardRunner(
            index=part.index,
            leader_epoch=part.leader_epoch,
            settings=self._settings,
            clock=self._clock,
            aging=self._aging,
            tasks=self._tasks,
            topic_exists=self._topic_exists,
            on_failed=self._on_failed,
        )
        runner.is_damaged = part.index in self._damaged
        self._runners[part.index] = runner
        _ = self._tasks.spawn(self._run_load(runner, delay_s), name=f"load shard {part.index}")

    async def _run_load(self, runner: ShardRunner, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        partition = await self._wait_for_partition(runner)
        if partition is None:
            return
        record_log = PartitionRecordLog(
            partition=partition,
            when_durable=self._when_durable,
            clock=self._clock,
            batch_bytes_max=self._settings.batch_bytes_max,
        )
        async with self._loading:
            try:
                await runner.load(record_log)
            except (LogFailed, StreamError, StoreError, CorruptRecords) as error:
                if isinstance(error, StoreDamaged | CorruptRecords):
                    self._damaged[runner.index] = None
                runner.fail(error)
                return
        self._damaged.pop(runner.index, None)
        runner.is_damaged = False
        self._failures.pop(runner.index, None)
        runner.sweep_soon()

    async def _wait_for_partition(self, runner: ShardRunner) -> OffsetsPartition | None:
        """The open partition, or None when the leadership is gone before it opened."""
        while runner.state is RunnerState.LOADING:
            try:
                partition = self._partitions.get(OFFSETS_TOPIC, runner.index)
            except ApiError:
                pass  # Not open yet.
            else:
                if partition.leader_epoch == runner.leader_epoch and not partition.is_quarantined:
                    return partition
                runner.is_damaged = partition.is_quarantined
            await asyncio.sleep(OPEN_RETRY_S)
        return None

    def _on_failed(self, runner: ShardRunner) -> None:
        """Loading or an append failed: what was decided since is void. Load anew if the shard is still ours."""
        index = runner.index
        if self._runners.get(index) is not runner or self._is_closed:
            return
        del self._runners[index]
        image = self._metadata.image
        topic = image.topic(OFFSETS_TOPIC)
        if topic is not None and self._is_ours(image, topic.partitions[index]):
            failures = self._failures[index] = self._failures.get(index, 0) + 1
            delay_s = min(RELOAD_DELAY_S * 2 ** min(failures - 1, 10), RELOAD_DELAY_S_MAX)
            self._load(topic.partitions[index], delay_s=delay_s)

    def _topic_exists(self, name: str, topic_id: uuid.UUID | None) -> bool:
        topic = self._metadata.image.topic(name)
        return topic is not None and topic_id in (None, topic.topic_id)


def _name_of(group: ListedGroup) -> str:
    return group.group_id


def _joined(parts: Sequence[Sequence[AnsweredTopic]]) -> Steps[list[AnsweredTopic]]:
    """The topics of a request that was cut: one that two parts have is one again."""
    joined: list[AnsweredTopic] = []
    for topics in parts:
        for number, topic in enumerate(topics):
            if not number and joined and joined[-1].name == topic.name and len(parts) > 1:
                joined[-1].partitions.extend(topic.partitions)
            else:
                joined.append(topic)
            yield JOINED_US
    return joined
