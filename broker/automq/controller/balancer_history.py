"""Pure: moves of the balancer as they are recorded, and as they are told again by whoever is the controller later."""

from collections.abc import Sequence
from typing import Final

from automq.controller.balancer import BalancedBroker, PlannedMove, carried_by
from automq.metadata.image import MetadataImage
from automq.metadata.move_records import BalancedBrokerState, BalancedMove, BalancerDecided

THOUSANDTHS: Final = 1000


def recorded_broker(broker: BalancedBroker) -> BalancedBrokerState:
    """What it carried when the balancer decided."""
    return BalancedBrokerState(
        node=broker.node,
        partitions=broker.partitions,
        bytes_per_second=round(broker.bytes_per_second),
        cpu_percent=round(100 * broker.cpu),
    )


def recorded_move(move: PlannedMove, *, topic: str, index: int) -> BalancedMove:
    """One move, with what it was to change."""
    return BalancedMove(
        topic=topic,
        index=index,
        stream=move.stream,
        source=move.source,
        target=move.target,
        source_share=_thousandths(move.source_share),
        target_share=_thousandths(move.target_share),
        bytes_per_second=round(move.bytes_per_second),
        is_by_count=move.is_by_count,
    )


def newest_moves(image: MetadataImage, moves_max: int) -> Sequence[tuple[BalancerDecided, BalancedMove]]:
    """At most so many, the newest first, each with the decision that it was part of."""
    found: list[tuple[BalancerDecided, BalancedMove]] = []
    for decided in reversed(image.decisions):
        for move in reversed(decided.moves):
            if len(found) >= moves_max:
                return found
            found.append((decided, move))
    return found


def planned_again(decided: BalancerDecided, move: BalancedMove) -> PlannedMove:
    """The move as it was planned."""
    brokers = {
        state.node: BalancedBroker(
            node=state.node,
            partitions=state.partitions,
            bytes_per_second=state.bytes_per_second,
            cpu=state.cpu_percent / 100,
        )
        for state in decided.brokers
    }
    source, target = brokers.get(move.source), brokers.get(move.target)
    return PlannedMove(
        stream=move.stream,
        source=move.source,
        target=move.target,
        source_share=_share(move.source_share),
        target_share=_share(move.target_share),
        bytes_per_second=move.bytes_per_second,
        carried="" if source is None or target is None else carried_by(source, target),
        is_by_count=move.is_by_count,
    )


def _thousandths(share: tuple[float, float]) -> tuple[int, int]:
    return round(share[0] * THOUSANDTHS), round(share[1] * THOUSANDTHS)


def _share(thousandths: tuple[int, int]) -> tuple[float, float]:
    return thousandths[0] / THOUSANDTHS, thousandths[1] / THOUSANDTHS
