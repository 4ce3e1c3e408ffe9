"""What a handler may know of its request (`RequestContext`) and whom it may call (`Services`)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from automq.handlers.metadata_cache import MetadataCache
from automq.ids import ClusterId, NodeId
from automq.protocol.metadata_codec import EncodedMetadata
from automq.protocol.schema import Message
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy

if TYPE_CHECKING:
    from automq.controller.service import Controller
    from automq.coordinators.group.coordinator import GroupCoordinator
    from automq.handlers.broker_configs import BrokerConfigs
    from automq.handlers.producer_ids import ProducerIds
    from automq.metadata.publisher import MetadataPublisher
    from automq.partition.fetch_session import FetchSessions
    from automq.partition.manager import PartitionManager


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything handlers may call; built once by the composition root."""

    node: NodeId
    cluster_id: ClusterId
    clock: Clock
    entropy: Entropy
    metadata: "MetadataPublisher"
    """`.image` is the newest durable image."""
    controller: "Controller"
    partitions: "PartitionManager"
    groups: "GroupCoordinator"
    fetch_sessions: "FetchSessions"
    broker_configs: "BrokerConfigs"
    """What DescribeConfigs shows of a broker."""
    producer_ids: "ProducerIds"
    api_versions: Mapping[int, range]
    """The versions of every API that is really handled, by key: what ApiVersions answers."""
    metadata_cache: MetadataCache = field(default_factory=MetadataCache)


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """One request's surroundings."""

    services: Services
    version: int
    client_id: str | None
    client_host: str
    principal: str
    """`User:ANONYMOUS` as long as nobody authenticates."""
    listener_name: str
    """The listener the request came in on: answers that name brokers give their endpoints of that listener."""


# The second argument is the request class under which the handler is registered.
Handler = Callable[[RequestContext, Any], Awaitable[Message | EncodedMetadata]]
