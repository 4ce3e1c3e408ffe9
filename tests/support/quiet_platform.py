"""A platform for brokers in one process that nobody connects to: addresses are taken, stores are in memory."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from automq.runtime.entropy import SeededEntropy
from automq.runtime.workers import InlineWorkers
from automq.s3stream.ports import ObjectStorage
from automq.server.after_fence import Former
from automq.server.broker import Broker
from automq.server.config.setting import Address, Machine
from automq.server.config.settings import Settings, build_settings
from automq.server.lifecycle.states import Reason, Refused
from automq.server.platform import Platform
from automq.server.roles import Roles
from automq.server.surroundings import Surroundings
from tests.support.link_wire import connect_in_memory


class LoopClock:
    """Follows the running loop, virtual or not."""

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime(self) -> float:
        return self.monotonic()


@dataclass(slots=True)
class QuietBound:
    """An address that is taken."""

    network: "QuietNetwork"
    port: int
    factory: Callable[[], asyncio.BaseProtocol] | None = None

    def close(self) -> None:
        """Give it back."""
        self.factory = None
        self.network.bound.pop(self.port, None)


@dataclass(slots=True)
class QuietNetwork:
    """One host; `bound` says which ports are taken, and a factory there that somebody listens."""

    bound: dict[int, QuietBound] = field(default_factory=dict)

    def bind(self, address: Address) -> QuietBound:
        port = address.port or 50_000 + len(self.bound)
        if port in self.bound:
            raise Refused(Reason.ADDRESS_IN_USE, f"the address {address} is taken")
        made = self.bound[port] = QuietBound(self, port)
        return made

    async def accept(self, bound: QuietBound, factory: Callable[[], asyncio.BaseProtocol]) -> QuietBound:
        bound.factory = factory
        return bound

    async def connect(self, address: Address, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        await asyncio.sleep(0.001)
        bound = self.bound.get(address.port)
        if bound is None or bound.factory is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        connect_in_memory(factory(), bound.factory())


def quiet_settings(**texts: str) -> Settings:
    """Small and quick; `__` in a keyword stands for a dot."""
    values = {
        "node.id": "1",
        "automq.storage.uri": "memory:",
        "automq.arena.bytes": str(16 * 1024 * 1024),
        "automq.http.address": "here:9404",
        "listeners": "PLAINTEXT://here:9092",
        **{name.replace("__", "."): text for name, text in texts.items()},
    }
    return build_settings(values, machine=Machine(hostname="here"))


def quiet_broker(
    store: ObjectStorage,
    *,
    seed: int = 1,
    network: QuietNetwork | None = None,
    boot_id: str = "",
    roles: Callable[[Surroundings], Roles] = Roles,
    former: Former | None = None,
    **texts: str,
) -> Broker:
    """A broker on `store`, with a network of its own unless one is given."""
    platform = Platform(
        clock=LoopClock(),
        entropy=SeededEntropy(seed),
        workers=InlineWorkers(),
        boot_id=boot_id,
        roles=roles,
        network=network or QuietNetwork(),
        open_store=lambda _settings, _metrics: store,
    )
    return Broker(quiet_settings(**texts), platform, former)
