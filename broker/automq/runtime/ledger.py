"""Where memory goes: one total, split into accounts, each a budget with a limit.

Whatever holds bytes for longer than a turn of the event loop draws on an account before it holds them. The split is
pure (`split_memory`): what somebody fixed stays as it is, the rest is shared out, and nobody gets less than it can work
with. What has no account is the process itself: interpreter, code, and the metadata image. A snapshot of that must be
written and read however large it is: what is beyond the limit of its account takes room from the block cache.
"""

import enum
from collections.abc import Mapping
from functools import partial
from typing import Final

from automq.runtime.budget import BorrowingBudget, ByteBudget
from automq.runtime.telemetry import Metrics

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Account(enum.Enum):
    """What memory is held for; the value is the metric's label."""

    ARENAS = "arenas"
    """Produced batches: write-ahead log buffer, log cache and upload source in one."""
    LOG_CACHE_INDEX = "log_cache_index"
    """Where in the arenas each stream's batches are."""
    CHECKPOINTS = "checkpoints"
    """State of partitions and groups that goes with an upload."""
    UPLOADS = "uploads"
    """Objects between being built and being committed."""
    BLOCK_CACHE = "block_cache"
    """Data blocks read back, with their tables."""
    INDEX_CACHE = "index_cache"
    """Indexes of objects."""
    COLD_READS = "cold_reads"
    """Ranged GETs on their way."""
    RECOVERY = "recovery"
    """Slots of a dead broker's log, between being read and being committed."""
    COMPACTION = "compaction"
    """One object in the making and what is read for it, in a process of its own; its interpreter is not counted."""
    RECEIVE = "receive"
    """What clients have sent of requests that are not started yet."""
    READER_PINS = "reader_pins"
    """Answers that clients have not taken yet, as far as they are in no cache any more."""
    SNAPSHOTS = "metadata_snapshots"
    """A snapshot of the metadata that is being written, checked or read."""
    CONNECTIONS = "connections"
    """Each open connection, with the little it may hold besides."""


SHARES: Final[Mapping[Account, int]] = {
    Account.ARENAS: 250,
    Account.RECEIVE: 180,
    Account.BLOCK_CACHE: 125,
    Account.UPLOADS: 125,
    Account.COLD_READS: 40,
    Account.READER_PINS: 50,
    Account.RECOVERY: 35,
    Account.COMPACTION: 45,
    Account.SNAPSHOTS: 20,
    Account.LOG_CACHE_INDEX: 40,
    Account.CHECKPOINTS: 25,
    Account.INDEX_CACHE: 25,
    Account.CONNECTIONS: 40,
}
"""Of a thousand. Two uploads of a quarter of the arenas each fit; what is received may be a request of 100 MiB where
the total is a gibibyte."""

LEAST: Final[Mapping[Account, int]] = {
    Account.ARENAS: 16 * MIB,
    Account.RECEIVE: 16 * MIB,
    Account.BLOCK_CACHE: 2 * MIB,
    Account.UPLOADS: 8 * MIB,
    Account.COLD_READS: 8 * MIB,
    Account.READER_PINS: 4 * MIB,
    Account.RECOVERY: 12 * MIB,
    Account.COMPACTION: 8 * MIB,
    Account.LOG_CACHE_INDEX: 2 * MIB,
    Account.CHECKPOINTS: 2 * MIB,
    Account.INDEX_CACHE: 1 * MIB,
    Account.SNAPSHOTS: 2 * MIB,
    Account.CONNECTIONS: 2 * MIB,
}
"""What each account needs to work at all: a few slots, one upload, one read, one request with a full batch."""

TOTAL_LEAST: Final = sum(LEAST.values())


class MemoryTooSmall(Exception):
    """The total does not carry its accounts. Fields in bytes: `needed` is what would do, with what is fixed."""

    def __init__(self, *, total: int, needed: int, fixed: Mapping[Account, int]) -> None:
        super().__init__(f"{total} bytes of memory do not carry accounts that need {needed}")
        self.total, self.needed, self.fixed = total, needed, dict(fixed)


def split_memory(
    total: int, *, fixed: Mapping[Account, int] | None = None, least: Mapping[Account, int] | None = None
) -> dict[Account, int]:
    """Pure: the limit of every account in bytes; they add up to `total` at most.

    `fixed` are limits that somebody chose, whatever they are; `least` raises what an account needs. The others share
    what is left in proportion to `SHARES`, and none gets less than it needs. Raises MemoryTooSmall.
    """
    chosen = dict(fixed or {})
    needs = {
        account: max(LEAST[account], (least or {}).get(account, 0)) for account in Account if account not in chosen
    }
    rest = total - sum(chosen.values())
    if rest < sum(needs.values()):
        raise MemoryTooSmall(total=total, needed=sum(chosen.values()) + sum(needs.values()), fixed=chosen)
    limits = dict(chosen)
    sharing = dict(needs)
    while sharing:
        shares = sum(SHARES[account] for account in sharing)
        short = [account for account, need in sharing.items() if rest * SHARES[account] // shares < need]
        if not short:
            limits |= {account: rest * SHARES[account] // shares for account in sharing}
            break
        for account in short:
            limits[account] = sharing.pop(account)
            rest -= limits[account]
    return {account: limits[account] for account in Account}


class MemoryLedger:
    """The accounts of one broker: `ledger[account]` is the budget to draw on."""

    def __init__(self, limits: Mapping[Account, int], metrics: Metrics) -> None:
        """`limits` has every account."""
        self._accounts = {account: ByteBudget(limits[account]) for account in Account}
        self.snapshots = BorrowingBudget(limits[Account.SNAPSHOTS], self._accounts[Account.BLOCK_CACHE])
        self._accounts[Account.SNAPSHOTS] = self.snapshots
        held = metrics.gauge("automq_memory_bytes", "Memory held, by account", ["account"])
        limit = metrics.gauge("automq_memory_limit_bytes", "Most memory that an account may hold", ["account"])
        for account, budget in self._accounts.items():
            held.labels(account.value).set_function(partial(_used, budget))
            limit.labels(account.value).set(budget.limit)

    def __getitem__(self, account: Account) -> ByteBudget:
        return self._accounts[account]

    @property
    def total(self) -> int:
        """Bytes of all limits together."""
        return sum(budget.limit for budget in self._accounts.values())


def _used(budget: ByteBudget) -> float:
    return budget.used
