"""Pure: a plan as the job that a worker does, and the finished job as what the controller is asked to record."""

from collections.abc import Sequence

from automq.controller.compaction_check import CompactedOutput, CompactedRange, CompactionRequest
from automq.controller.compaction_plan import CompactionPlan
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId
from automq.metadata.image import MetadataImage
from automq.s3stream.compaction.job import VERSION, CompactionJob, Output, Piece, Source


def job_of(
    planned: CompactionPlan,
    ids: Sequence[ObjectId],
    *,
    image: MetadataImage,
    cluster_id: ClusterId,
    bytes_per_second: int,
) -> CompactionJob:
    """What a worker is to do: `ids` are prepared for the plan's outputs, `image` is what the plan was made of."""
    places = {source: place for place, source in enumerate(planned.sources)}
    return CompactionJob(
        version=VERSION,
        cluster_id=cluster_id,
        sources=tuple(Source(source, image.committed[source].size) for source in planned.sources),
        outputs=tuple(
            Output(
                object_id,
                tuple(
                    Piece(item.stream, places[span.object_id], span.start, span.end)
                    for item in output.ranges
                    for span in item.spans
                ),
            )
            for object_id, output in zip(ids, planned.outputs, strict=True)
        ),
        bytes_per_second=bytes_per_second,
    )


def request_of(
    planned: CompactionPlan,
    ids: Sequence[ObjectId],
    sizes: Sequence[int],
    *,
    node: NodeId,
    epoch: BrokerEpoch,
) -> CompactionRequest:
    """What (node, epoch) asks for once the outputs are put, with the size of each."""
    return CompactionRequest(
        node=node,
        epoch=epoch,
        generation=planned.generation,
        outputs=[
            CompactedOutput(object_id, size, [CompactedRange(item.stream, item.spans) for item in output.ranges])
            for object_id, size, output in zip(ids, sizes, planned.outputs, strict=True)
        ],
    )
