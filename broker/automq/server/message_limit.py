"""Pure: the largest batch that a broker takes, and why it is not larger."""

from typing import TYPE_CHECKING, Final

from automq.controller.model import MessageLimit
from automq.runtime.ledger import Account
from automq.s3stream.settings import ARENAS_PER_BATCH, BATCH_BYTES_MAX

if TYPE_CHECKING:
    from automq.server.settings import Settings

REQUEST_OVERHEAD_BYTES: Final = 64 * 1024
"""What a request has besides its largest batch: names, headers, other partitions."""


def message_limit(settings: "Settings") -> MessageLimit:
    """Three things bound a batch: what one object may be, memory, and the request that carries it."""
    arena_bytes, request_bytes = settings.memory[Account.ARENAS], settings.server.request_bytes_max
    return MessageLimit(
        max(1, min(BATCH_BYTES_MAX, arena_bytes // ARENAS_PER_BATCH, request_bytes - REQUEST_OVERHEAD_BYTES)),
        f"the smallest of {BATCH_BYTES_MAX}, a quarter of automq.arena.bytes={arena_bytes}, and "
        f"socket.request.max.bytes={request_bytes} less {REQUEST_OVERHEAD_BYTES}",
    )
