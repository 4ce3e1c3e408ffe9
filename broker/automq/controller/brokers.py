"""Pure: brokers and their write-ahead logs: registration, fencing, recovery, producer-id blocks."""

from collections.abc import Sequence
from typing import Final, Required, TypedDict

from automq.controller.failover import NOTHING_KNOWN, Around, fence_dead, is_alive, wals_in_order
from automq.controller.format_levels import check_reads
from automq.controller.model import ProducerIdBlock, Registration, WalToRecover
from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.image import BROKER_RESOURCE, BrokerImage, MetadataImage, WalImage
from automq.metadata.record_parts import IN_THE_BUCKET
from automq.metadata.records import (
    FORMAT_LEVEL,
    BrokerRegistered,
    BrokerUnregistered,
    ConfigChanged,
    Endpoint,
    MetadataRecord,
    ProducerIdsAllocated,
    QuarantineLifted,
    RangeLost,
    StreamsOpened,
    WalDescriptor,
    WalRecovered,
)
from automq.metadata.records import (
    BrokerFenced as BrokerFencedRecord,
)
from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import Decision
from automq.s3stream.model import BrokerFenced, FencedBy

PRODUCER_ID_MAX: Final = 2**63 - 1
# Of one node, and remembered: an older process would have to sleep through as many starts of its successors.
REPLACED_MAX: Final = 8


class Who(TypedDict, total=False):
    """What an incarnation of a node registers: the arguments of `register_broker`."""

    rack: Required[str | None]
    endpoints: Required[Sequence[Endpoint]]
    format_level: int
    incarnation: bytes
    wal: WalDescriptor
    after: BrokerEpoch | None


def register_broker(
    image: MetadataImage,
    node: NodeId,
    *,
    rack: str | None,
    endpoints: Sequence[Endpoint],
    format_level: int = FORMAT_LEVEL,
    incarnation: bytes = b"",
    wal: WalDescriptor = IN_THE_BUCKET,
    after: BrokerEpoch | None = None,
) -> Decision[MetadataRecord, Registration]:
    """A new incarnation. In one change the former ones are fenced, and it is named as the recoverer of their logs.

    The current one that asks again gets what it got; `incarnation`, drawn by the process, tells. Raises BrokerFenced
    for one that is fenced or was replaced, or whose node has another incarnation than `after`, ApiError
    UNSUPPORTED_VERSION for one that does not read what the cluster writes.
    """
    check_reads(image, node, format_level)
    before = image.broker(node)
    if before is not None and incarnation:
        check_not_replaced(before, incarnation)
        if before.incarnation == incarnation:
            check_alive(image, node, before.epoch)
            logs = [log for log in inherited_wals(image, node) if log.epoch != before.epoch]
            return Decision((), Registration(node=node, epoch=before.epoch, wals=logs))
    check_newest_is(before, node, after)
    epoch = image.next_broker_epoch
    registered = BrokerRegistered(
        node=node,
        epoch=epoch,
        rack=rack,
        endpoints=tuple(endpoints),
        format_level=format_level,
        incarnation=incarnation,
        wal=wal,
        replaced=() if before is None else _replaced(before),
    )
    records: list[MetadataRecord] = [registered]
    wals = inherited_wals(image, node)
    records.extend(_fence(wal.node, wal.epoch, (node, epoch)) for wal in wals)
    return Decision(records, Registration(node=node, epoch=epoch, wals=wals))


def check_not_replaced(broker: BrokerImage, incarnation: bytes) -> None:
    """Rule: a process whose node has started anew since is told so, and does not fence its successor.

    Raises BrokerFenced.
    """
    if incarnation in broker.replaced:
        raise BrokerFenced(
            f"broker {broker.node} was started anew since, at epoch {broker.epoch}", by=FencedBy.REGISTRATION
        )


def check_newest_is(broker: BrokerImage | None, node: NodeId, after: BrokerEpoch | None) -> None:
    """Rule: a process that begins anew takes nobody's place but its own.

    It decided to do so by what it read a while ago: a process that was started for its node since is the one that
    somebody wants. Raises BrokerFenced.
    """
    if after is None or (broker is not None and broker.epoch == after):
        return
    now = "it is not registered any more" if broker is None else f"it is at epoch {broker.epoch}"
    raise BrokerFenced(f"broker {node} was to begin anew after epoch {after}, and {now}", by=FencedBy.REGISTRATION)


def _replaced(before: BrokerImage) -> tuple[bytes, ...]:
    known = (*before.replaced, before.incarnation) if before.incarnation else before.replaced
    return known[-REPLACED_MAX:]


def fence_broker(
    image: MetadataImage, node: NodeId, epoch: BrokerEpoch, *, recoverer: tuple[NodeId, BrokerEpoch]
) -> Decision[MetadataRecord, Sequence[WalToRecover]]:
    """End one incarnation; `recoverer` inherits its log and every log that it was recovering."""
    check_alive(image, *recoverer)
    if recoverer == (node, epoch):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"broker {node} cannot recover itself")
    broker = image.broker(node)
    if broker is None or broker.epoch != epoch:
        raise ApiError(ErrorCode.STALE_BROKER_EPOCH, f"broker {node} is not at epoch {epoch}")
    wals = inherited_wals(image, node)
    records = [_fence(wal.node, wal.epoch, recoverer) for wal in wals]
    if not broker.fenced and not any((wal.node, wal.epoch) == (node, epoch) for wal in wals):
        records.append(_fence(node, epoch, recoverer))
    return Decision(records, wals)


