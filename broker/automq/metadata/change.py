"""Pure: a change of the metadata as what it touched, and the maps that remember what touched them.

The persistent maps make a new map of every mutation, even of one that sets nothing new. A `ChangingMap` hands the old
map on where nothing is another object than before, and says which keys are. So whoever follows the metadata works on
what changed and not on what there is.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, overload

from immutables import Map, MapMutation

from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import MetadataImage
from automq.metadata.records import MetadataRecord

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_ABSENT: Final = object()


class ChangingMap(Generic[K, V]):
    """A persistent map under change. What is read is what was written last."""

    __slots__ = ("_before", "_mutation", "_now", "_touched")

    def __init__(self, before: Map[K, V]) -> None:
        self._before = before
        self._now: Map[K, V] | MapMutation[K, V] = before
        self._mutation: MapMutation[K, V] | None = None
        self._touched: dict[K, None] = {}

    def __getitem__(self, key: K) -> V:
        return self._now[key]

    def __contains__(self, key: object) -> bool:
        return key in self._now

    def __len__(self) -> int:
        return len(self._now)

    @overload
    def get(self, key: K) -> V | None: ...

    @overload
    def get(self, key: K, default: V | D) -> V | D: ...

    def get(self, key: K, default: Any = None) -> Any:
        """As a dict's."""
        return self._now.get(key, default)

    def items(self) -> Iterable[tuple[K, V]]:
        """All of them, in no order that means anything; nothing is changed meanwhile."""
        if self._mutation is not None:
            self._now = self._before = self._mutation.finish()
            self._mutation = None
        return self._before.items()

    def __setitem__(self, key: K, value: V) -> None:
        if self._now.get(key, _ABSENT) is not value:
            self._changing(key)[key] = value

    def __delitem__(self, key: K) -> None:
        del self._changing(key)[key]

    @overload
    def pop(self, key: K, /) -> V: ...

    @overload
    def pop(self, key: K, default: V | D, /) -> V | D: ...

    def pop(self, key: K, /, *default: Any) -> Any:
        """As a dict's."""
        if default and key not in self._now:
            return default[0]
        return self._changing(key).pop(key)

    def _changing(self, key: K) -> MapMutation[K, V]:
        self._touched[key] = None
        if self._mutation is None:
            self._now = self._mutation = self._before.mutate()
        return self._mutation

    def take(self) -> tuple[Map[K, V], dict[K, None]]:
        """The map as it is now, and the keys whose values have changed since the last `take`, in order.

        Where there are none it is the very map of the last time. Costs the same however many there are.
        """
        touched, self._touched = self._touched, {}
        if self._mutation is not None:
            self._now = self._before = self._mutation.finish()
            self._mutation = None
        return self._before, touched


class Aspect(enum.Enum):
    """What of the metadata somebody may want to follow; the value is the field of a change that says which of it."""

    BROKERS = "brokers"
    WALS = "wals"
    TOPICS = "topics"
    STREAMS = "streams"
    QUARANTINES = "quarantines"
    MOVES = "moves"
    CONFIGS = "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataChange:
    """From one image to the next one that was published: what was made, changed or removed, by key.

    A change without records is synthetic: it stands for any number of changes that nobody was told one by one.
    """

    old: MetadataImage
    new: MetadataImage
    records: Sequence[MetadataRecord] = ()
    """What led from the one to the other, in order."""
    brokers: AbstractSet[NodeId] = frozenset()
    wals: AbstractSet[tuple[NodeId, BrokerEpoch]] = frozenset()
    topics: AbstractSet[TopicId] = frozenset()
    streams: AbstractSet[StreamId] = frozenset()
    quarantines: AbstractSet[StreamId] = frozenset()
    moves: AbstractSet[StreamId] = frozenset()
    configs: AbstractSet[tuple[int, str]] = frozenset()

    @classmethod
    def between(cls, old: MetadataImage, new: MetadataImage) -> "MetadataChange":
        """The synthetic change. Costs what both images hold; keys come in an order that repeats."""
        return cls(
            old=old,
            new=new,
            brokers=_differences(old.broker_map, new.broker_map),
            wals=_differences(old.wals, new.wals),
            topics=_differences(old.topic_map, new.topic_map),
            streams=_differences(old.streams, new.streams),
            quarantines=_differences(old.quarantines, new.quarantines),
            moves=_differences(old.moves, new.moves),
            configs=_differences(old.configs, new.configs),
        )

    def touches(self, aspects: Collection[Aspect]) -> bool:
        """Whether it changed anything of these."""
        return any(getattr(self, aspect.value) for aspect in aspects)


def _differences(old: Map[K, V], new: Map[K, V]) -> AbstractSet[K]:
    """Keys whose values are not the same object in both; sorted, because the maps' order depends on hashes."""
    if old is new:
        return frozenset()
    found: list[Any] = [key for key, value in new.items() if old.get(key, _ABSENT) is not value]
    found += [key for key in old if key not in new]
    return dict.fromkeys(sorted(found)).keys()
