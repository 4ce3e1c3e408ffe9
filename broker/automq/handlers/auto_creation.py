"""Makes the topics that a Metadata request asks for and that do not exist."""

import logging
from collections.abc import Sequence
from typing import Final

from automq.controller.model import TopicSpec
from automq.controller.topics import check_name
from automq.handlers.context import RequestContext
from automq.handlers.deadline import FAILURES, within
from automq.handlers.errors import error_code_of
from automq.protocol.errors import ApiError, ErrorCode

log = logging.getLogger(__name__)

# Metadata has no time-out of its own; a client that gets no leader asks again.
CREATION_TIMEOUT_MS: Final = 10_000

# The coordinators make these, with settings of their own.
INTERNAL_NAMES: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


async def create_missing(context: RequestContext, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Create topics with the broker's defaults; the code of each that could not be made."""
    wanted = [name for name in names if name not in INTERNAL_NAMES and _is_legal(name)]
    if not wanted:
        return {}
    creation = context.services.controller.create_topics([TopicSpec(name=name) for name in wanted])
    try:
        results = await within(CREATION_TIMEOUT_MS, creation)
    except FAILURES as error:
        code = error_code_of(error)
        # A time-out is told as what a client retries at once.
        code = ErrorCode.LEADER_NOT_AVAILABLE if code is ErrorCode.REQUEST_TIMED_OUT else code
        return dict.fromkeys(wanted, code)
    for result in results:
        if result.error is None:
            log.info(
                "topic created for a client that asked for it",
                extra={
                    "target": result.name,
                    "partitions": result.partitions,
                    "principal": context.principal,
                    "client": context.client_id or "(no client id)",
                    "host": context.client_host,
                },
            )
    # Somebody else was faster: the image has the topic.
    return {
        result.name: result.error.code
        for result in results
        if result.error is not None and result.error.code is not ErrorCode.TOPIC_ALREADY_EXISTS
    }


def _is_legal(name: str) -> bool:
    try:
        check_name(name)
    except ApiError:
        return False
    return True
