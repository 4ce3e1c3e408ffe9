"""Who may connect: a limit on all connections, one on those of an address, and a log line now and then.

A connection costs a descriptor and memory, and the object store needs both as well: so the limit follows from what the
process may open, less a reserve, from the memory ledger and from `max.connections`, whichever is least.
"""

import ipaddress
import logging
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from automq.runtime.budget import ByteBudget
from automq.runtime.ledger import KIB

log = logging.getLogger(__name__)

# For the store's files and sockets, listeners and logs: threads that write files at once, twice over, and then some.
RESERVE_MIN: Final = 96
RESERVE_MAX: Final = 1024

# What is asked for where the hard limit is "none": some systems (macOS) refuse more.
DESCRIPTORS_WANTED: Final = (1 << 20, 1 << 16, 10_240)

LOG_INTERVAL_S: Final = 10.0

# What an open connection takes: its own objects, the transport's and the socket's, and what it may keep of a request
# without asking (`receiving.ALLOWANCE_BYTES`).
CONNECTION_BYTES: Final = 8 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many there may be."""

    connections_max: int
    limited_by: str = "max.connections"
    """What the number comes from."""
    descriptors: int | None = None
    """How many the process may open, a reserve for the store among them."""
    per_host_max: int = 2**31 - 1
    per_host_overrides: Mapping[str, int] = field(default_factory=dict)


def connection_limits(
    *, asked: int, descriptors: int | None, memory_bytes: int, per_host_max: int, per_host_overrides: Mapping[str, int]
) -> ConnectionLimits:
    """Pure: the least of what was asked for and what descriptors and memory carry."""
    candidates = [(asked, "max.connections"), (memory_bytes // CONNECTION_BYTES, "automq.memory.bytes")]
    if descriptors is not None:
        candidates.append((max(1, descriptors - descriptor_reserve(descriptors)), "descriptors"))
    connections_max, limited_by = min(candidates)
    return ConnectionLimits(
        connections_max=connections_max,
        limited_by=limited_by,
        descriptors=descriptors,
        per_host_max=per_host_max,
        per_host_overrides=per_host_overrides,
    )


def descriptor_reserve(descriptors: int) -> int:
    """Pure: how many of them are kept for everything but connections."""
    return min(RESERVE_MAX, max(RESERVE_MIN, descriptors // 4))


def raise_descriptor_limit() -> int | None:
    """The soft limit becomes the hard one, as far as the system lets it; how many may be open. None: no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard,) if hard != resource.RLIM_INFINITY else DESCRIPTORS_WANTED:
        if soft != resource.RLIM_INFINITY and wanted > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError):
                continue
        break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class Admission:
    """Counts connections; those beyond a limit are to be closed at once."""

    def __init__(self, limits: ConnectionLimits, account: ByteBudget) -> None:
        self.limits = limits
        self._account = account
        self.count = 0
        self._by_host: dict[str, int] = {}
        self.refused = {"max.connections": 0, "max.connections.per.ip": 0}
        """Since the start, by the setting's name."""
        self._logged: dict[str, tuple[float, int]] = {}
        """When a line was written, and how many had been refused by then."""

    def admit(self, host: str, now: float) -> bool:
        """Whether a connection from `host` may stay: then `leave` is to be called at its end."""
        limits = self.limits
        if self.count >= limits.connections_max:
            self._refuse("max.connections", host, limits.connections_max, now)
            return False
        most = limits.per_host_overrides.get(canonical(host), limits.per_host_max)
        if self._by_host.get(host, 0) >= most:
            self._refuse("max.connections.per.ip", host, most, now)
            return False
        self.count += 1
        self._by_host[host] = self._by_host.get(host, 0) + 1
        self._account.charge(CONNECTION_BYTES)
        return True

    def leave(self, host: str) -> None:
        """A connection that was admitted is gone."""
        self.count -= 1
        self._account.release(CONNECTION_BYTES)
        left = self._by_host[host] - 1
        if left:
            self._by_host[host] = left
        else:
            del self._by_host[host]

    def _refuse(self, setting: str, host: str, most: int, now: float) -> None:
        self.refused[setting] += 1
        refused = self.refused[setting]
        since, before = self._logged.get(setting, (now - LOG_INTERVAL_S, 0))
        if now - since >= LOG_INTERVAL_S:
            self._logged[setting] = (now, refused)
            log.warning(
                "connections closed: there are too many",
                extra={"limit": most, "setting": setting, "host": host, "closed": refused - before},
            )


def canonical(host: str) -> str:
    """An address as `max.connections.per.ip.overrides` has it: an IPv4 address in IPv6's clothes is one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
