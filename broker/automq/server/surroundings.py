"""What a broker has before it knows any other of its cluster: its name, the store, and ways to other brokers."""

from collections.abc import Callable
from dataclasses import dataclass

from automq.controller.pre_vote import Connect
from automq.controller.service import Controller
from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import ObjectStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a broker has before it knows any other."""

    make_controller: Callable[[MetadataPublisher, Callable[[str], None]], Controller]
    """A new one, which publishes there and calls back, with the reason, when it has lost its claim."""
    connect: Connect
    on_superseded: Callable[[str], None]
    """A newer process of this node holds the claim."""
    on_log_read: Callable[[float], None]
    """A whole look at the log in the bucket, which began then (`Clock.boottime`), is in the image."""
    held_epoch: ControllerEpoch | None = None
    """The newest claim of this process's former incarnation; None for a process that has just been started."""
    store: ObjectStorage
    cluster_id: ClusterId
    node: NodeId
    owner: str | None
    clock: Clock
    entropy: Entropy
    tasks: Tasks
