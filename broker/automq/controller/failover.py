"""Pure: what becomes of the logs and streams of brokers that are gone.

The fence record of a dead incarnation names who recovers its log: the least loaded broker that can reach it. When that
log is recovered, its streams are given on in the same append, each at a higher epoch, to brokers that live. A recoverer
that dies is replaced by a second record. Where nobody can reach a log it waits, and its record says so.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.controller.model import BrokerLoad
from automq.controller.placement import Placement, eligible
from automq.ids import BrokerEpoch, NodeId, StreamEpoch, StreamId
from automq.metadata.image import ANY_INCARNATION, BrokerImage, MetadataImage, PartitionImage, WalImage
from automq.metadata.records import BrokerFenced, MetadataRecord, StreamOpening, StreamsOpened, WalDescriptor

Incarnation = tuple[NodeId, BrokerEpoch]

S3: Final = "s3"
# About how long it takes to look at a partition, and to give one on.
LOOK_PARTITIONS: Final = 500
LOOK_US: Final = 100
GIVE_US: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the metadata do not say of the brokers: what their heartbeats told."""

    loads: Mapping[NodeId, BrokerLoad] = field(default_factory=dict)


NOTHING_KNOWN: Final = Around()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """A log that no live broker can reach: it waits."""

    node: NodeId
    epoch: BrokerEpoch
    wal: WalDescriptor

    def __str__(self) -> str:
        """For people."""
        where = "" if self.wal.volume is None else f" on volume {self.wal.volume}"
        return f"the log of broker {self.node} at epoch {self.epoch} ({self.wal.kind}{where}) waits for a broker"


def can_recover(broker: BrokerImage, wal: WalDescriptor) -> bool:
    """Whether that broker reaches a log that lies there."""
    return wal.kind == S3 or (broker.wal.kind == wal.kind and broker.wal.volume == wal.volume)


class Recoverers:
    """Chooses who recovers what: the least loaded that reaches it, one that drains only where there is no other.

    What was chosen already counts, so that many dead brokers get many recoverers.
    """

    def __init__(self, image: MetadataImage, around: Around, *, without: Collection[NodeId] = ()) -> None:
        self._brokers = [
            broker for broker in image.brokers() if not (broker.fenced or broker.stopping or broker.node in without)
        ]
        self._around = around
        self._logs = dict.fromkeys((broker.node for broker in self._brokers), 0)
        for wal in image.wals.values():
            if wal.recoverer is not None and wal.recoverer[0] in self._logs and wal.damage is None:
                self._logs[wal.recoverer[0]] += 1

    def choose(self, wal: WalDescriptor) -> Incarnation | None:
        """None when nobody reaches it."""
        able = [broker for broker in self._brokers if can_recover(broker, wal)]
        able = [broker for broker in able if not broker.draining] or able
        if not able:
            return None
        chosen = min(able, key=lambda broker: (self._logs[broker.node], self._load(broker.node), broker.node))
        self._logs[chosen.node] += 1
        return chosen.node, chosen.epoch

    def _load(self, node: NodeId) -> int:
        load = self._around.loads.get(node)
        return 0 if load is None else load.weight


def fence_dead(
    image: MetadataImage, dead: Sequence[Incarnation], around: Around, *, ended: bool = False
) -> Sequence[MetadataRecord]:
    """Fence those that are current and not fenced yet, and name recoverers for their logs and what they recovered.

    Logs of those that `ended` in order hold nothing that is needed: nobody recovers them.
    """
    gone = [key for key in dead if is_alive(image, key)]
    if not gone:
        return ()
    recoverers = Recoverers(image, around, without=[node for node, _ in gone])
    records: list[MetadataRecord] = []
    for key in gone:
        wal = image.wals.get(key)
        # One that ended its log in order has nothing to recover: it is its own recoverer, which is nobody.
        records.append(_named(key, None if wal is None or ended else recoverers.choose(wal.descriptor)))
    inherited = [wal for wal in wals_in_order(image) if wal.recoverer in gone]
    records += [_named((wal.node, wal.epoch), recoverers.choose(wal.descriptor)) for wal in inherited]
    return records


def replace_recoverers(image: MetadataImage, around: Around) -> Sequence[MetadataRecord]:
    """Logs whose recoverer is dead, or nobody, and that somebody reaches: a second record names another one."""
    waiting = waiting_logs(image)
    if not waiting:
        return ()
    recoverers = Recoverers(image, around)
    chosen = [((wal.node, wal.epoch), recoverers.choose(wal.descriptor)) for wal in waiting]
    return [_named(key, recoverer) for key, recoverer in chosen if recoverer is not None]


def waiting_logs(image: MetadataImage) -> Sequence[WalImage]:
    """Logs of dead incarnations that nobody alive recovers, the oldest first."""
    return [wal for wal in wals_in_order(image) if is_unattended(image, wal)]


