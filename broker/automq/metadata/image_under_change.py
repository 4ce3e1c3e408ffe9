"""Pure: the maps and counters of an image that records are changing, and what they changed since it was last taken.

`metadata.replay` says what each record does to them.
"""

from collections.abc import Mapping
from typing import Any, Final

from immutables import Map

from automq.ids import BrokerEpoch, NodeId, ObjectId, StreamId, TopicId
from automq.metadata.change import ChangingMap, MetadataChange
from automq.metadata.image import (
    BrokerImage,
    MetadataImage,
    MoveImage,
    ObjectImage,
    QuarantineCause,
    StreamImage,
    TopicImage,
    WalImage,
)
from automq.metadata.records import MetadataRecord, RangeLost

# The maps of an image, and the field of a change that names what of them was touched. What has none nobody follows.
_MAPS: Final[Mapping[str, str | None]] = {
    "features": None,
    "broker_map": "brokers",
    "wals": "wals",
    "topic_map": "topics",
    "topic_ids": None,
    "collision_keys": None,
    "leader_counts": None,
    "streams": "streams",
    "prepared": None,
    "committed": None,
    "destroyed": None,
    "unreferenced": None,
    "quarantines": "quarantines",
    "lost_ranges": None,
    "moves": "moves",
    "configs": "configs",
}


class ImageUnderChange:
    """Changing a map costs nothing for the others, and so does taking the image now and then.

    `remembers` is for whoever takes changes: their records are kept until then.
    """

    def __init__(self, image: MetadataImage, *, remembers: bool = False) -> None:
        self._remembers = remembers
        self._image = image
        self._is_behind = False
        """Whether something was replayed that `_image` does not have."""
        self._is_between = False
        """A record is applied in turns, and has turns left."""
        self._taken = image
        """The image of the last change that was taken; what was replayed and touched since follows."""
        self._records: list[MetadataRecord] = []
        self._touched: dict[str, dict[Any, None]] = {}
        self.record_number = image.record_number
        self.prefix_owner = image.prefix_owner
        self.format_level = image.format_level
        self.decisions = image.decisions
        self.next_broker_epoch = image.next_broker_epoch
        self.next_stream = image.next_stream
        self.next_object = image.next_object
        self.next_producer_id = image.next_producer_id
        self.features: ChangingMap[str, int] = ChangingMap(image.features)
        self.broker_map: ChangingMap[NodeId, BrokerImage] = ChangingMap(image.broker_map)
        self.wals: ChangingMap[tuple[NodeId, BrokerEpoch], WalImage] = ChangingMap(image.wals)
        self.topic_map: ChangingMap[TopicId, TopicImage] = ChangingMap(image.topic_map)
        self.topic_ids: ChangingMap[str, TopicId] = ChangingMap(image.topic_ids)
        self.collision_keys: ChangingMap[str, str] = ChangingMap(image.collision_keys)
        self.leader_counts: ChangingMap[NodeId, int] = ChangingMap(image.leader_counts)
        self.streams: ChangingMap[StreamId, StreamImage] = ChangingMap(image.streams)
        self.prepared: ChangingMap[ObjectId, ObjectImage] = ChangingMap(image.prepared)
        self.committed: ChangingMap[ObjectId, ObjectImage] = ChangingMap(image.committed)
        self.destroyed: ChangingMap[ObjectId, ObjectImage] = ChangingMap(image.destroyed)
        self.unreferenced: ChangingMap[ObjectId, None] = ChangingMap(image.unreferenced)
        self.quarantines: ChangingMap[StreamId, tuple[QuarantineCause, ...]] = ChangingMap(image.quarantines)
        self.lost_ranges: ChangingMap[StreamId, tuple[RangeLost, ...]] = ChangingMap(image.lost_ranges)
        self.moves: ChangingMap[StreamId, MoveImage] = ChangingMap(image.moves)
        self.configs: ChangingMap[tuple[int, str], Map[str, str]] = ChangingMap(image.configs)

    def begin(self, record: MetadataRecord) -> None:
        """`record` is about to be applied."""
        assert not self._is_between
        self._is_between = True
        if self._remembers:
            self._records.append(record)
        self._is_behind = True
        self.record_number += 1

    def end(self) -> None:
        """The record of `begin` is applied."""
        self._is_between = False

    @property
    def image(self) -> MetadataImage:
        """Everything replayed so far. Nobody sees it between two turns of one record."""
        assert not self._is_between
        if self._is_behind:
            before, maps = self._image, dict[str, Any]()
            for name, field in _MAPS.items():
                maps[name], touched = getattr(self, name).take()
                if touched and field is not None:
                    before_them = self._touched.get(field)
                    if before_them is None:
                        self._touched[field] = touched
                    else:
                        before_them.update(touched)
            self._image = MetadataImage(
                record_number=self.record_number,
                prefix_owner=self.prefix_owner,
                format_level=self.format_level,
                decisions=self.decisions,
                next_broker_epoch=self.next_broker_epoch,
                next_stream=self.next_stream,
                next_object=self.next_object,
                next_producer_id=self.next_producer_id,
                **maps,
            )
            self._image.inherit(before)
            self._is_behind = False
        return self._image

    def take_change(self) -> MetadataChange:
        """From the image of the last change that was taken to the one now."""
        assert self._remembers
        old, new = self._taken, self.image
        records, touched = self._records, self._touched
        self._taken, self._records, self._touched = new, [], {}
        return MetadataChange(
            old=old,
            new=new,
            records=records,
            **{field: keys.keys() for field, keys in touched.items()},
        )
