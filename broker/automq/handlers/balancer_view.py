"""What the balancer does and why, as JSON in a tagged field of DescribeCluster: any broker asks the controller for it.

Why its last thousand moves were made lies in the metadata, some fifty bytes each: a new controller tells it as well.
"""

import msgspec

from automq.handlers.access import require
from automq.handlers.context import RequestContext
from automq.security.authorizer import CLUSTER, Operation


async def balancer_document(context: RequestContext, moves_max: int) -> str:
    """A `BalancerView`. Raises ApiError: CLUSTER_AUTHORIZATION_FAILED; NotController."""
    require(context, Operation.DESCRIBE, CLUSTER)
    view = await context.services.controller.describe_balancer(moves_max)
    return msgspec.json.encode(view).decode()
