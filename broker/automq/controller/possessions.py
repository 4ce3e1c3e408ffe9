"""Pure: what one incarnation of a broker still has, by the metadata: whoever has nothing may go at once."""

from collections.abc import Collection
from dataclasses import dataclass

from automq.controller.failover import affected_streams
from automq.controller.sessions import Incarnation
from automq.ids import StreamId
from automq.metadata.image import MetadataImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Possessions:
    """Counts."""

    led: int
    """Partitions that its node leads, those of damaged logs included: they stay where they can be repaired."""
    arriving: int
    """Partitions that move to it."""
    logs: int
    """Write-ahead logs of others that it recovers."""

    @property
    def is_nothing(self) -> bool:
        """Whether it can go, as far as the metadata tell."""
        return not (self.led or self.arriving or self.logs)

    def __str__(self) -> str:
        parts = (
            (self.led, f"it leads {self.led} partitions"),
            (self.arriving, f"{self.arriving} partitions move to it"),
            (self.logs, f"it recovers {self.logs} write-ahead logs"),
        )
        return "; ".join(text for count, text in parts if count) or "nothing"


def possessions(image: MetadataImage, key: Incarnation) -> Possessions:
    """Of the incarnation `key`. A log that is pinned waits for a person, not for it."""
    return Possessions(
        led=image.leader_counts.get(key[0], 0),
        arriving=sum(move.target == key for move in image.moves.values()),
        logs=sum(
            wal.recoverer == key and wal.damage is None and (wal.node, wal.epoch) != key for wal in image.wals.values()
        ),
    )


def has_nothing(image: MetadataImage, key: Incarnation) -> bool:
    """The same as `possessions(...).is_nothing`, at once as long as it leads anything."""
    return not image.leader_counts.get(key[0]) and possessions(image, key).is_nothing


def expected_streams(image: MetadataImage, key: Incarnation) -> Collection[StreamId]:
    """What the incarnation may come to lead: what moves to it, and what logs that it recovers may hold records of."""
    found = {stream for stream, move in image.moves.items() if move.target == key}
    for wal in image.wals.values():
        if wal.recoverer == key and wal.damage is None and (wal.node, wal.epoch) != key:
            found.update(affected_streams(image, wal))
    return found


def is_leaving(image: MetadataImage, key: Incarnation) -> bool:
    """Whether the image shows that the incarnation `key` lives and is to give away what it has."""
    broker = image.broker(key[0])
    return broker is not None and broker.epoch == key[1] and broker.is_leaving
