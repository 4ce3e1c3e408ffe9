"""The bit fields in which Kafka tells a client what it may do."""

from collections.abc import Mapping, Sequence
from typing import Final

from automq.handlers.context import RequestContext
from automq.security.authorizer import Operation, Resource, ResourceType

NOT_ASKED: Final = -(2**31)
"""What is answered when the client did not ask."""

KNOWN: Final[Mapping[ResourceType, Sequence[Operation]]] = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
}
"""What can be done to a resource of each kind."""


def all_operations(kind: ResourceType) -> int:
    """Everything that can be done to a resource of `kind`."""
    return sum(1 << operation for operation in KNOWN[kind])


def operations_of(context: RequestContext, resource: Resource) -> int:
    """What the client may do to `resource`."""
    return sum(1 << operation for operation in KNOWN[resource[0]] if context.allows(operation, resource))
