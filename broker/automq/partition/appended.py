"""What an append to a partition answers."""

from automq.ids import Offset


class Appended:
    """Where a batch is now. Not frozen: one is made for every produced batch."""

    __slots__ = ("base_offset", "log_append_time_ms", "position", "record_count")

    def __init__(self, base_offset: Offset, position: int, log_append_time_ms: int, record_count: int) -> None:
        self.base_offset = base_offset
        self.position = position
        """WAL slot: answer when it is durable."""
        self.log_append_time_ms = log_append_time_ms
        """-1 when the records have their producer's time."""
        self.record_count = record_count
        """0 when it was there already."""
