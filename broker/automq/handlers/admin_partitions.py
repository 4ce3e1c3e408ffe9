"""Handles messages.admin_cluster for leaders and replicas: elections and reassignments of partitions.

Replicas are nominal and their first member that is alive leads; a reassignment is answered once it is recorded, and
shown until the partition has arrived.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from automq.controller.model import MoveResult, Reassignment
from automq.handlers.context import Handler, RequestContext
from automq.handlers.deadline import before, deadline_after, within
from automq.handlers.replicas import shown_replicas
from automq.ids import NodeId
from automq.metadata.image import MetadataImage, MoveImage, PartitionImage, TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.admin_cluster import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
    PartitionResult,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
    ReplicaElectionResult,
    TopicPartitions,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace, free_in_turns, in_turns, map_in_turns
from automq.steps import Steps

_PREFERRED, _UNCLEAN = 0, 1
# How often somebody who waits for an election looks whether it has come to pass.
LOOK_S: Final = 0.02
# About how long it takes to answer for a partition.
PARTITION_US: Final = 4
# And to note its name.
NAME_US: Final = 1
# And to show that it moves.
ONGOING_US: Final = 15


async def handle_elect_leaders(context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse:
    """The first replica of each partition comes to lead, by a move; answered when it does, or at the time-out."""
    if request.election_type not in (_PREFERRED, _UNCLEAN):
        return ElectLeadersResponse(
            error_code=ErrorCode.INVALID_REQUEST, replica_election_results=await in_turns(_no_elections(request))
        )
    wanted = None if request.topic_partitions is None else await _named(request.topic_partitions)
    results: list[MoveResult]
    if request.election_type == _UNCLEAN:
        # Nothing but the leader's own log is behind another: there is nothing to elect from that is not clean.
        image = context.services.metadata.image
        results = await map_in_turns(lambda each: _unclean(image, *each), wanted or (), part_us=PARTITION_US)
    else:
        deadline = deadline_after(request.timeout)
        results = await before(deadline, context.services.controller.elect_leaders(wanted))
        results = await _arrived(context.services.metadata, results, deadline)
    by_topic: dict[str, list[PartitionResult]] = {}
    pace = Pace()
    for result in results:
        code = ErrorCode.NONE if result.error is None else result.error.code
        message = None if result.error is None else result.error.message
        answer = PartitionResult(partition_id=result.index, error_code=code, error_message=message)
        by_topic.setdefault(result.topic, []).append(answer)
        await pace.spend(PARTITION_US)
    await free_in_turns(results, wanted or [])
    return ElectLeadersResponse(
        replica_election_results=await map_in_turns(
            lambda each: ReplicaElectionResult(topic=each[0], partition_result=each[1]),
            by_topic.items(),
            part_us=PARTITION_US,
        )
    )


async def _named(topics: Sequence[TopicPartitions]) -> list[tuple[str, int]]:
    named, pace = [], Pace()
    for topic in topics:
        for index in topic.partitions:
            named.append((topic.topic, index))
            await pace.spend(NAME_US)
        await pace.spend(NAME_US)
    return named


async def _arrived(metadata: MetadataPublisher, results: list[MoveResult], deadline: float) -> list[MoveResult]:
    """Once those that were elected lead, or the time is over: then they may still come to lead."""
    pace = Pace()
    waiting: list[tuple[int, MoveResult]] = []
    for place, result in enumerate(results):
        if result.error is None:
            waiting.append((place, result))
        await pace.spend(NAME_US)
    while waiting:
        moving = []
        for place, result in waiting:
            if is_moving(metadata.image, result.topic, result.index):
                moving.append((place, result))
            await pace.spend(NAME_US)
        waiting = moving
        if not waiting:
            break
        if asyncio.get_running_loop().time() >= deadline:
            return await _timed_out(results, waiting)
        await asyncio.sleep(LOOK_S)
    return results


async def _timed_out(results: Sequence[MoveResult], waiting: Sequence[tuple[int, MoveResult]]) -> list[MoveResult]:
    error = ApiError(ErrorCode.REQUEST_TIMED_OUT, "The partition is still on its way to its preferred leader.")
    answered, pace = list(results), Pace()
    for place, result in waiting:
        answered[place] = replace(result, error=error)
        await pace.spend(NAME_US)
    return answered


def is_moving(image: MetadataImage, name: str, index: int) -> bool:
    """Whether the partition is on its way to another leader."""
    partition = _partition(image, name, index)
    return partition is not None and partition.stream in image.moves


def _no_elections(request: ElectLeadersRequest) -> Steps[list[ReplicaElectionResult]]:
    code, message = ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}"
    results: list[ReplicaElectionResult] = []
    for topic in request.topic_partitions or ():
        result = ReplicaElectionResult(topic=topic.topic)
        results.append(result)
        for index in topic.partitions:
            result.partition_result.append(PartitionResult(partition_id=index, error_code=code, error_message=message))
            yield PARTITION_US
        yield PARTITION_US
    return results


def _unclean(image: MetadataImage, name: str, index: int) -> MoveResult:
    partition = _partition(image, name, index)
    if partition is None:
        what = name if image.topic(name) is None else f"{name}-{index}"
        kind = "topic" if image.topic(name) is None else "partition"
        error = ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such {kind} as {what}")
    elif image.is_led(partition):
        error = ApiError(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
    else:
        error = ApiError(ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE, "The partition is being recovered.")
    return MoveResult(topic=name, index=index, error=error)


async def handle_alter_partition_reassignments(
    context: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    """One result a partition, once it is recorded. A list that is what the partition has succeeds at once."""
    wanted, pace = [], Pace()
    for topic in request.topics:
        for asked in topic.partitions:
            replicas = None if asked.replicas is None else [NodeId(node) for node in asked.replicas]
            wanted.append(Reassignment(topic=topic.name, index=asked.partition_index, replicas=replicas))
            await pace.spend(PARTITION_US)
        await pace.spend(PARTITION_US)
    allows = request.allow_replication_factor_change
    results = await within(
        request.timeout, context.services.controller.alter_reassignments(wanted, allows_factor_change=allows)
    )
    answers = iter(await map_in_turns(_reassigned, results, part_us=PARTITION_US))
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change
    )
    for topic in request.topics:
        response.responses.append(
            ReassignableTopicResponse(name=topic.name, partitions=[next(answers) for _ in topic.partitions])
        )
        await pace.spend(PARTITION_US + len(topic.partitions) // 8)
    return response


def _reassigned(result: MoveResult) -> ReassignablePartitionResponse:
    answer = ReassignablePartitionResponse(partition_index=result.index)
    if result.error is not None:
        answer.error_code, answer.error_message = result.error.code, result.error.message
    return answer


async def handle_list_partition_reassignments(
    context: RequestContext, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """Those that are under way, whoever asked for them: of the partitions that are named, or of all."""
    image = context.services.metadata.image
    pace = Pace()
    asked: dict[str, set[int]] | None = None if request.topics is None else {}
    for named in request.topics or ():
        assert asked is not None
        asked.setdefault(named.name, set()).update(named.partition_indexes)
        await pace.spend(PARTITION_US + len(named.partition_indexes) // 8)
    found: dict[str, list[OngoingPartitionReassignment]] = {}
    for stream_id in sorted(image.moves):
        await pace.spend(ONGOING_US)
        place = image.partition_of(stream_id)
        assert place is not None, "a move ends with its stream"
        topic, partition = place
        if asked is None or partition.index in asked.get(topic.name, ()):
            found.setdefault(topic.name, []).append(_ongoing(image, topic, partition, image.moves[stream_id]))
    return ListPartitionReassignmentsResponse(
        topics=[OngoingTopicReassignment(name=name, partitions=found[name]) for name in sorted(found)]
    )


def _ongoing(
    image: MetadataImage, topic: TopicImage, partition: PartitionImage, move: MoveImage
) -> OngoingPartitionReassignment:
    """As Kafka shows it: the replicas of before and after, and which of them come and go, each once."""
    before = list(dict.fromkeys(shown_replicas(image, topic, partition)))
    after = [int(node) for node in dict.fromkeys(move.replicas or (move.target[0],))]
    return OngoingPartitionReassignment(
        partition_index=partition.index,
        replicas=list(dict.fromkeys([*after, *before])),
        adding_replicas=[node for node in after if node not in before],
        removing_replicas=[node for node in before if node not in after],
    )


def _partition(image: MetadataImage, name: str, index: int) -> PartitionImage | None:
    topic = image.topic(name)
    return None if topic is None else topic.partition(index)


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    ElectLeadersRequest: handle_elect_leaders,
    AlterPartitionReassignmentsRequest: handle_alter_partition_reassignments,
    ListPartitionReassignmentsRequest: handle_list_partition_reassignments,
}
