"""Pure: the largest batch that a broker takes, and why it is not larger."""

from collections.abc import Mapping
from typing import Final

from automq.controller.model import MessageLimit
from automq.runtime.ledger import Account
from automq.s3stream.settings import ARENAS_PER_BATCH, BATCH_BYTES_MAX
from automq.server.network.receiving import frame_bytes_max

REQUEST_OVERHEAD_BYTES: Final = 64 * 1024
"""What a request has besides its largest batch: names, headers, other partitions."""


def message_limit(memory: Mapping[Account, int], request_bytes: int) -> MessageLimit:
    """Four things bound a batch: an object, memory, the request that carries it, and where that request is kept."""
    arena_bytes, received_bytes = memory[Account.ARENAS], memory[Account.RECEIVE]
    kept_bytes = frame_bytes_max(received_bytes)
    bytes_max = min(
        BATCH_BYTES_MAX, arena_bytes // ARENAS_PER_BATCH, min(request_bytes, kept_bytes) - REQUEST_OVERHEAD_BYTES
    )
    return MessageLimit(
        max(1, bytes_max),
        f"the smallest of {BATCH_BYTES_MAX}, a quarter of automq.arena.bytes={arena_bytes}, "
        f"socket.request.max.bytes={request_bytes} less {REQUEST_OVERHEAD_BYTES}, and the largest request that "
        f"queued.max.request.bytes={received_bytes} keeps, {kept_bytes}, less as much",
    )
