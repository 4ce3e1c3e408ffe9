"""What becomes of a process whose incarnation was fenced: the metadata log in the bucket tells, and nothing is written.

Who was only silent for too long, and whose place nobody has taken, drops everything and begins anew as another
incarnation, in the same process (`MayRejoin`). Whoever was superseded by a newer process of its node does nothing for
as long as that one is there: ending at once would make two supervisors restart, and so fence, each other's process for
ever.
"""

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId
from automq.metadata.image import MetadataImage
from automq.metadata.lease import LeaseContent, LeaseWatch
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.patience import Patience
from automq.runtime.backoff import Backoff
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import FormatTooNew, StoreDamaged
from automq.s3stream.ports import ObjectStorage
from automq.server.lifecycle.states import Reason, Refused

log = logging.getLogger(__name__)

GONE_S: Final = 15.0
"""Three renewals of a lease that is renewed every five seconds; and so long a successor may take to register anew."""
LOOK_S_MAX: Final = 10.0
"""Between two looks at the log, which are some requests each; the first come sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """An incarnation that has ended in a process that goes on: what the next one there must find unchanged."""

    epoch: BrokerEpoch
    """The newest of its node."""
    held_epoch: ControllerEpoch
    """The newest claim that was this process's own; 0 for none."""


class MayRejoin(Exception):
    """This incarnation is fenced and its node has no other: a new one may serve, in this very process.

    That was so when it was read: the new one registers only if it still is.
    """

    def __init__(self, message: str, former: Former) -> None:
        super().__init__(message)
        self.former = former


class Fate(enum.Enum):
    """What the metadata say of an incarnation that has learned that it is fenced."""

    OPEN = 1
    """Its registration stands, or it has none: what fenced it is not recorded yet."""
    ALONE = 2
    """It is fenced, and its node has no newer incarnation."""
    SUPERSEDED = 3
    """A newer incarnation of its node is registered, and not fenced."""
    SUCCESSOR_FENCED = 4
    """A newer incarnation was there, and is fenced itself."""
    FORGOTTEN = 5
    """The node is not registered any more."""


ENDINGS: Final[Mapping[Fate, str]] = {
    Fate.OPEN: "and no longer renews its lease",
    Fate.SUCCESSOR_FENCED: "and is fenced itself",
    Fate.FORGOTTEN: "and this broker is not registered any more",
}
"""How a refusal goes on."""


def fate_of(image: MetadataImage, node: NodeId, epoch: BrokerEpoch | None, incarnation: bytes = b"") -> Fate:
    """What has become of (node, epoch); `epoch` is None for one that was fenced before it knew that it is registered.

    `incarnation` is what it drew for its registration: by it a registration is known whose answer was lost.
    """
    broker = image.broker(node)
    if broker is None:
        return Fate.OPEN if epoch is None else Fate.FORGOTTEN
    if broker.epoch == epoch or (incarnation and broker.incarnation == incarnation):
        return Fate.ALONE if broker.fenced else Fate.OPEN
    if epoch is None and incarnation not in broker.replaced:
        return Fate.OPEN
    return Fate.SUCCESSOR_FENCED if broker.fenced else Fate.SUPERSEDED


class AfterFence:
    """Of one incarnation that was fenced, and answers nothing any more.

    `epoch` is None for one that never knew of a registration of this process; `incarnation` is what it drew for its
    own, empty when it was fenced before. `held_epoch` is the newest claim that was this process's own.
    """

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch | None,
        incarnation: bytes,
        held_epoch: ControllerEpoch,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
    ) -> None:
        self._node, self._epoch, self._incarnation, self._held_epoch = node, epoch, incarnation, held_epoch
        self._clock, self._entropy, self._tasks = clock, entropy, tasks
        self._lease = LeaseWatch(store=store, cluster_id=cluster_id, clock=clock)
        self._loader = LogLoader(
            store=store,
            cluster_id=cluster_id,
            entropy=entropy,
            # The store itself tells of its outcomes.
            patience=Patience(entropy=entropy, on_store=lambda _error: None),
            tasks=tasks,
        )
        self._known: Loaded | None = None

    async def wait(
        self,
        message: str,
        *,
        known: Loaded | None,
        stop_asked: asyncio.Event,
        on_lease: Callable[[LeaseContent], None],
    ) -> None:
        """Return when the process is asked to stop. `known` is what was read of the log last.

        Raises MayRejoin; Refused, which begins with `message`, once the successor is gone, or nobody renews the lease.
        """
        self._known = known
        lease = self._lease

        def on_read() -> None:
            if lease.content is not None:
                on_lease(lease.content)

        leased = self._tasks.spawn(lease.wait_unchanged(GONE_S, on_read=on_read), name="watch the successor")
        decided = self._tasks.spawn(self._until_decided(), name="look what became of this incarnation")
        stopping = self._tasks.spawn(stop_asked.wait(), name="wait to be stopped")
        waiting = {leased, decided, stopping}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if stop_asked.is_set():
            return
        fate = decided.result() if decided.done() else Fate.OPEN
        if fate is Fate.ALONE:
            assert self._known is not None
            newest = self._known.image.broker_map[self._node].epoch
            raise MayRejoin(message, Former(epoch=newest, held_epoch=self._held_epoch))
        raise Refused(Reason.FENCED, f"{message}, {ENDINGS[fate]}; restart this one if it is to go on")

    async def _until_decided(self) -> Fate:
        """Look at the log until nothing is to be waited for: ALONE, FORGOTTEN, or SUCCESSOR_FENCED for a while.

        Whoever was fenced there may register anew meanwhile.
        """
        backoff = Backoff(entropy=self._entropy, first_s=1.0, max_s=LOOK_S_MAX)
        fenced_since: float | None = None
        while True:
            fate = fate_of(await self._read(), self._node, self._epoch, self._incarnation)
            now = self._clock.monotonic()
            if fate in (Fate.ALONE, Fate.FORGOTTEN):
                return fate
            if fate is not Fate.SUCCESSOR_FENCED:
                fenced_since = None
            elif fenced_since is None:
                fenced_since = now
            elif now - fenced_since >= GONE_S:
                return fate
            await asyncio.sleep(backoff.next_s())

    async def _read(self) -> MetadataImage:
        """However long the store is away. A damaged log is looked at again: the next start names the damage."""
        while True:
            try:
                known = self._known
                self._known = await (self._loader.read() if known is None else self._loader.read_on(known))
                return self._known.image
            except (StoreDamaged, FormatTooNew) as error:
                log.warning("the metadata log cannot be read after the fence", extra={"why": str(error)})
                await asyncio.sleep(LOOK_S_MAX)
