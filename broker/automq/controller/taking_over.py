"""How a process becomes the controller: it claims an epoch, fences the lower ones, and reads what they hold."""

from collections.abc import Collection
from dataclasses import dataclass

from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.claim import ClaimantAddress, claim_next_epoch
from automq.metadata.loader import Loaded, LogLoader
from automq.metadata.patience import Patience
from automq.metadata.refusal import StoreOwnedByAnother
from automq.runtime.budget import BorrowingBudget
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import ObjectStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingOver:
    """Of one process; both steps wait while the store fails."""

    store: ObjectStorage
    cluster_id: ClusterId
    node: NodeId
    where: ClaimantAddress | None
    entropy: Entropy
    patience: Patience
    tasks: Tasks
    memory: BorrowingBudget | None

    async def claim(
        self, *, above: ControllerEpoch, owner: str | None, record_number: int, is_contest: bool
    ) -> ControllerEpoch:
        """See `claim_next_epoch`. Raises LogFenced, StoreUnsuitable."""
        return await claim_next_epoch(
            store=self.store,
            cluster_id=self.cluster_id,
            node=self.node,
            entropy=self.entropy,
            patience=self.patience,
            above=above,
            owner=owner,
            record_number=record_number,
            where=self.where,
            is_contest=is_contest,
        )

    async def load(self, epoch: ControllerEpoch, known: Loaded | None, *, owners: Collection[str | None]) -> Loaded:
        """The log up to the fences of every epoch below `epoch`, going on from `known`.

        Raises LogFenced, StoreOwnedByAnother when none of `owners` is recorded any more, StoreDamaged, FormatTooNew.
        """
        loader = LogLoader(
            store=self.store,
            cluster_id=self.cluster_id,
            entropy=self.entropy,
            patience=self.patience,
            tasks=self.tasks,
            memory=self.memory,
        )
        loaded = await loader.take_over(epoch, known)
        found = loaded.image.prefix_owner
        if found not in owners:
            raise StoreOwnedByAnother(f"cluster {self.cluster_id} was taken over by {found} meanwhile")
        return loaded