def end_broker(
    image: MetadataImage, node: NodeId, epoch: BrokerEpoch, *, around: Around = NOTHING_KNOWN
) -> Decision[MetadataRecord, None]:
    """(node, epoch) ends here, in order: it is fenced, and its log needs no recovery.

    Rule: only of one that leads nothing. What it acknowledged is committed then, as no stream is given on before
    (`release_check`), so that its log holds nothing that is in no object. Raises BrokerFenced for one that is fenced
    already, ApiError INVALID_REQUEST for one that leads something.
    """
    check_alive(image, node, epoch)
    if image.leader_counts.get(node):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"broker {node} still leads partitions: its log may be needed")
    records = list(fence_dead(image, [(node, epoch)], around, ended=True))
    if (node, epoch) in image.wals:
        records.append(WalRecovered(node=node, epoch=epoch))
    return Decision(records, None)


def inherited_wals(image: MetadataImage, node: NodeId) -> Sequence[WalToRecover]:
    """Logs of `node`'s incarnations that nobody else recovers, and those that it was recovering; oldest first."""
    return [
        to_recover(wal)
        for wal in wals_in_order(image)
        if (wal.node if wal.recoverer is None else wal.recoverer[0]) == node
    ]


def to_recover(wal: WalImage) -> WalToRecover:
    """What its recoverer is told of a log."""
    lost = tuple((slots.start, slots.end) for slots in wal.lost)
    return WalToRecover(node=wal.node, epoch=wal.epoch, trim_to=wal.trim_to, lost=lost)


def wal_recovered(
    image: MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
    *,
    recoverer: tuple[NodeId, BrokerEpoch],
    lost: Sequence[RangeLost] = (),
    given: Sequence[StreamsOpened] = (),
) -> Decision[MetadataRecord, None]:
    """Only the named recoverer may say so; saying it again is no error.

    Quarantines because of the log end with it. `lost` is what may have lain in slots that were given up: recorded in
    the same append. `given` are the log's streams, given on.
    """
    check_alive(image, *recoverer)
    wal = image.wals.get((node, epoch))
    if wal is None:
        return Decision((), None)
    if wal.recoverer != recoverer:
        raise BrokerFenced(
            f"the log of broker {node} at epoch {epoch} is recovered by {wal.recoverer}, not {recoverer}"
        )
    lifted = _lift_quarantines(image, node, epoch)
    return Decision((*lost, WalRecovered(node=node, epoch=epoch), *lifted, *given), None)


def _lift_quarantines(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> Sequence[QuarantineLifted]:
    """What goes with the recovery of (node, epoch)'s log: every cause that names it."""
    by_key: dict[str, list[StreamId]] = {}
    for stream in sorted(image.quarantines):
        for cause in image.quarantines[stream]:
            if cause.wal == (node, epoch):
                by_key.setdefault(cause.key, []).append(stream)
    return [QuarantineLifted(streams=tuple(streams), key=key) for key, streams in by_key.items()]


def unregister_broker(image: MetadataImage, node: NodeId) -> Decision[MetadataRecord, None]:
    """Forget a node that is fenced, recovered and owns nothing, and what is configured for it."""
    broker = image.broker(node)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker {node} is not registered")
    why = _why_not_forgotten(image, broker)
    if why is not None:
        raise ApiError(ErrorCode.INVALID_REQUEST, why)
    records: list[MetadataRecord] = []
    overridden = image.broker_config(node)
    if overridden:
        changes = tuple((name, None) for name in sorted(overridden))
        records.append(ConfigChanged(resource_type=BROKER_RESOURCE, resource_name=str(node), changes=changes))
    return Decision((*records, BrokerUnregistered(node=node)), None)


def _why_not_forgotten(image: MetadataImage, broker: BrokerImage) -> str | None:
    """For people; None when nothing of it is left."""
    node = broker.node
    if not broker.fenced:
        return f"broker {node} is alive: drain and stop it first"
    if (pinned := why_pinned(image, node)) is not None:
        return pinned
    if inherited_wals(image, node) or any(key[0] == node for key in image.wals):
        return f"a write-ahead log of broker {node} is not recovered yet: ask again"
    if led := len(image.owned_partitions(node)):
        return f"broker {node} still has {led} partitions"
    return None


def why_pinned(image: MetadataImage, node: NodeId) -> str | None:
    """Which logs of a node are damaged, and by what: they wait for a person. For people; None when there are none."""
    found = [
        f"the write-ahead log of broker {node} at epoch {wal.epoch} is damaged at {wal.damage.key}: {wal.damage.reason}"
        for wal in wals_in_order(image)
        if wal.node == node and wal.damage is not None
    ]
    return f"{'; '.join(found)}; repair it first (`automq repair`)" if found else None


def check_alive(image: MetadataImage, node: NodeId, epoch: BrokerEpoch) -> None:
    """Rule: whoever acts is the current incarnation of its node and not fenced. Raises BrokerFenced."""
    if not is_alive(image, (node, epoch)):
        raise BrokerFenced(
            f"broker {node} at epoch {epoch} is fenced: a newer incarnation or a recoverer has taken over"
        )


def allocate_producer_ids(
    image: MetadataImage, node: NodeId, epoch: BrokerEpoch, count: int
) -> Decision[MetadataRecord, ProducerIdBlock]:
    """The next ids, never given again."""
    check_alive(image, node, epoch)
    assert count > 0
    first = image.next_producer_id
    if first > PRODUCER_ID_MAX - count:
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "all producer ids are given out")
    record = ProducerIdsAllocated(next_id=first + count, node=node, epoch=epoch)
    return Decision((record,), ProducerIdBlock(first=first, count=count))


def _fence(node: NodeId, epoch: BrokerEpoch, recoverer: tuple[NodeId, BrokerEpoch]) -> BrokerFencedRecord:
    return BrokerFencedRecord(node=node, epoch=epoch, recoverer_node=recoverer[0], recoverer_epoch=recoverer[1])