def is_unattended(image: MetadataImage, wal: WalImage) -> bool:
    """Whether a log is to be recovered, and nobody alive is named for it."""
    return wal.recoverer is not None and not is_alive(image, wal.recoverer)


def unreached(image: MetadataImage, around: Around) -> Sequence[Unreached]:
    """Of those, the ones that nobody can reach."""
    waiting = waiting_logs(image)
    recoverers = Recoverers(image, around) if waiting else None
    return [
        Unreached(node=wal.node, epoch=wal.epoch, wal=wal.descriptor)
        for wal in waiting
        if recoverers is not None and recoverers.choose(wal.descriptor) is None
    ]


def is_alive(image: MetadataImage, key: Incarnation) -> bool:
    """Whether it is the current incarnation of its node and not fenced."""
    broker = image.broker(key[0])
    return broker is not None and broker.epoch == key[1] and not broker.fenced


def reassign_leaders(
    image: MetadataImage,
    log: Incarnation,
    *,
    recoverer: Incarnation,
    around: Around = NOTHING_KNOWN,
    without: Collection[StreamId] = (),
    serves: bool = False,
) -> Generator[int, None, Sequence[StreamsOpened]]:
    """Who gets the streams that were the dead incarnation's, now that its log is recovered or pinned: a record each.

    The first live one of the replicas that were asked for gets it, or else who has the fewest; the recoverer where
    nobody may be given anything. What other logs may still hold records of stays, as do streams `without`, which a
    pinned log may. A node that recovers its own former log before it `serves` keeps everything: it opens that itself,
    once. Where it was named later, for one that died, it is a candidate like any other.
    """
    if recoverer[0] == log[0] and not serves:
        return ()
    given: list[PartitionImage] = []
    looked = 0
    for topic in image.topics():
        for part in topic.partitions:
            looked += 1
            if not looked % LOOK_PARTITIONS:
                yield LOOK_US
            if part.leader == log[0] and part.stream not in without and is_ownerless(image, part, recovered=log):
                given.append(part)
                yield GIVE_US
    placement = Placement(image, given={log[0]: len(given)}, reported=around.loads)
    by_node: dict[NodeId, list[StreamOpening]] = {}
    able = set(eligible(image))
    for part in given:
        wished = next((node for node in part.replicas if node in able), None)
        if wished is not None:
            placement.take(wished)
        node = wished if wished is not None else (placement.place() if placement.is_possible else recoverer[0])
        by_node.setdefault(node, []).append(StreamOpening(part.stream, StreamEpoch(part.leader_epoch + 1)))
        yield GIVE_US
    return [
        StreamsOpened(node=node, epoch=image.broker_map[node].epoch, streams=tuple(by_node[node]))
        for node in sorted(by_node)
    ]


def is_ownerless(image: MetadataImage, part: PartitionImage, *, recovered: Incarnation | None = None) -> bool:
    """Whether the incarnation that has the partition is gone, and no log may hold anything of it.

    `recovered` is a log that is being recovered in this very change: quarantines because of it end, too.
    """
    node, epoch = part.leader, part.leader_broker_epoch
    if epoch != ANY_INCARNATION and is_alive(image, (node, epoch)):
        return False
    causes = image.quarantine(part.stream)
    if any(cause.wal is not None and cause.wal != recovered for cause in causes):
        return False
    return not any(wal.epoch == epoch or epoch == ANY_INCARNATION for wal in pending_logs(image, node, but=recovered))


def pending_logs(image: MetadataImage, node: NodeId, *, but: Incarnation | None = None) -> Sequence[WalImage]:
    """Logs of fenced incarnations of `node` that are neither recovered nor pinned."""
    return [
        wal
        for key, wal in image.wals.items()
        if key[0] == node and key != but and wal.recoverer is not None and wal.damage is None
    ]


def affected_streams(image: MetadataImage, wal: WalImage) -> Sequence[StreamId]:
    """Streams that the log may hold acknowledged records of.

    Before it was found damaged these are all of its incarnation's. From then on they are the quarantined ones: later
    owners open, and write, only streams that are not.
    """
    owned = [
        part.stream
        for _topic, part in image.owned_partitions(wal.node)
        if part.leader_broker_epoch in (wal.epoch, ANY_INCARNATION)
    ]
    if wal.damage is None:
        return owned
    return [stream for stream in owned if any(cause.wal == (wal.node, wal.epoch) for cause in image.quarantine(stream))]


def wals_in_order(image: MetadataImage) -> Sequence[WalImage]:
    """Every log that may hold something that is in no object, the oldest incarnation first."""
    return [image.wals[key] for key in sorted(image.wals, key=lambda key: (key[1], key[0]))]


def _named(log: Incarnation, recoverer: Incarnation | None) -> BrokerFenced:
    node, epoch = recoverer or log
    return BrokerFenced(node=log[0], epoch=log[1], recoverer_node=node, recoverer_epoch=epoch)
