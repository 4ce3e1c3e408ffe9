"""The compiled functions; what they do is said by their twins."""

from automq.core.record_walk import Data

INTERFACE: int

def walk_records(
    data: Data,
    first: int,
    stop: int,
    position: int,
    base_timestamp: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    /,
) -> tuple[int, int, int]: ...
