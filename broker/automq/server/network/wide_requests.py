"""Requests and answers of very many parts: what is one to begin with, how many parts are taken, and how they go.

Rule of turns: no request keeps the event loop for more than 10 ms, however much it names. Larger ones than
`WIDE_BYTES` are decoded in turns, handlers work through them in turns, and wide answers are encoded in turns; with both
their parts are freed in turns, too. Where a handler does not, few enough parts are taken.
"""

import dataclasses
import functools
from collections.abc import Hashable, Mapping
from typing import Any, Final

from automq.protocol.apis import ApiKey
from automq.protocol.codec import ELEMENTS_MAX
from automq.protocol.schema import Message, Scalar, wire_of
from automq.steps import Steps

WIDE_BYTES: Final = 8 << 10
"""Larger requests are decoded in turns. A smaller one has some thousand elements: a millisecond or two."""

WIDE_PARTS: Final = 500
"""Answers of more parts are encoded in turns."""

PARTS_MAX: Final = 10_000
"""Elements of all arrays of a request together, unless it is listed here: 2 us each are left for them."""

PARTS_MAX_BY_API: Final[Mapping[int, int]] = {
    # Named by partition, of which a cluster has 100,000; these are answered in turns throughout.
    ApiKey.OFFSET_COMMIT: ELEMENTS_MAX,
    ApiKey.OFFSET_FETCH: ELEMENTS_MAX,
    ApiKey.OFFSET_DELETE: 200_000,
    ApiKey.LIST_OFFSETS: 200_000,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: 200_000,
    ApiKey.DELETE_RECORDS: 200_000,
    ApiKey.DESCRIBE_PRODUCERS: 200_000,
    ApiKey.DESCRIBE_LOG_DIRS: 200_000,
    ApiKey.METADATA: 100_000,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: 100_000,
    # 10,000 partitions, with their configs or replicas.
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: 100_000,
    ApiKey.LIST_PARTITION_REASSIGNMENTS: 100_000,
    ApiKey.ELECT_LEADERS: 100_000,
    ApiKey.CREATE_TOPICS: 100_000,
    ApiKey.CREATE_PARTITIONS: 100_000,
    ApiKey.DELETE_TOPICS: 100_000,
    ApiKey.ALTER_CONFIGS: 100_000,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: 100_000,
    ApiKey.DESCRIBE_CONFIGS: 100_000,
    # A member's protocols, of which a client has a handful.
    ApiKey.JOIN_GROUP: 1_000,
}

# About how long it takes to free a part.
FREED_US: Final = 1


def parts_max(key: int) -> int:
    """Pure: how many elements the arrays of a request may have together."""
    return PARTS_MAX_BY_API.get(key, PARTS_MAX)


def is_wide(message: Message) -> bool:
    """Whether its arrays have more than `WIDE_PARTS` elements together."""
    waiting: list[Any] = [message]
    left = WIDE_PARTS
    while waiting:
        part = waiting.pop()
        for name, has_parts in _arrays(_class(part)):
            items = getattr(part, name)
            if items:
                left -= len(items)
                if left < 0:
                    return True
                if has_parts:
                    waiting.extend(items)
    return False


def emptied(message: Message) -> Steps[None]:
    """Free the parts of a message that is nobody's any more: a million at one go are a long turn."""
    for name, has_parts in _arrays(_class(message)):
        yield from _emptied(getattr(message, name), has_parts=has_parts)


def _emptied(items: list[Any] | None, *, has_parts: bool) -> Steps[None]:
    while items:
        if not has_parts:
            # Numbers and texts.
            del items[-1_000:]
            yield 1_000 * FREED_US // 10
            continue
        part = items.pop()
        for name, has_parts_below in _arrays(_class(part)):
            yield from _emptied(getattr(part, name), has_parts=has_parts_below)
        yield FREED_US


def _class(value: Any) -> Any:
    return type(value)


@functools.cache
def _arrays(kind: Hashable) -> tuple[tuple[str, bool], ...]:
    """The arrays of a struct, and whether their elements are structs."""
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return ()
    wires = [(field.name, wire_of(field)) for field in dataclasses.fields(kind)]
    return tuple((name, not isinstance(wire.kind, Scalar)) for name, wire in wires if wire.is_array)
