"""How a broker reaches its controller: whom it asks, and which image of the metadata it has.

`LocalReach` is for the controller in this process. `RemoteReach` asks over the link, wherever the controller is, and
follows the metadata log in the bucket: nothing in it knows whether the controller is in this process all the same.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from automq.controller.link import ControllerLink
from automq.controller.remote import Dial, RemoteLink
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.ids import ClusterId, NodeId
from automq.metadata.follower import LogFollower
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import ObjectStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a broker has before it reaches anybody."""

    controller: Controller
    """This process's own, which may be the active one."""
    published: MetadataPublisher
    """What that one publishes."""
    store: ObjectStorage
    cluster_id: ClusterId
    node: NodeId
    clock: Clock
    entropy: Entropy
    tasks: Tasks


class Reach(Protocol):
    """Of one process."""

    @property
    def link(self) -> ControllerLink:
        """Whom to ask."""
        ...

    @property
    def metadata(self) -> MetadataPublisher:
        """What this broker knows: it may be behind what was answered."""
        ...

    def begin(self, known: Loaded) -> None:
        """Follow the metadata from what was read of them."""
        ...

    def notify(self) -> None:
        """An answer told of more than `metadata` shows."""
        ...

    def close(self) -> None:
        """Ask nobody and follow nothing any more. Idempotent."""
        ...


class LocalReach:
    """Implements `Reach` for a broker whose own process is the controller: its image is the controller's."""

    def __init__(self, around: Surroundings) -> None:
        self.link: ControllerLink = LocalLink(around.controller)
        self.metadata = around.published

    def begin(self, known: Loaded) -> None:
        """The controller publishes by itself."""

    def notify(self) -> None:
        """What was answered was published before."""

    def close(self) -> None:
        """There is nothing to end."""


class RemoteReach:
    """Implements `Reach` for a controller that `dial` connects to. `began` is called when following begins."""

    def __init__(self, around: Surroundings, *, dial: Dial, began: Callable[[], None] = lambda: None) -> None:
        self._tasks = around.tasks
        self._began = began
        self.metadata = MetadataPublisher()
        self._link = RemoteLink(
            dial=dial,
            cluster_id=around.cluster_id,
            node=around.node,
            entropy=around.entropy,
            tasks=around.tasks,
        )
        self._follower = LogFollower(
            loader=LogLoader(
                store=around.store,
                cluster_id=around.cluster_id,
                entropy=around.entropy,
                # The store itself tells of its outcomes.
                patience=Patience(entropy=around.entropy, on_store=lambda _error: None),
                tasks=around.tasks,
            ),
            publisher=self.metadata,
            clock=around.clock,
        )
        self._following: asyncio.Task[None] | None = None

    @property
    def link(self) -> ControllerLink:
        return self._link

    def begin(self, known: Loaded) -> None:
        self._began()
        self._following = self._tasks.spawn(self._follower.run(known), name="follow the metadata log")

    def notify(self) -> None:
        self._follower.notify()

    def close(self) -> None:
        self._link.close()
        if self._following is not None:
            self._following.cancel()
