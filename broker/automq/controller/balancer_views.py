"""What the balancer tells of itself: what it sees, what it would do, what it did, and why."""

from automq.controller.balancer import PlannedMove, shares
from automq.controller.balancer_history import newest_moves, planned_again
from automq.controller.balancing import Balancing, Survey, is_paused
from automq.controller.model import BalancerView, BrokerView, MoveView
from automq.metadata.image import MetadataImage
from automq.metadata.move_records import BalancedMove, BalancerDecided, MoveCause


async def view_of(balancing: Balancing, image: MetadataImage, *, enabled: bool, moves_max: int) -> BalancerView:
    """Of this moment, with at most so many of its last moves; changes nothing."""
    survey = await balancing.survey()
    return BalancerView(
        enabled=enabled,
        paused=is_paused(image),
        since_ms=balancing.since_ms,
        decided=balancing.decided,
        moving=sum(1 for move in image.moves.values() if move.cause is MoveCause.BALANCER),
        brokers=_brokers(survey),
        planned=[_planned(image, move) for move in survey.moves if image.partition_of(move.stream) is not None],
        moves=[_made(image, decided, move) for decided, move in newest_moves(image, moves_max)],
    )


def _brokers(survey: Survey) -> list[BrokerView]:
    carried = shares(survey.brokers)
    return [
        BrokerView(
            broker=broker.node,
            rack=broker.rack,
            share=round(carried[broker.node], 3),
            partitions=broker.partitions,
            bytes_per_second=round(broker.bytes_per_second),
            loop_busy=broker.cpu,
            unuploaded_bytes=0 if broker.node not in survey.loads else survey.loads[broker.node].unuploaded_bytes,
            takes=broker.is_usable,
        )
        for broker in survey.brokers
    ]


def _planned(image: MetadataImage, move: PlannedMove) -> MoveView:
    found = image.partition_of(move.stream)
    assert found is not None
    return MoveView(
        topic=found[0].name,
        partition=found[1].index,
        source=move.source,
        target=move.target,
        reason=move.reason,
        expected=move.expected,
    )


def _made(image: MetadataImage, decided: BalancerDecided, made: BalancedMove) -> MoveView:
    move = planned_again(decided, made)
    return MoveView(
        topic=made.topic,
        partition=made.index,
        source=move.source,
        target=move.target,
        reason=move.reason,
        expected=move.expected,
        at_ms=decided.at_ms,
        state=_state(image, move),
    )


def _state(image: MetadataImage, move: PlannedMove) -> str:
    under_way = image.moves.get(move.stream)
    if under_way is not None and under_way.target[0] == move.target:
        return "moving"
    state = image.streams.get(move.stream)
    return "done" if state is not None and state.owner == move.target else "elsewhere"
