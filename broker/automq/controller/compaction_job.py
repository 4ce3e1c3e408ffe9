"""Pure: a plan as the job that a worker does, and the finished job as what the controller is asked to record."""

from collections.abc import Sequence
from typing import Final

from automq.controller.compaction_check import CompactedOutput, CompactedRange, CompactionRequest
from automq.controller.compaction_plan import CompactionPlan
from automq.ids import BrokerEpoch, ClusterId, NodeId, ObjectId
from automq.metadata.image import MetadataImage
from automq.s3stream.compaction.job import VERSION, CompactionJob, Output, Piece, Source, WrittenObject
from automq.steps import Steps

# A millisecond's work.
PIECES_A_TURN: Final = 5000


def job_of(
    planned: CompactionPlan,
    ids: Sequence[ObjectId],
    *,
    image: MetadataImage,
    cluster_id: ClusterId,
    bytes_per_second: int,
) -> Steps[CompactionJob]:
    """What a worker is to do: `ids` are prepared for the plan's outputs, `image` is what the plan was made of."""
    places = {source: place for place, source in enumerate(planned.sources)}
    outputs: list[Output] = []
    in_turn = 0
    for object_id, output in zip(ids, planned.outputs, strict=True):
        pieces: list[Piece] = []
        for item in output.ranges:
            pieces += [Piece(item.stream, places[span.object_id], span.start, span.end) for span in item.spans]
            in_turn += len(item.spans)
            if in_turn >= PIECES_A_TURN:
                in_turn = 0
                yield None
        outputs.append(Output(object_id, tuple(pieces)))
    return CompactionJob(
        version=VERSION,
        cluster_id=cluster_id,
        sources=tuple(Source(source, image.committed[source].size) for source in planned.sources),
        outputs=tuple(outputs),
        bytes_per_second=bytes_per_second,
    )


def request_of(
    planned: CompactionPlan,
    ids: Sequence[ObjectId],
    written: Sequence[WrittenObject],
    *,
    node: NodeId,
    epoch: BrokerEpoch,
) -> CompactionRequest:
    """What (node, epoch) asks for once the outputs are put, with what each of them is."""
    return CompactionRequest(
        node=node,
        epoch=epoch,
        generation=planned.generation,
        outputs=[
            CompactedOutput(
                object_id,
                put.size,
                [
                    CompactedRange(item.stream, item.spans, size=share.size, position=share.position)
                    for item, share in zip(output.ranges, put.shares, strict=True)
                ],
            )
            for object_id, put, output in zip(ids, written, planned.outputs, strict=True)
        ],
    )
