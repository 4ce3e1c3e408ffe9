"""What an authorizer (`session.Authorizer`) is asked about: operations and resources, with Kafka's numbers."""

import enum
from typing import Final


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
