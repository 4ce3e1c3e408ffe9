"""What a broker may tune of its engine, and what follows from it."""

from dataclasses import dataclass
from typing import Final

from automq.runtime.ledger import Account
from automq.s3stream.arena import PAGE_BYTES

KIB = 1024
MIB = 1024 * KIB

# The unit of recycling. Sixteen of them at least, so that one pinned by a slow reader is a small share of the budget.
ARENA_BYTES_MAX: Final = 8 * MIB
ARENAS_MIN: Final = 16
# What the log cache's index has bits for, and what one PUT or GET of a slot may take.
BATCH_BYTES_MAX: Final = 64 * MIB
# Others must be able to produce beside the largest batch: it takes this part of the arenas at most.
ARENAS_PER_BATCH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """What a broker may tune. Every number is a bound on memory, latency or requests."""

    arena_bytes: int = 256 * MIB
    """All produced bytes that are not committed yet, and the log cache: the memory bound of the write path."""
    upload_bytes: int = 64 * MIB
    upload_interval_ms: int = 300_000
    upload_slots: int = 1_000
    """A log-cache block is uploaded at this size, this long after its first byte or after so many WAL slots."""
    block_cache_bytes: int = 128 * MIB
    cold_read_bytes: int = 64 * MIB
    """Bytes of ranged GETs in flight for cold reads."""
    index_cache_bytes: int = 32 * MIB
    log_cache_index_bytes: int = 40 * MIB
    """Beyond it committed blocks go, then what is open is uploaded early, then producers wait."""
    checkpoint_bytes: int = 32 * MIB
    upload_memory_bytes: int = 128 * MIB
    """Objects that are built or put: the second of two waits until it fits."""
    recovery_bytes: int = 64 * MIB
    """Slots of a dead log in memory, with what describes their batches."""
    wal_interval_ms: float = 250.0
    """Under load a WAL slot is started at most this often, unless it is full."""
    wal_batch_bytes: int = 4 * MIB
    """Largest slot that several batches share."""
    batch_bytes_max: int = 64 * MIB
    """Largest batch; one that does not fit a shared slot gets one of its own. A quarter of the arenas at most."""
    wal_inflight: int = 8
    """Slots that may be on their way to the store at once."""
    wal_eager_bytes: int = MIB
    """While a slot is on its way, one smaller than this waits a little (5 ms at most): fewer, larger slots."""

    def limits(self) -> dict[Account, int]:
        """Of the accounts that the engine draws on."""
        return {
            Account.ARENAS: self.arena_bytes,
            Account.BLOCK_CACHE: self.block_cache_bytes,
            Account.COLD_READS: self.cold_read_bytes,
            Account.INDEX_CACHE: self.index_cache_bytes,
            Account.LOG_CACHE_INDEX: self.log_cache_index_bytes,
            Account.CHECKPOINTS: self.checkpoint_bytes,
            Account.UPLOADS: self.upload_memory_bytes,
            Account.RECOVERY: self.recovery_bytes,
        }

    @property
    def arena_unit_bytes(self) -> int:
        """Size of one arena: room for a slot at least."""
        unit = max(self.wal_batch_bytes, min(ARENA_BYTES_MAX, self.arena_bytes // ARENAS_MIN))
        return (unit + PAGE_BYTES - 1) & -PAGE_BYTES

    @property
    def arenas_max(self) -> int:
        """Arenas in the budget."""
        return max(4, self.arena_bytes // self.arena_unit_bytes)

    @property
    def own_slot_bytes_max(self) -> int:
        """The largest batch that is taken, in a slot of its own."""
        return min(self.batch_bytes_max, BATCH_BYTES_MAX, self.arena_bytes // ARENAS_PER_BATCH)

    @property
    def reserve_bytes(self) -> int:
        """Kept from Produce requests, for what the broker itself appends: offsets of groups above all."""
        return max(1, self.arenas_max // 8) * self.arena_unit_bytes
