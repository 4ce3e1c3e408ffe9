"""What a broker stands on: time, randomness, threads, the network and the stores, as one bundle.

The simulation builds the same broker on doubles of all of these; `system_platform` is the machine's own.
"""

import asyncio
import errno
import pathlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from automq.runtime.clock import Clock, SystemClock
from automq.runtime.cpu import MeteredWorkers, thread_cpu_s
from automq.runtime.entropy import Entropy, SystemEntropy
from automq.runtime.stalls import NoStallWatch, StallWatch, ThreadStallWatch
from automq.runtime.telemetry import Metrics
from automq.runtime.workers import ThreadWorkers, Workers
from automq.s3stream.compaction.worker import CompactionWorker
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.store.uri import StoreKind, open_store, parse_store_uri
from automq.server.compaction.process import ProcessWorker, Report
from automq.server.config.setting import Address
from automq.server.config.settings import Settings
from automq.server.lifecycle.states import Reason, Refused
from automq.server.network.admission import raise_descriptor_limit
from automq.server.roles import Roles
from automq.server.surroundings import Surroundings

ACCEPT_BACKLOG = 1024


class Bound(Protocol):
    """An address that is ours, on which nobody can connect yet."""

    @property
    def port(self) -> int:
        """The real port, when 0 was asked for."""
        ...

    def close(self) -> None:
        """Give the address back. Idempotent."""
        ...


class Accepting(Protocol):
    """A listener that takes connections."""

    def close(self) -> None:
        """Take no more; connections that are there stay."""
        ...


class Network(Protocol):
    """Where clients come from."""

    def bind(self, address: Address) -> Bound:
        """Take `address`. Raises Refused: AddressInUse, or InvalidSettings when the machine does not have it."""
        ...

    async def accept(self, bound: Bound, factory: Callable[[], asyncio.BaseProtocol]) -> Accepting:
        """Listen on what was bound; every connection gets a protocol of `factory`."""
        ...

    async def connect(self, address: Address, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connect a protocol of `factory` to another broker's internal listener. Raises OSError."""
        ...


class BoundSocket:
    """A TCP socket that is bound and does not listen."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def close(self) -> None:
        self.socket.close()


class SystemNetwork:
    """The machine's TCP."""

    def bind(self, address: Address) -> BoundSocket:
        try:
            return BoundSocket(_bind(address))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    Reason.ADDRESS_IN_USE,
                    f"the address {address} is taken by another process; stop it or choose another address",
                ) from error
            raise Refused(
                Reason.INVALID_SETTINGS,
                f"the address {address} cannot be bound: {error.strerror or error}; name an address of this machine",
            ) from error

    async def accept(self, bound: Bound, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
        assert isinstance(bound, BoundSocket)
        # Only now, see `_bind`; connections inherit it, so that a successor can bind while ours linger.
        bound.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return await asyncio.get_running_loop().create_server(factory, sock=bound.socket, backlog=ACCEPT_BACKLOG)

    async def connect(self, address: Address, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        await asyncio.get_running_loop().create_connection(factory, address.host, address.port)


def _bind(address: Address) -> socket.socket:
    """A bound socket. Raises OSError.

    The first try goes without SO_REUSEADDR: with it, Linux lets two processes bind one port as long as neither listens,
    and the second would be found out after it has fenced the first. Connections that a predecessor left behind make
    that try fail, so there is a second one with it.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    for reuse in (0, 1):
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            bound.bind(where)
            return bound
        except OSError as error:
            bound.close()
            if reuse or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The bundle. `open_store` may look at the settings' URI and credentials; it does no I/O by itself."""

    clock: Clock
    entropy: Entropy
    workers: Workers
    network: Network
    open_store: Callable[[Settings, Metrics], ObjectStorage]
    store_workers: Workers | None = None
    """The store's own, where it has any: what hangs there must not keep anything else waiting."""
    descriptors: int | None = None
    """How many files and sockets may be open; None where there is no limit."""
    boot_id: str = ""
    """Names this boot of this machine; "" where nothing does."""
    stall_watch: Callable[[Metrics], StallWatch] = lambda _metrics: NoStallWatch()
    roles: Callable[[Surroundings], Roles] = Roles
    """How a broker reaches its controller, or becomes it."""
    compaction_worker: Callable[[Settings, int, Callable[[Report], None]], CompactionWorker | None] = (
        lambda _settings, _read_bytes, _on_report: None
    )
    """Makes who does compaction jobs, reading so many bytes at once, and reports; None: this very process does."""
    loop_cpu_s: Callable[[], float] = lambda: 0.0
    """CPU time of the thread that asks: asked by the event loop's. Simulations measure none."""


def _open_store(settings: Settings, *, workers: Workers, entropy: Entropy) -> ObjectStorage:
    return open_store(
        parse_store_uri(settings.cluster.storage_uri),
        workers=workers,
        entropy=entropy,
        credentials_folder=settings.cluster.credentials_folder,
    )


def _compaction_worker(
    settings: Settings, read_bytes: int, on_report: Callable[[Report], None]
) -> CompactionWorker | None:
    """A process of its own, where the store can be reached from one."""
    if parse_store_uri(settings.cluster.storage_uri).kind is StoreKind.MEMORY:
        return None
    return ProcessWorker(
        storage_uri=settings.cluster.storage_uri,
        credentials_folder=settings.cluster.credentials_folder,
        read_bytes=read_bytes,
        on_report=on_report,
    )


def _boot_id() -> str:
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Only Linux has it.
        return ""


def system_platform() -> Platform:
    """This machine, as it is."""
    workers, entropy = ThreadWorkers(), SystemEntropy()
    store_workers = MeteredWorkers(ThreadWorkers(name="automq-store"))
    return Platform(
        clock=SystemClock(),
        entropy=entropy,
        workers=workers,
        store_workers=store_workers,
        network=SystemNetwork(),
        open_store=lambda settings, _metrics: _open_store(settings, workers=store_workers, entropy=entropy),
        descriptors=raise_descriptor_limit(),
        boot_id=_boot_id(),
        stall_watch=ThreadStallWatch,
        compaction_worker=_compaction_worker,
        loop_cpu_s=thread_cpu_s,
    )
