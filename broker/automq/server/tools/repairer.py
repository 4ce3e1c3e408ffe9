"""Carries out `automq repair`: watches the lease, claims the metadata log, appends the records, releases the claim."""

from collections.abc import Callable, Sequence

from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.model import ControllerSettings
from automq.controller.service import Controller
from automq.ids import ClusterId, NodeId
from automq.metadata.cluster import read_cluster_key
from automq.metadata.erase import check_not_running
from automq.metadata.image import MetadataImage
from automq.metadata.loader import LogLoader
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.refusal import StoreClusterMissing
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.objects.format import object_key
from automq.s3stream.ports import ObjectStorage, StoreError
from automq.s3stream.store.layout import CLUSTER_KEY
from automq.server.tools.repair import Named, RepairRefused, check_repair, described, plan_repair


class Repairer:
    """One run of `automq repair` on one store."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        name: str,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        on_store: Callable[[StoreError | None], None],
    ) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._entropy = entropy
        self._tasks = tasks
        self._on_store = on_store
        self._patience = Patience(entropy=entropy, on_store=on_store)

    async def run(self, named: Named, *, by: str, dry_run: bool) -> Sequence[str]:
        """What was recorded, or with `dry_run` would be, a line each; nothing where it is recorded already.

        Raises RepairRefused, ClusterRunning, StoreClusterMissing, StoreDamaged, FormatTooNew, StoreError; nothing was
        recorded then.
        """
        found = await read_cluster_key(self._store)
        if found is None:
            raise StoreClusterMissing(f"the prefix has no key `{CLUSTER_KEY}`: there is nothing to repair")
        cluster_id = found.cluster_id
        loader = LogLoader(
            store=self._store,
            cluster_id=cluster_id,
            entropy=self._entropy,
            patience=self._patience,
            tasks=self._tasks,
        )
        image = (await loader.read()).image
        lines = self._decide(image, cluster_id, named, by=by)
        if dry_run or not lines:
            return lines
        await check_not_running(self._store, cluster_id, self._clock, self._patience, before="repair")
        publisher = MetadataPublisher()
        controller = Controller(
            settings=ControllerSettings(),
            cluster_id=cluster_id,
            node=min((broker.node for broker in image.brokers()), default=NodeId(0)),
            store=self._store,
            publisher=publisher,
            key_of=lambda object_id: object_key(cluster_id, object_id),
            clock=self._clock,
            entropy=self._entropy,
            tasks=self._tasks,
            metrics=ControllerMetrics(Metrics(), lambda: publisher.image),
            on_fenced=lambda _reason: None,
            on_damaged=lambda _error: None,
            on_store=self._on_store,
        )
        await controller.start(owner=image.prefix_owner, recorded_owner=image.prefix_owner)
        try:
            # Decided anew: a broker may have recorded something between the look and the claim.
            lines = self._decide(publisher.image, cluster_id, named, by=by)
            await controller.repair(plan_repair(publisher.image, cluster_id, named), by=by)
        finally:
            await controller.close()
        return lines

    def _decide(self, image: MetadataImage, cluster_id: ClusterId, named: Named, *, by: str) -> Sequence[str]:
        wanted = plan_repair(image, cluster_id, named)
        records = check_repair(image, wanted, by=by, now_ms=self._clock.wall_ms())
        if named.is_empty:
            raise RepairRefused("nothing is named")
        return [described(image, record) for record in records]
