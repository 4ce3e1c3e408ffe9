"""Pure: which partitions are to change hands, and to whom. That they may is judged when they are released.

What is recorded is the wish (`PartitionsMoving`), of which a partition has one at most; who owns what changes with the
owner's own commit (`release_check`). A second wish takes the place of one that is no stronger, by a cancel in the same
append: what somebody asked for by hand comes before draining, and that before the balancer. For a partition whose owner
is fenced the replicas alone are noted, which failover follows. Replica lists are nominal, and their first member that
is alive leads.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from automq.controller.balancer import BalancedBroker, PlannedMove
from automq.controller.balancer_history import recorded_broker, recorded_move
from automq.controller.model import BrokerLoad, MoveResult, Reassignment
from automq.controller.placement import NOTHING_REPORTED, Placement
from automq.controller.topics import REPLICATION_FACTOR_MAX
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import MetadataImage, PartitionImage, TopicImage
from automq.metadata.move_records import BalancedMove, MoveCause, MovingPartition, PartitionReplicas
from automq.metadata.records import (
    BalancerDecided,
    BrokerStopping,
    MetadataRecord,
    MovesCancelled,
    PartitionsMoving,
    ReplicasAssigned,
)
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.steps import Steps

# In one change: a partition takes some 20 bytes of a record.
MOVES_MAX: Final = 10_000
# About how long it takes to decide one that somebody asks for.
MOVE_US: Final = 8
# And to look at so many that stay.
LOOK_PARTITIONS: Final = 1_000
LOOK_US: Final = 300


class _Plan:
    """What one request has decided so far: at most one wish a stream."""

    def __init__(self, image: MetadataImage, cause: MoveCause, reason: str) -> None:
        self._image, self._cause, self._reason = image, cause, reason
        self._cancelled: dict[StreamId, None] = {}
        self._moving: dict[tuple[NodeId, NodeId], list[MovingPartition]] = defaultdict(list)
        self._assigned: dict[TopicId, list[PartitionReplicas]] = defaultdict(list)

    def cancel(self, part: PartitionImage) -> None:
        """Its move ends. Raises ApiError when somebody who comes first wants it."""
        move = self._image.moves.get(part.stream)
        if move is None:
            return
        if move.cause > self._cause:
            raise ApiError(
                ErrorCode.REASSIGNMENT_IN_PROGRESS,
                f"the partition is being moved to broker {move.target[0]} on somebody's demand already",
            )
        self._cancelled[part.stream] = None

    def assign(self, topic: TopicImage, part: PartitionImage, replicas: Sequence[NodeId]) -> None:
        """What it shows changes at once."""
        if replicas and tuple(replicas) != part.replicas:
            self._assigned[topic.topic_id].append(PartitionReplicas(index=part.index, replicas=tuple(replicas)))

    def move(self, part: PartitionImage, target: NodeId, replicas: Sequence[NodeId] = ()) -> None:
        """It goes to `target`. Raises as `cancel`."""
        before = self._image.moves.get(part.stream)
        wanted = tuple(replicas)
        if before is not None and before.target[0] == target and (not wanted or wanted == before.replicas):
            return
        self.cancel(part)
        self._moving[part.leader, target].append(MovingPartition(stream=part.stream, replicas=wanted))

    @property
    def size(self) -> int:
        """How many partitions are to move."""
        return sum(map(len, self._moving.values()))

    def records(self) -> list[MetadataRecord]:
        """Cancels come first: a stream has at most one move."""
        records: list[MetadataRecord] = []
        if self._cancelled:
            records.append(MovesCancelled(streams=tuple(sorted(self._cancelled)), reason=self._reason))
        for topic_id, assigned in self._assigned.items():
            records.append(ReplicasAssigned(topic_id=topic_id, partitions=tuple(assigned)))
        for (source, target), partitions in sorted(self._moving.items()):
            records.append(
                PartitionsMoving(
                    node=source,
                    epoch=_epoch(self._image, source),
                    target=target,
                    target_epoch=_epoch(self._image, target),
                    cause=self._cause,
                    partitions=tuple(partitions),
                )
            )
        return records


def reassign(
    image: MetadataImage, wanted: Sequence[Reassignment], *, allows_factor_change: bool = True
) -> Steps[Decision[MetadataRecord, list[MoveResult]]]:
    """Each alone; one result each, in order. Decided in turns: a cluster has very many partitions."""
    plan = _Plan(image, MoveCause.OPERATOR, "asked for")
    results: list[MoveResult] = []
    seen: set[tuple[str, int]] = set()
    for each in wanted:
        error: ApiError | None = None
        try:
            if (each.topic, each.index) in seen:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Partition {each.topic}-{each.index} comes twice.")
            seen.add((each.topic, each.index))
            topic, part = _found(image, each.topic, each.index)
            if each.replicas is None:
                _cancel(plan, image, part)
            else:
                _reassign(plan, image, topic, part, each.replicas, allows_factor_change=allows_factor_change)
        except ApiError as refused:
            error = refused
        results.append(MoveResult(topic=each.topic, index=each.index, error=error))
        yield MOVE_US
    return Decision(plan.records(), results)


def _found(image: MetadataImage, name: str, index: int) -> tuple[TopicImage, PartitionImage]:
    topic = image.topic(name)
    if topic is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}.")
    part = topic.partition(index)
    if part is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}.")
    return topic, part


def _cancel(plan: _Plan, image: MetadataImage, part: PartitionImage) -> None:
    if part.stream not in image.moves:
        raise ApiError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.")
    plan.cancel(part)


def _reassign(
    plan: _Plan,
    image: MetadataImage,
    topic: TopicImage,
    part: PartitionImage,
    replicas: Sequence[NodeId],
    *,
    allows_factor_change: bool,
) -> None:
    _check_replicas(image, replicas)
    factor = len(part.replicas) or topic.replication_factor
    if not allows_factor_change and len(replicas) != factor:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {factor} to {len(replicas)}",
        )
    leader = leader_among(image, replicas)
    if leader is None:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"None of the brokers {list(map(int, replicas))} is alive to lead."
        )
    if not image.is_led(part) or leader == part.leader:
        # Where it is, or where a failover will bring it: nothing moves.
        plan.cancel(part)
        plan.assign(topic, part, replicas)
        return
    check_movable(image, part)
    plan.move(part, leader, replicas)


def _check_replicas(image: MetadataImage, replicas: Sequence[NodeId]) -> None:
    """Kafka's own checks, in its words, but for repeats: lists that are shown have them where the factor is above the
    number of brokers, and what was shown can be asked for again. Raises ApiError.
    """
    if not replicas:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."
        )
    if len(replicas) > REPLICATION_FACTOR_MAX:
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"{len(replicas)} replicas are assigned: their number is nominal here, and at most "
            f"{REPLICATION_FACTOR_MAX}.",
        )
    for node in replicas:
        if image.broker(node) is None:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes broker {node}, but no such broker is registered.",
            )


def leader_among(image: MetadataImage, replicas: Iterable[NodeId]) -> NodeId | None:
    """Who leads by such a list: its first member that is alive and stays, or its first that is alive and can lead."""
    live = [broker for node in replicas if (broker := image.broker(node)) is not None and not broker.fenced]
    for broker in live:
        if broker.is_usable:
            return broker.node
    return next((broker.node for broker in live if not broker.stopping), None)


def check_movable(image: MetadataImage, part: PartitionImage) -> None:
    """Raises ApiError for a partition that takes no records because of damage: it stays where it can be repaired."""
    causes = image.quarantine(part.stream)
    if causes:
        raise ApiError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"the partition cannot be moved until {causes[0].key} is repaired"
        )


def elect(
    image: MetadataImage, wanted: Sequence[tuple[str, int]] | None
) -> Steps[Decision[MetadataRecord, list[MoveResult]]]:
    """The first of each partition's replicas is to lead. With None all partitions are meant, and only those that move,
    or would have to, have a result."""
    plan = _Plan(image, MoveCause.OPERATOR, "another leader was asked for")
    names = _all_partitions(image) if wanted is None else wanted
    results: list[MoveResult] = []
    for name, index in names:
        error: ApiError | None = None
        try:
            _elect(plan, image, _electable(image, name, index))
        except ApiError as refused:
            if wanted is None and refused.code is ErrorCode.ELECTION_NOT_NEEDED:
                yield MOVE_US
                continue
            error = refused
        results.append(MoveResult(topic=name, index=index, error=error))
        yield MOVE_US
    return Decision(plan.records(), results)


def _all_partitions(image: MetadataImage) -> Iterable[tuple[str, int]]:
    return ((topic.name, part.index) for topic in image.topics() for part in topic.partitions)


def _electable(image: MetadataImage, name: str, index: int) -> PartitionImage:
    """As Kafka words it for elections. Raises ApiError."""
    topic = image.topic(name)
    if topic is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    part = topic.partition(index)
    if part is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    return part


def _elect(plan: _Plan, image: MetadataImage, part: PartitionImage) -> None:
    preferred = image.broker(part.replicas[0] if part.replicas else part.leader)
    if preferred is None or preferred.fenced:
        raise ApiError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available.")
    if preferred.node == part.leader or not image.is_led(part):
        raise ApiError(ErrorCode.ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")
    if not preferred.is_usable:
        raise ApiError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader is being drained, or stops.")
    check_movable(image, part)
    plan.move(part, preferred.node)


# Balancing.


def balance(
    image: MetadataImage, wanted: Sequence[PlannedMove], *, brokers: Sequence[BalancedBroker], at_ms: int
) -> Decision[MetadataRecord, Sequence[PlannedMove]]:
    """Those of the planned moves that still make sense: what has changed meanwhile is left to the next plan.

    Why is recorded behind them: what `brokers` carried, and what each move was to change.
    """
    plan = _Plan(image, MoveCause.BALANCER, "balanced otherwise")
    made: list[PlannedMove] = []
    why: list[BalancedMove] = []
    for move in wanted:
        found = image.partition_of(move.stream)
        if found is not None and _still_helps(image, found[1], move):
            plan.move(found[1], move.target)
            made.append(move)
            why.append(recorded_move(move, topic=found[0].name, index=found[1].index))
    if not made:
        return Decision([], made)
    states = tuple(recorded_broker(broker) for broker in brokers)
    return Decision([*plan.records(), BalancerDecided(at_ms=at_ms, brokers=states, moves=tuple(why))], made)


def _still_helps(image: MetadataImage, part: PartitionImage, move: PlannedMove) -> bool:
    target = image.broker(move.target)
    return (
        part.leader == move.source
        and part.stream not in image.moves
        and target is not None
        and target.is_usable
        and not image.quarantine(part.stream)
        and image.is_led(part)
    )


# Draining.


def drain(
    image: MetadataImage, reported: Mapping[NodeId, BrokerLoad] = NOTHING_REPORTED
) -> Steps[Decision[MetadataRecord, int]]:
    """Everything that brokers on their way out lead is to move away; how many partitions that are.

    Nothing where it is on its way already, and where nobody else can take it. What goes to such a broker stays away,
    unless somebody has asked for it by hand. `reported` is what heartbeats told of each broker. In bounded turns,
    however many partitions there are.
    """
    leaving = [broker for broker in image.brokers() if broker.is_leaving]
    if not leaving:
        return Decision((), 0)
    plan = _Plan(image, MoveCause.DRAIN, "the target is being drained")
    placement = Placement(image, reported=reported)
    nodes = {broker.node for broker in leaving}
    looked = 0
    for topic in image.topics():
        for part in topic.partitions:
            looked += 1
            if looked % LOOK_PARTITIONS == 0:
                yield LOOK_US
            if part.leader not in nodes and part.stream not in image.moves:
                continue
            if plan.size >= MOVES_MAX:
                return Decision(plan.records(), plan.size)
            _drain(plan, image, part, placement, nodes)
            yield MOVE_US
    return Decision(plan.records(), plan.size)


def _drain(plan: _Plan, image: MetadataImage, part: PartitionImage, placement: Placement, leaving: set[NodeId]) -> None:
    move = image.moves.get(part.stream)
    goes_to_leaving = move is not None and move.target[0] in leaving
    if move is not None and (move.cause is MoveCause.OPERATOR or not goes_to_leaving):
        return
    if part.leader not in leaving:
        plan.cancel(part)
        return
    if image.quarantine(part.stream) or not image.is_led(part):
        return
    replicas = [node for node in part.replicas if node not in leaving]
    target = leader_among(image, replicas)
    if target is not None:
        placement.take(target)
    elif placement.is_possible:
        target = placement.place()
    else:
        if move is not None:
            plan.cancel(part)
        return
    plan.move(part, target)


def stop_broker(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> Decision[MetadataRecord, bool]:
    """(node, epoch) wants to end, and gives away what it leads; whether there is anybody to take it.

    Said twice it records nothing more. Where nobody can take over nothing is recorded.
    """
    broker = image.broker(node)
    if broker is None or broker.epoch != epoch or broker.fenced:
        raise ApiError(ErrorCode.STALE_BROKER_EPOCH, f"broker {node} is not at epoch {epoch}")
    if not any(other.is_usable for other in image.brokers() if other.node != node):
        return Decision((), False)
    return Decision(() if broker.stopping else (BrokerStopping(node=node, epoch=epoch),), True)


def _epoch(image: MetadataImage, node: NodeId) -> BrokerEpoch:
    broker = image.broker(node)
    assert broker is not None
    return broker.epoch
