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
from automq.runtime.turns import Pace, map_in_turns

log = logging.getLogger(__name__)

# Metadata has no time-out of its own; a client that gets no leader asks again.
CREATION_TIMEOUT_MS: Final = 10_000

# About how long a name takes to be checked, to become the wish for a topic, and to be told of.
CHECK_US: Final = 2
SPEC_US: Final = 2
RESULT_US: Final = 20

# The coordinators make these, with settings of their own.
INTERNAL_NAMES: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


async def create_missing(context: RequestContext, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Create topics with the broker's defaults; the code of each that could not be made."""
    pace, wanted = Pace(), []
    for name in names:
        if name not in INTERNAL_NAMES and _is_legal(name):
            wanted.append(name)
        await pace.spend(CHECK_US)
    if not wanted:
        return {}
    specs = await map_in_turns(lambda name: TopicSpec(name=name), wanted, part_us=SPEC_US)
    creation = context.services.controller.create_topics(specs)
    try:
        results = await within(CREATION_TIMEOUT_MS, creation)
    except FAILURES as error:
        code = error_code_of(error)
        # A time-out is told as what a client retries at once.
        code = ErrorCode.LEADER_NOT_AVAILABLE if code is ErrorCode.REQUEST_TIMED_OUT else code
        return dict.fromkeys(wanted, code)
    failures: dict[str, ErrorCode] = {}
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
        elif result.error.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            # Else somebody was faster: the image has the topic.
            failures[result.name] = result.error.code
        await pace.spend(RESULT_US)
    return failures


def _is_legal(name: str) -> bool:
    try:
        check_name(name)
    except ApiError:
        return False
    return True
