"""Topics as Metadata answers carry them, encoded once and kept for as long as they are true.

Kept are single topics, all of them together, and the lists that clients name again and again, each as one piece.

What a topic's part says depends on the topic, on the brokers, on what is quarantined, and on how it is asked (`Kind`).
The first is compared for each topic: images are immutable, so the same object is the same topic. When one of the others
changes, everything is forgotten.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from automq.metadata.image import BrokerImage, TopicImage

MIB: Final = 1024 * 1024
BYTES_MAX: Final = 16 * MIB
"""10,000 partitions are about 400 KB in each kind, and as much again once somebody asks for all of them."""

LIST_MIN: Final = 20
"""Topics of a list that is kept as a whole; shorter ones are put together as fast."""
LIST_MAX: Final = 20_000
"""The same: longer ones do not fit the part of the cache that lists have."""
NAME_BYTES: Final = 80
"""About what the name of a topic of a list takes."""
LISTS_PART: Final = 4
"""Lists take at most this part of the cache: each client may name another one."""

TopicList = tuple[str | int, ...]
"""Names of topics, or the numbers of their ids, as they are asked for."""


class KeptList(NamedTuple):
    """What was answered to a list of topics, all of which there were."""

    topic_map: object
    """The topics of which it was true; of others it may still be true in part."""
    topics: Sequence[TopicImage]
    """In the order of the list."""
    pieces: Sequence[bytes]
    """Each of them, encoded."""
    encoded: bytes
    """All of them."""

    @property
    def size(self) -> int:
        """In bytes, with pieces that nothing else may keep any more."""
        return 2 * len(self.encoded) + NAME_BYTES * len(self.topics)


class Kind(NamedTuple):
    """How a topic is asked for."""

    version: int
    listener_name: str
    operations: int
    """What the answer says of what the reader may do with the topic."""
    zone: str = ""
    """Of a reader that tells it by `client.id`, as long as there is such a zone."""


@dataclass(slots=True)
class _Kept:
    """Of one kind."""

    topics: dict[str, tuple[TopicImage, bytes]] = field(default_factory=dict)
    all_of: object = None
    """The topics that `all` consists of."""
    all: bytes = b""
    lists: OrderedDict[TopicList, KeptList] = field(default_factory=OrderedDict)
    lists_bytes: int = 0


class MetadataCache:
    """At most `bytes_max` bytes; the kind that was asked for longest ago goes first."""

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kinds: OrderedDict[Kind, _Kept] = OrderedDict()
        self._brokers: Sequence[BrokerImage] | None = None
        self._quarantine_changes = -1
        self.size = 0
        """Bytes kept."""

    def renew(self, brokers: Sequence[BrokerImage], quarantine_changes: int) -> None:
        """Forget what is not true any more; to be called before what is kept is asked for."""
        if brokers != self._brokers or quarantine_changes != self._quarantine_changes:
            self._brokers, self._quarantine_changes = brokers, quarantine_changes
            self._kinds.clear()
            self.size = 0

    def topic(self, kind: Kind, topic: TopicImage) -> bytes | None:
        """The topic, encoded; None when it is not known or was another."""
        kept = self._kinds.get(kind)
        found = None if kept is None else kept.topics.get(topic.name)
        return None if found is None or found[0] is not topic else found[1]

    def keep_topic(self, kind: Kind, topic: TopicImage, encoded: bytes, *, topics: Sized) -> None:
        """`encoded` is true of `topic`, which is one of `topics`."""
        kept = self._of(kind)
        before = kept.topics.pop(topic.name, None)
        self.size += len(encoded) - (0 if before is None else len(before[1]))
        kept.topics[topic.name] = topic, encoded
        if len(kept.topics) > len(topics):
            # Deleted ones are among them.
            self._drop(kind)
        self._bound(kind)

    def topics(self, kind: Kind) -> Mapping[str, tuple[TopicImage, bytes]]:
        """Every topic that is known in that kind, by name, to be compared with the topic of now."""
        kept = self._kinds.get(kind)
        return {} if kept is None else kept.topics

    def listed(self, kind: Kind, asked: TopicList) -> KeptList | None:
        """What was answered to that list when it was asked for last, if that is known."""
        kept = self._kinds.get(kind)
        if kept is None or asked not in kept.lists:
            return None
        self._kinds.move_to_end(kind)
        kept.lists.move_to_end(asked)
        return kept.lists[asked]

    def keep_list(self, kind: Kind, asked: TopicList, answered: KeptList) -> None:
        """In the place of what was answered before. A short list is not kept."""
        if len(asked) < LIST_MIN:
            return
        kept = self._of(kind)
        before = kept.lists.pop(asked, None)
        kept.lists[asked] = answered
        self._count_lists(kept, answered.size - (0 if before is None else before.size))
        self._drop_lists(kept, self._bytes_max // LISTS_PART)
        self._bound(kind)

    def _drop_lists(self, kept: _Kept, bytes_max: int) -> None:
        """Those that were asked for longest ago, until the others take at most so much."""
        while kept.lists_bytes > bytes_max:
            _, answered = kept.lists.popitem(last=False)
            self._count_lists(kept, -answered.size)

    def _count_lists(self, kept: _Kept, difference: int) -> None:
        kept.lists_bytes += difference
        self.size += difference

    def all(self, kind: Kind, topics: object) -> bytes | None:
        """All of `topics`, encoded; None when that is not known or they were others."""
        kept = self._kinds.get(kind)
        if kept is None or kept.all_of is not topics:
            return None
        self._kinds.move_to_end(kind)
        return kept.all

    def keep_all(self, kind: Kind, topics: object, encoded: bytes) -> None:
        """`encoded` is true of all `topics`."""
        kept = self._of(kind)
        self.size += len(encoded) - len(kept.all)
        kept.all_of, kept.all = topics, encoded
        self._bound(kind)

    def _of(self, kind: Kind) -> _Kept:
        kept = self._kinds.setdefault(kind, _Kept())
        self._kinds.move_to_end(kind)
        return kept

    def _bound(self, kind: Kind) -> None:
        while self.size > self._bytes_max and len(self._kinds) > 1:
            self._drop(next(iter(self._kinds)))
        if self.size > self._bytes_max:
            self._drop(kind)

    def _drop(self, kind: Kind) -> None:
        kept = self._kinds.pop(kind)
        self.size -= kept.lists_bytes + len(kept.all) + sum(len(encoded) for _, encoded in kept.topics.values())
