"""Pure: how much memory a broker takes for its accounts, from its settings and the machine's limit."""

from collections.abc import Mapping
from typing import Final

from automq.runtime.ledger import LEAST, MIB, SHARES, Account, MemoryTooSmall, split_memory
from automq.server.config.sections import EngineSettings, ServerSettings
from automq.server.config.setting import INT32_MAX, Machine
from automq.server.network.admission import CONNECTION_BYTES

# Of the limit. The rest is the interpreter's and its libraries' (100 MiB), the metadata's, and what an allocator loses.
MEMORY_SHARE: Final = 0.45
# More than this is taken only where somebody says so: it carries 256 MiB of arenas and a request of 100 MiB.
MEMORY_DEFAULT_MAX: Final = 1024 * MIB

# Six tenths of it are for requests above 2 MiB, and one batch may be 4 MiB.
RECEIVE_BYTES_MIN: Final = 8 * MIB

UPLOAD_BYTES_DEFAULT_MAX: Final = 64 * MIB

NAMES: Final[Mapping[Account, str]] = {
    Account.ARENAS: "automq.arena.bytes",
    Account.BLOCK_CACHE: "automq.block.cache.bytes",
    Account.RECEIVE: "queued.max.request.bytes",
    Account.CONNECTIONS: "max.connections",
}
"""Accounts whose limit is a setting of its own."""


class MemoryRefused(Exception):
    """The settings do not fit the memory. Names the setting and the remedy."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def plan_memory(engine: EngineSettings, server: ServerSettings, machine: Machine) -> dict[Account, int]:
    """The limit of every account, in bytes. Raises MemoryRefused."""
    fixed = _fixed(engine, server)
    if fixed.get(Account.RECEIVE, RECEIVE_BYTES_MIN) < RECEIVE_BYTES_MIN:
        raise MemoryRefused(
            NAMES[Account.RECEIVE],
            f"{NAMES[Account.RECEIVE]}={fixed[Account.RECEIVE]} does not carry one full batch: at least "
            f"{RECEIVE_BYTES_MIN}, or -1 for a share of automq.memory.bytes",
        )
    # An upload in the making and its object are drawn as a whole.
    least = {} if engine.upload_bytes_asked is None else {Account.UPLOADS: engine.upload_bytes_asked}
    total = engine.memory_bytes_asked
    if total is None:
        total = _default_total(fixed, least, machine)
    try:
        return split_memory(total, fixed=fixed, least=least)
    except MemoryTooSmall as error:
        raise _refused(error, engine, machine) from error


def upload_bytes(engine: EngineSettings, limits: Mapping[Account, int]) -> int:
    """What was asked for, else what suits the arenas: records arrive while an upload runs."""
    if engine.upload_bytes_asked is not None:
        return engine.upload_bytes_asked
    return min(UPLOAD_BYTES_DEFAULT_MAX, limits[Account.ARENAS] // 4, limits[Account.UPLOADS])


def _fixed(engine: EngineSettings, server: ServerSettings) -> dict[Account, int]:
    asked = {
        Account.ARENAS: engine.arena_bytes_asked,
        Account.BLOCK_CACHE: engine.block_cache_bytes_asked,
        Account.RECEIVE: server.queued_request_bytes_max if server.queued_request_bytes_max > 0 else None,
        # Kafka's default means no limit: then memory and descriptors decide.
        Account.CONNECTIONS: server.connections_max_asked * CONNECTION_BYTES
        if server.connections_max_asked < INT32_MAX
        else None,
    }
    return {account: limit for account, limit in asked.items() if limit is not None}


def _default_total(fixed: Mapping[Account, int], least: Mapping[Account, int], machine: Machine) -> int:
    """A share of the limit; as much as what was fixed needs beside what the others have by default, but no more."""
    shares = sum(SHARES.values())
    others = sum(
        max(MEMORY_DEFAULT_MAX * SHARES[account] // shares, least.get(account, 0))
        for account in Account
        if account not in fixed
    )
    wanted = max(MEMORY_DEFAULT_MAX if not fixed else 0, sum(fixed.values()) + others)
    if machine.memory_limit_bytes is None:
        return wanted
    return min(wanted, int(machine.memory_limit_bytes * MEMORY_SHARE))


def _refused(error: MemoryTooSmall, engine: EngineSettings, machine: Machine) -> MemoryRefused:
    """In words, with every number that matters and a remedy."""
    taken = "".join(f", {limit} for {NAMES[account]}" for account, limit in error.fixed.items())
    others = sum(LEAST[account] for account in Account if account not in error.fixed)
    if engine.memory_bytes_asked is not None:
        total = f"automq.memory.bytes={error.total}"
        remedy = f"raise it to {error.needed}"
    else:
        total = (
            f"automq.memory.bytes, which is {MEMORY_SHARE:.0%} of the memory limit of {machine.memory_limit_bytes} and "
            f"so {error.total},"
        )
        remedy = f"raise the memory limit to {int(error.needed / MEMORY_SHARE) + 1}, or set automq.memory.bytes"
    if error.fixed:
        remedy += f", or lower {' or '.join(NAMES[account] for account in error.fixed)}"
    return MemoryRefused(
        "automq.memory.bytes",
        f"{total} is too small: its accounts need {error.needed} (the least of those that are not set is {others}"
        f"{taken}): {remedy}",
    )
