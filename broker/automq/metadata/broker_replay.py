"""Pure: how records of brokers, their write-ahead logs and their configurations change an image's maps.

Part of `metadata.replay`.
"""

import dataclasses
from collections.abc import Iterator

from immutables import Map

from automq.ids import BrokerEpoch, NodeId
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, BrokerImage, WalImage
from automq.metadata.move_replay import MoveReplay
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    BrokerUnregistered,
    ConfigChanged,
    WalRecovered,
    WalTrimmed,
)


class BrokerReplay(MoveReplay):
    """The part of `MetadataMachine` that knows of brokers and of what is configured."""

    def broker_registered(self, record: BrokerRegistered) -> None:
        assert record.epoch >= self.next_broker_epoch
        config = self.configs.get((BROKER_RESOURCE, str(record.node)), Map())
        self.broker_map[record.node] = BrokerImage(
            node=record.node,
            epoch=record.epoch,
            rack=record.rack,
            endpoints=record.endpoints,
            draining=_is_draining(config),
            format_level=record.format_level,
            incarnation=record.incarnation,
            replaced=record.replaced,
            wal=record.wal,
        )
        self.wals[record.node, record.epoch] = WalImage(node=record.node, epoch=record.epoch, descriptor=record.wal)
        self.next_broker_epoch = BrokerEpoch(max(self.next_broker_epoch, record.epoch + 1))

    def broker_fenced(self, record: BrokerFenced) -> Iterator[None]:
        broker = self.broker_map.get(record.node)
        if broker is not None and broker.epoch == record.epoch:
            self.broker_map[record.node] = dataclasses.replace(broker, fenced=True)
        wal = self.wals.get((record.node, record.epoch))
        if wal is not None:
            recoverer = (record.recoverer_node, record.recoverer_epoch)
            self.wals[record.node, record.epoch] = dataclasses.replace(wal, recoverer=recoverer)
        yield from self.end_moves_of((record.node, record.epoch))

    def broker_stopping(self, record: BrokerStopping) -> None:
        broker = self.broker_map.get(record.node)
        if broker is not None and broker.epoch == record.epoch:
            self.broker_map[record.node] = dataclasses.replace(broker, stopping=True)

    def broker_unregistered(self, record: BrokerUnregistered) -> None:
        del self.broker_map[record.node]

    def wal_trimmed(self, record: WalTrimmed) -> None:
        self._move_wal(record.node, record.epoch, record.trim_to)

    def wal_recovered(self, record: WalRecovered) -> None:
        self.wals.pop((record.node, record.epoch), None)

    def config_changed(self, record: ConfigChanged) -> None:
        key = (record.resource_type, record.resource_name)
        config = self.configs.get(key, Map())
        for name, value in record.changes:
            if value is not None:
                config = config.set(name, value)
            elif name in config:
                config = config.delete(name)
        if config:
            self.configs[key] = config
        else:
            self.configs.pop(key, None)
        if record.resource_type == BROKER_RESOURCE and record.resource_name.isdigit():
            node = NodeId(int(record.resource_name))
            if node in self.broker_map:
                self.broker_map[node] = dataclasses.replace(self.broker_map[node], draining=_is_draining(config))


def _is_draining(config: Map[str, str]) -> bool:
    return config.get(DRAINING_CONFIG, "false") == "true"
