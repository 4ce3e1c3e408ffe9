"""What a handler may know of its request (`RequestContext`) and whom it may call (`Services`)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from automq.handlers.metadata_cache import MetadataCache
from automq.ids import ClusterId, NodeId
from automq.protocol.metadata_codec import EncodedMetadata
from automq.protocol.schema import Message
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.security.authorizer import Operation, Resource, ResourceType
from automq.security.session import AllowEverything, Authorizer, NoQuotas, Quotas, Session

if TYPE_CHECKING:
    from automq.controller.client import ControllerClient
    from automq.coordinators.group.coordinator import GroupCoordinator
    from automq.handlers.broker_configs import BrokerConfigs
    from automq.handlers.producer_ids import ProducerIds
    from automq.metadata.publisher import MetadataPublisher
    from automq.partition.fetch_session import FetchSessions
    from automq.partition.manager import PartitionManager

NOBODY: Final = -1
"""The node id of a controller that is not known."""


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything handlers may call; built once by the composition root."""

    node: NodeId
    cluster_id: ClusterId
    clock: Clock
    entropy: Entropy
    metadata: "MetadataPublisher"
    """`.image` is the newest durable image."""
    controller: "ControllerClient"
    """Whoever is the controller now, wherever it is."""
    partitions: "PartitionManager"
    groups: "GroupCoordinator"
    fetch_sessions: "FetchSessions"
    broker_configs: "BrokerConfigs"
    """What DescribeConfigs shows of a broker."""
    producer_ids: "ProducerIds"
    api_versions: Mapping[int, range]
    """The versions of every API that is really handled, by key: what ApiVersions answers."""
    metadata_cache: MetadataCache = field(default_factory=MetadataCache)
    authorizer: Authorizer = field(default_factory=AllowEverything)
    quotas: Quotas = field(default_factory=NoQuotas)

    @property
    def controller_id(self) -> int:
        """The node that clients are told is the controller; NOBODY while none is known."""
        leader = self.controller.leader
        return NOBODY if leader is None else leader.node


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """One request's surroundings."""

    services: Services
    version: int
    session: Session

    @property
    def client_id(self) -> str | None:
        """As the request says."""
        return self.session.client_id

    @property
    def client_host(self) -> str:
        """Where the client is."""
        return self.session.client_host

    @property
    def principal(self) -> str:
        """Who the client is."""
        return self.session.principal

    @property
    def listener_name(self) -> str:
        """The listener the request came in on: answers that name brokers give their endpoints of that listener."""
        return self.session.listener_name

    def allows(self, operation: Operation, resource: Resource) -> bool:
        """Whether the client may do `operation` to `resource`."""
        return self.session.allows(operation, resource)

    def allows_every(self, operation: Operation, kind: ResourceType) -> bool:
        """Whether the client may do `operation` to every resource of `kind`."""
        return self.session.allows_every(operation, kind)


# The second argument is the request class under which the handler is registered.
Handler = Callable[[RequestContext, Any], Awaitable[Message | EncodedMetadata]]
