"""Object compaction: looks what is worth a job, has it done, and records the swap. One job at a time.

Whatever goes wrong leaves the objects as they were: outputs that nobody committed are prepared objects, which expire.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from automq.controller.client import ControllerClient
from automq.controller.compaction_check import CompactionRefused
from automq.controller.compaction_job import job_of, request_of
from automq.controller.compaction_plan import CompactionPlan, CompactionSettings, plan
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId, StreamId
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError
from automq.runtime.budget import ByteBudget
from automq.runtime.tasks import repeat
from automq.runtime.telemetry import Metrics
from automq.runtime.turns import in_turns
from automq.s3stream.compaction.job import WrittenObject
from automq.s3stream.compaction.worker import CompactionWorker
from automq.s3stream.model import BrokerFenced, CommitTooLarge, ObjectRefused, RetentionClass, StoreDamaged
from automq.s3stream.objects.format import parse_object_key
from automq.s3stream.ports import StoreError

log = logging.getLogger(__name__)

SURVIVES: Final = (StoreError, ApiError)
"""The next look finds the same to do."""

# What failed a job is tried again after so many others: somebody may have repaired it.
EXCLUDED_MAX: Final = 10_000


class Compactor:
    """The compaction of one claim."""

    def __init__(
        self,
        *,
        settings: CompactionSettings,
        bytes_per_second: int,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: BrokerEpoch,
        controller: ControllerClient,
        metadata: MetadataPublisher,
        class_of: Callable[[StreamId], RetentionClass],
        worker: CompactionWorker,
        memory: ByteBudget,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._bytes_per_second = bytes_per_second
        self._cluster_id, self._node, self._epoch = cluster_id, node, epoch
        self._controller = controller
        self._metadata = metadata
        self._class_of = class_of
        self._worker = worker
        self._memory = memory
        self._excluded: dict[ObjectId, None] = {}
        """Objects that are damaged or missing: a job with one of them fails."""
        self.is_busy = False
        """Whether there was something to do when that was looked for last."""
        self._jobs = metrics.counter("automq_compaction_jobs", "Object compactions, by outcome", ["outcome"])
        self._read = metrics.counter(
            "automq_compaction_read_bytes", "Bytes of objects that were replaced by compaction"
        )
        self._written = metrics.counter("automq_compaction_written_bytes", "Bytes of objects that compaction wrote")
        for outcome in ("done", "refused", "damaged"):
            self._jobs.labels(outcome)
        metrics.gauge("automq_compaction_excluded", "Objects not compacted: damaged or missing").set_function(
            lambda: len(self._excluded)
        )

    async def run(self, *, interval_s: float) -> None:
        """Until this broker is fenced: jobs follow each other while there are any."""

        async def step() -> None:
            is_over = False
            try:
                await self.step()
                is_over = True
            finally:
                self.is_busy = self.is_busy and is_over

        await repeat(
            step,
            name="compaction",
            pause=lambda: asyncio.sleep(0 if self.is_busy else interval_s),
            survives=SURVIVES,
            ends=(BrokerFenced,),
        )

    async def step(self) -> bool:
        """One job, if one is worth it; whether there was one.

        Raises StoreError, ApiError, BrokerFenced.
        """
        image = self._metadata.image
        planned = await in_turns(plan(image, class_of=self._class_of, settings=self._settings, excluded=self._excluded))
        self.is_busy = planned is not None
        if planned is None:
            return False
        ids = await self._controller.prepare_objects(self._node, self._epoch, len(planned.outputs))
        held = self._memory.limit
        await self._memory.acquire(held)
        try:
            steps = job_of(
                planned,
                ids,
                image=image,
                cluster_id=self._cluster_id,
                bytes_per_second=self._bytes_per_second,
            )
            written = await self._worker.run(await in_turns(steps))
        except StoreDamaged as error:
            # Who was superseded without knowing must not take for damage what the other has deleted.
            await self._controller.confirm(self._node, self._epoch)
            self._on_damaged(planned, error)
            return True
        finally:
            self._memory.release(held)
        await self._commit(planned, ids, written)
        return True

    async def _commit(self, planned: CompactionPlan, ids: Sequence[ObjectId], written: Sequence[WrittenObject]) -> None:
        request = request_of(planned, ids, written, node=self._node, epoch=self._epoch)
        try:
            result = await self._controller.commit_compaction(request)
        except (CompactionRefused, ObjectRefused, CommitTooLarge) as error:
            # Nothing is lost: the next plan sees what changed.
            log.warning("compaction refused", extra={"sources": list(planned.sources), "why": str(error)})
            self._jobs.labels("refused").inc()
            return
        self._jobs.labels("done").inc()
        self._read.inc(planned.source_bytes)
        written_bytes = sum(put.size for put in written)
        self._written.inc(written_bytes)
        log.info(
            "objects compacted",
            extra={
                "sources": len(planned.sources),
                "outputs": len(written),
                "ranges": result.replaced_ranges,
                "destroyed": len(result.destroyed),
                "bytes": written_bytes,
                "why": planned.reason,
            },
        )

    def _on_damaged(self, planned: CompactionPlan, error: StoreDamaged) -> None:
        """A source that was swept since the plan was made is no damage; any other stays as it is from now on."""
        named = parse_object_key(error.key)
        suspects = [source for source in planned.sources if source == named] or planned.sources
        left = [suspect for suspect in suspects if suspect in self._metadata.image.committed]
        if not left:
            self._jobs.labels("refused").inc()
            return
        self._excluded.update(dict.fromkeys(left))
        while len(self._excluded) > EXCLUDED_MAX:
            del self._excluded[next(iter(self._excluded))]
        self._jobs.labels("damaged").inc()
        log.error(
            "compaction leaves damaged objects alone",
            extra={"objects": left, "error": str(error), "remedy": "automq fsck --deep names what they hold"},
        )
