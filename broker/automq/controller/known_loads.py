"""Pure: what is known of the load of brokers and partitions, put together from heartbeats and what moves.

Brokers tell of their heaviest partitions one by one, and of the others together: each of those counts as their mean. A
partition that has just arrived counts as what it was when it was sent, until its new leader has seen enough of it; what
its former leader still says of it does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from automq.controller.balancer import BalancedBroker
from automq.controller.model import BrokerLoad
from automq.controller.placement import loads as led_partitions
from automq.ids import NodeId, StreamId
from automq.metadata.image import MetadataImage
from automq.steps import Steps

SETTLED_S: Final = 30.0
"""A partition that moved so long ago has the load that its leader tells: clients have found it again."""

# About how long it takes to look at what one broker tells.
LOOK_US: Final = 500


class Rate(NamedTuple):
    """Bytes a second of a partition."""

    in_bytes: float
    out_bytes: float

    @property
    def both(self) -> float:
        """In and out together."""
        return self.in_bytes + self.out_bytes


class Sent(NamedTuple):
    """A partition that was sent to another broker, when, and its load then."""

    at_s: float
    rate: Rate
    left: tuple[NodeId, ...] = ()
    """Brokers that it was sent away from lately."""


NOTHING: Final = Rate(0.0, 0.0)


@dataclass(slots=True)
class KnownLoads:
    """Of one moment."""

    reported: dict[StreamId, Rate] = field(default_factory=dict)
    """By their leaders, one by one."""
    rest: dict[NodeId, Rate] = field(default_factory=dict)
    """What each other partition of a broker counts as."""
    bytes_per_second: dict[NodeId, float] = field(default_factory=dict)
    """Of brokers, in and out together, once all that moves has arrived."""
    sent_lately: dict[StreamId, Rate] = field(default_factory=dict)
    """Of those that were sent lately."""

    def rate(self, stream: StreamId, leader: NodeId) -> Rate:
        """What one partition carries, as far as that is known."""
        reported = self.reported.get(stream)
        sent = self.sent_lately.get(stream)
        if reported is None:
            return self.rest.get(leader, NOTHING) if sent is None else sent
        return reported if sent is None or sent.both < reported.both else sent


def known_loads(
    image: MetadataImage, loads: Mapping[NodeId, BrokerLoad], sent: Mapping[StreamId, Sent], *, now_s: float
) -> Steps[KnownLoads]:
    """In bounded turns: brokers may be many."""
    known = KnownLoads()
    for stream, each in sent.items():
        if now_s - each.at_s < SETTLED_S:
            known.sent_lately[stream] = each.rate
    for node, load in loads.items():
        _take(known, image, node, load)
        yield LOOK_US
    for stream, rate in known.sent_lately.items():
        state = image.streams.get(stream)
        if state is not None and stream not in image.moves and state.owner in known.bytes_per_second:
            # What its new leader has not seen of it yet.
            missing = rate.both - known.reported.get(stream, NOTHING).both
            known.bytes_per_second[state.owner] += max(0.0, missing)
    for move in image.moves.values():
        moving = known.rate(move.stream, move.source[0]).both
        for node, change in ((move.source[0], -moving), (move.target[0], moving)):
            if node in known.bytes_per_second:
                known.bytes_per_second[node] = max(0.0, known.bytes_per_second[node] + change)
    return known


def _take(known: KnownLoads, image: MetadataImage, node: NodeId, load: BrokerLoad) -> None:
    """What one broker tells."""
    in_left, out_left = float(load.in_bytes_per_second), float(load.out_bytes_per_second)
    left = load.partitions
    total = in_left + out_left
    for stream, in_bytes, out_bytes in load.heaviest or ():
        rate = Rate(in_bytes, out_bytes)
        in_left, out_left, left = in_left - in_bytes, out_left - out_bytes, left - 1
        state = image.streams.get(stream)
        if state is None or state.owner != node:
            # It has left, or was deleted.
            total -= rate.both
        else:
            known.reported[stream] = rate
    known.bytes_per_second[node] = max(0.0, total)
    if left > 0:
        known.rest[node] = Rate(max(0.0, in_left) / left, max(0.0, out_left) / left)


def balanced_brokers(
    image: MetadataImage, loads: Mapping[NodeId, BrokerLoad], known: KnownLoads
) -> Sequence[BalancedBroker]:
    """The brokers that are alive, as the planner wants them."""
    counts = led_partitions(image)
    found: list[BalancedBroker] = []
    for broker in image.brokers():
        if broker.fenced:
            continue
        load = loads.get(broker.node)
        found.append(
            BalancedBroker(
                node=broker.node,
                partitions=counts.get(broker.node, 0),
                bytes_per_second=known.bytes_per_second.get(broker.node, 0.0),
                cpu=0.0 if load is None else load.request_cpu_percent / 100,
                rack=broker.rack,
                is_usable=broker.is_usable,
            )
        )
    return found
