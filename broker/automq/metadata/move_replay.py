"""Pure: how records of ownership and of moves change an image's maps. Part of `metadata.replay`."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import structs

from automq.ids import BrokerEpoch, NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import MoveImage, PartitionImage
from automq.metadata.move_records import (
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
        for topic_id, changed in by_topic.items():
            parts = self.topic_map[topic_id].partitions
            opened: dict[int, PartitionImage] = {}
            for number, (index, epoch) in enumerate(changed.items(), start=1):
                opened[index] = dataclasses.replace(
                    parts[index], leader=owner, leader_epoch=epoch, leader_broker_epoch=owner_epoch
                )
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

    def moves_cancelled(self, record: MovesCancelled) -> None:
        """What has ended before stays as it is."""
        for stream_id in record.streams:
            self.moves.pop(stream_id, None)

    def streams_released(self, record: StreamsReleased) -> Iterator[None]:
        """Ownership, epoch and replicas change together, and the moves have come to pass."""
        by_target: dict[tuple[NodeId, BrokerEpoch], dict[StreamId, StreamEpoch]] = {}
        replicas: dict[StreamId, tuple[NodeId, ...]] = {}
        for released in record.released:
            by_target.setdefault((released.target, released.target_epoch), {})[released.stream] = released.epoch
            move = self.moves.get(released.stream)
            if move is not None:
                replicas[released.stream] = move.replicas
        for (target, target_epoch), epochs in by_target.items():
            yield from self.open_streams(epochs, owner=target, owner_epoch=target_epoch)
        self._assign(replicas)
        moves = tuple(NamedMove(released.stream, released.move) for released in record.released)
        self.newest_releases(NewestReleases(record.node, record.epoch, moves, record.refused))

    def newest_releases(self, record: NewestReleases) -> None:
        """Of the commit before, or of one without objects: that one is not asked for again."""
        key = (record.node, record.epoch)
        if key in self.wals:
            self.wals[key] = dataclasses.replace(
                self.wals[key], newest_released=record.released, newest_unreleased=record.refused
            )

    def replicas_assigned(self, record: ReplicasAssigned) -> None:
        """Nothing but what is shown changes, and whom a failover prefers."""
        parts = self.topic_map[record.topic_id].partitions
        self._replace_partitions(
            record.topic_id,
            {each.index: dataclasses.replace(parts[each.index], replicas=each.replicas) for each in record.partitions},
        )

    def _assign(self, replicas: Mapping[StreamId, tuple[NodeId, ...]]) -> None:
        by_topic: dict[TopicId, dict[int, PartitionImage]] = {}
        for stream_id, nodes in replicas.items():
            if nodes:
                stream = self.streams[stream_id]
                part = self.topic_map[stream.topic_id].partitions[stream.partition]
                by_topic.setdefault(stream.topic_id, {})[part.index] = dataclasses.replace(part, replicas=nodes)
        for topic_id, changed in by_topic.items():
            self._replace_partitions(topic_id, changed)

    def end_moves_of(self, fenced: tuple[NodeId, BrokerEpoch]) -> None:
        """Rule: the fence of either side ends a move in that very record.

        What was wished for the replicas stays wished: a failover of the source goes where the move was to go.
        """
        ended = sorted(self._moves_of(fenced))
        self._assign({stream: self.moves[stream].replicas for stream in ended if self.moves[stream].source == fenced})
        for stream in ended:
            del self.moves[stream]

    def _moves_of(self, incarnation: tuple[NodeId, BrokerEpoch]) -> Iterable[StreamId]:
        return [stream for stream, move in self.moves.items() if incarnation in (move.source, move.target)]
