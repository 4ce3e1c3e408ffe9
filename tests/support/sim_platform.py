"""What a simulated broker process has in place of a machine: a clock, a network, limits of its own, and late news."""

import asyncio
import collections
import contextvars
import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from automq.controller.model import ControllerSettings
from automq.metadata.change import MetadataChange
from automq.metadata.publisher import MetadataPublisher
from automq.s3stream.settings import StorageSettings
from automq.server import components, wiring
from automq.server.config.setting import Address
from automq.server.config.settings import Settings
from automq.server.lifecycle.states import Reason, Refused
from automq.server.roles import Roles
from automq.server.surroundings import Surroundings
from tests.support.network import Listener, SimNetwork
from tests.support.sim_loop import Process, SimLoop

WALL_START_MS = 1_700_000_000_000

TUNING: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "TUNING",
    default={},  # noqa: B039 - never written to
)
"""Limits of controller and engine that are no settings, or not so low, for the processes of one cluster."""


def tuned_controller_settings(settings: Settings) -> ControllerSettings:
    """What the broker would give its controller, changed as the calling process's cluster wants it."""
    return dataclasses.replace(wiring.controller_settings(settings), **TUNING.get().get("controller", {}))


def tuned_storage_settings(settings: Settings) -> StorageSettings:
    """The same for its storage engine."""
    return dataclasses.replace(wiring.storage_settings(settings), **TUNING.get().get("storage", {}))


components.controller_settings = tuned_controller_settings
components.storage_settings = tuned_storage_settings


class SimClock:
    """One process's clock: wrong by some seconds, and a little too fast or slow."""

    def __init__(self, loop: SimLoop, dice: random.Random) -> None:
        self._loop = loop
        self.skew_ms = dice.randint(-5000, 5000)
        self._rate = dice.uniform(0.98, 1.02)
        self._start = dice.uniform(0, 1e6)

    def wall_ms(self) -> int:
        return WALL_START_MS + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._start + self._loop.time() * self._rate

    def boottime(self) -> float:
        return self.monotonic()


class LateRoles(Roles):
    """What a broker knows of what its controller publishes: the same changes in the same order, some time later."""

    def __init__(self, around: Surroundings, *, lag_s: float) -> None:
        super().__init__(around)
        self._lag_s = lag_s
        self._on_their_way: collections.deque[MetadataChange] = collections.deque()
        self._context = contextvars.copy_context()

    def _controllers_publisher(self) -> MetadataPublisher:
        published = MetadataPublisher(self.metadata.image)
        published.subscribe(self._on_change)
        return published

    def _on_change(self, change: MetadataChange) -> None:
        self._on_their_way.append(change)
        # In the broker's own context, whoever's turn it was.
        asyncio.get_running_loop().call_later(self._lag_s, self._arrive, context=self._context)

    def _arrive(self) -> None:
        self.metadata.publish(self._on_their_way.popleft())


class ProcessNetwork:
    """The platform's network, for one process on a host of its own."""

    def __init__(self, network: SimNetwork, process: Process) -> None:
        self._network = network
        self._process = process

    def bind(self, address: Address) -> Listener:
        try:
            return self._network.bind(self._process, address.host, address.port)
        except OSError as error:
            raise Refused(Reason.ADDRESS_IN_USE, str(error)) from error

    async def accept(self, bound: Listener, factory: Any) -> Listener:
        bound.factory = factory
        return bound

    async def connect(self, address: Address, factory: Any) -> None:
        await self._network.connect(address.host, address.port, factory())

    async def serve_probes(self, bound: Listener, probes: Any) -> None:
        """Nobody asks for metrics here."""
