"""May this client do that? The port, and the answer of a broker without ACLs."""

import enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from automq.security.session import Session


class Operation(enum.IntEnum):
    """Kafka's operations, with its numbers: each is a bit of `authorized_operations` as well."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class ResourceType(enum.IntEnum):
    """Kafka's kinds of resources, with its numbers."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


Resource = tuple[ResourceType, str]
"""A kind and a name. A plain tuple: one is made for every topic of every request."""

CLUSTER: Final[Resource] = (ResourceType.CLUSTER, "kafka-cluster")


class Authorizer(Protocol):
    """Decides at once, without I/O."""

    def authorize(self, session: "Session", operation: Operation, resource: Resource) -> bool:
        """Whether the client may do `operation` to `resource`."""
        ...

    def authorize_every(self, session: "Session", operation: Operation, kind: ResourceType) -> bool:
        """Whether the client may do `operation` to every resource of `kind`: spares asking one by one."""
        ...


class AllowEverything:
    """No authorizer is configured."""

    def authorize(self, session: "Session", operation: Operation, resource: Resource) -> bool:
        return True

    def authorize_every(self, session: "Session", operation: Operation, kind: ResourceType) -> bool:
        return True
