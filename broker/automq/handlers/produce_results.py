"""What a partition's part of a Produce answer says when nothing was appended, and who leads instead."""

from automq.handlers.errors import error_message_of, write_error_code_of
from automq.handlers.leaders import Leader
from automq.partition.record_validation import RecordsRefused
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.produce import NodeEndpoint, TopicProduceData
from automq.protocol.produce_codec import ProduceResult


def fail(result: ProduceResult, error: Exception) -> None:
    """Why nothing was appended."""
    result.error_code, result.error_message = write_error_code_of(error), error_message_of(error)
    if isinstance(error, RecordsRefused):
        result.record_errors = error.record_errors


def refused(topic: TopicProduceData, code: ErrorCode) -> list[ProduceResult]:
    """Nothing of the topic is looked at; the frame's memory is used again."""
    for asked in topic.partition_data:
        asked.records = None
    return [ProduceResult(asked.index, code) for asked in topic.partition_data]


def endpoints_of(leaders: list[Leader]) -> list[NodeEndpoint]:
    """Where the leaders are, each once."""
    by_node = {leader.node: leader for leader in leaders if leader.host is not None}
    return [
        NodeEndpoint(node_id=leader.node, host=leader.host or "", port=leader.port, rack=leader.rack)
        for leader in by_node.values()
    ]
