"""Pure: how records of ownership and of moves change an image's maps. Part of `metadata.replay`."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import structs

from automq.ids import BrokerEpoch, NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import MoveImage, PartitionImage
from automq.metadata.move_records import (
    BalancerDecided,
    MovesCancelled,
    NamedMove,
    NewestReleases,
    PartitionsMoving,
    ReplicasAssigned,
    StreamsReleased,
)
from automq.metadata.object_replay import ObjectReplay

# Streams applied in one turn of the event loop.
MOVES_A_TURN: Final = 500
# Of the balancer, whose reasons are kept.
DECIDED_KEPT_MAX: Final = 1_000
# Moves that are only looked at.
SEEN_A_TURN: Final = 5_000


class MoveReplay(ObjectReplay):
    """The part of `MetadataMachine` that knows who owns what, and who is to."""

    def count_leader(self, leader: NodeId, change: int) -> None:
        """So many partitions more, or fewer, have this leader."""
        count = self.leader_counts.get(leader, 0) + change
        if count:
            self.leader_counts[leader] = count
        else:
            self.leader_counts.pop(leader, None)

    def open_streams(
        self,
        epochs: Mapping[StreamId, StreamEpoch],
        *,
        owner: NodeId,
        owner_epoch: BrokerEpoch,
        keeps_moves_of: tuple[NodeId, BrokerEpoch] | None = None,
    ) -> Iterator[None]:
        """`owner` has them from here on, each at a higher epoch. What moved of them moves no more.

        But moves of the incarnation that opens what it has: it can release them only now.
        """
        by_topic: dict[TopicId, dict[int, StreamEpoch]] = {}
        for number, (stream_id, epoch) in enumerate(epochs.items(), start=1):
            stream = self.streams[stream_id]
            assert epoch > stream.epoch
            if stream.owner != owner:
                self.count_leader(stream.owner, -1)
                self.count_leader(owner, 1)
            self.streams[stream_id] = structs.replace(stream, owner=owner, epoch=epoch, owner_epoch=owner_epoch)
            move = self.moves.get(stream_id)
            if move is not None and move.source != keeps_moves_of:
                del self.moves[stream_id]
            by_topic.setdefault(stream.topic_id, {})[stream.partition] = epoch
            if not number % MOVES_A_TURN:
                yield
        number = 0
        for topic_id, changed in by_topic.items():
            parts = self.topic_map[topic_id].partitions
            opened: dict[int, PartitionImage] = {}
            for index, epoch in changed.items():
                opened[index] = dataclasses.replace(
                    parts[index], leader=owner, leader_epoch=epoch, leader_broker_epoch=owner_epoch
                )
                # Of all topics: there may be thousands with a partition each.
                number += 1
                if not number % MOVES_A_TURN:
                    yield
            self._replace_partitions(topic_id, opened)

    def _replace_partitions(self, topic_id: TopicId, changed: Mapping[int, PartitionImage]) -> None:
        topic = self.topic_map[topic_id]
        partitions = list(topic.partitions)
        for index, part in changed.items():
            partitions[index] = part
        self.topic_map[topic_id] = dataclasses.replace(topic, partitions=tuple(partitions))

    # Moves.

    def partitions_moving(self, record: PartitionsMoving) -> Iterator[None]:
        """A second move of a stream takes the place of the first, which its cancel has ended before."""
        for number, part in enumerate(record.partitions, start=1):
            assert part.stream in self.streams
            assert part.stream not in self.moves
            self.moves[part.stream] = MoveImage(
                stream=part.stream,
                move=record.move or self.record_number,
                source=(record.node, record.epoch),
                target=(record.target, record.target_epoch),
                cause=record.cause,
                replicas=part.replicas,
            )
            if not number % MOVES_A_TURN:
                yield

    def balancer_decided(self, record: BalancerDecided) -> None:
        """It changes nothing but what can be told of it. Whole decisions are dropped, the oldest first."""
        kept = [*self.decisions, record]
        count = sum(len(decided.moves) for decided in kept)
        while count - len(kept[0].moves) >= DECIDED_KEPT_MAX:
            count -= len(kept.pop(0).moves)
        self.decisions = tuple(kept)

    def moves_cancelled(self, record: MovesCancelled) -> Iterator[None]:
        """What has ended before stays as it is."""
        for number, stream_id in enumerate(record.streams, start=1):
            self.moves.pop(stream_id, None)
            if not number % MOVES_A_TURN:
                yield

    def streams_released(self, record: StreamsReleased) -> Iterator[None]:
        """Ownership, epoch and replicas change together, and the moves have come to pass."""
        by_target: dict[tuple[NodeId, BrokerEpoch], dict[StreamId, StreamEpoch]] = {}
        replicas: dict[StreamId, tuple[NodeId, ...]] = {}
        for number, released in enumerate(record.released, start=1):
            if not number % MOVES_A_TURN:
                yield
            by_target.setdefault((released.target, released.target_epoch), {})[released.stream] = released.epoch
            move = self.moves.get(released.stream)
            if move is not None:
                replicas[released.stream] = move.replicas
        for (target, target_epoch), epochs in by_target.items():
            yield from self.open_streams(epochs, owner=target, owner_epoch=target_epoch)
        yield from self._assign(replicas)
        moves = tuple(NamedMove(released.stream, released.move) for released in record.released)
        self.newest_releases(NewestReleases(record.node, record.epoch, moves, record.refused))

    def newest_releases(self, record: NewestReleases) -> None:
        """Of the commit before, or of one without objects: that one is not asked for again."""
        key = (record.node, record.epoch)
        if key in self.wals:
            self.wals[key] = dataclasses.replace(
                self.wals[key], newest_released=record.released, newest_unreleased=record.refused
            )

    def replicas_assigned(self, record: ReplicasAssigned) -> Iterator[None]:
        """Nothing but what is shown changes, and whom a failover prefers."""
        parts = self.topic_map[record.topic_id].partitions
        changed: dict[int, PartitionImage] = {}
        for number, each in enumerate(record.partitions, start=1):
            changed[each.index] = dataclasses.replace(parts[each.index], replicas=each.replicas)
            if not number % MOVES_A_TURN:
                yield
        self._replace_partitions(record.topic_id, changed)

    def _assign(self, replicas: Mapping[StreamId, tuple[NodeId, ...]]) -> Iterator[None]:
        by_topic: dict[TopicId, dict[int, PartitionImage]] = {}
        for number, (stream_id, nodes) in enumerate(replicas.items(), start=1):
            if nodes:
                stream = self.streams[stream_id]
                part = self.topic_map[stream.topic_id].partitions[stream.partition]
                by_topic.setdefault(stream.topic_id, {})[part.index] = dataclasses.replace(part, replicas=nodes)
            if not number % MOVES_A_TURN:
                yield
        for number, (topic_id, changed) in enumerate(by_topic.items(), start=1):
            self._replace_partitions(topic_id, changed)
            if not number % MOVES_A_TURN:
                yield

    def end_moves_of(self, fenced: tuple[NodeId, BrokerEpoch]) -> Iterator[None]:
        """Rule: the fence of either side ends a move in that very record.

        What was wished for the replicas stays wished: a failover of the source goes where the move was to go.
        """
        ended: dict[StreamId, MoveImage] = {}
        for number, (stream, move) in enumerate(self.moves.items(), start=1):
            if fenced in (move.source, move.target):
                ended[stream] = move
            if not number % SEEN_A_TURN:
                yield
        yield from self._assign({stream: move.replicas for stream, move in ended.items() if move.source == fenced})
        for number, stream in enumerate(ended, start=1):
            del self.moves[stream]
            if not number % MOVES_A_TURN:
                yield
