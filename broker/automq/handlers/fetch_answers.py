"""Pure: the parts of a Fetch answer in the order and the groups in which they are written."""

from collections.abc import Sequence

from automq.handlers.leaders import Leader
from automq.partition.fetch_session import FetchTarget
from automq.protocol.fetch_codec import FetchResult, FetchTopicResult
from automq.protocol.messages.fetch import NodeEndpoint


def by_topic(results: Sequence[tuple[FetchTarget, FetchResult]]) -> list[FetchTopicResult]:
    """Neighbours of one topic together; the order stays."""
    topics: list[FetchTopicResult] = []
    add_by_topic(topics, results)
    return topics


def add_by_topic(topics: list[FetchTopicResult], results: Sequence[tuple[FetchTarget, FetchResult]]) -> None:
    """As `by_topic`, of what follows `topics`."""
    last = topics[-1] if topics else None
    for target, result in results:
        if last is None or target.topic_id != last.topic_id or target.topic != last.name:
            last = FetchTopicResult(target.topic, target.topic_id, [])
            topics.append(last)
        last.partitions.append(result)


def endpoints(leaders: Sequence[Leader]) -> list[NodeEndpoint]:
    """Where the leaders are, each once."""
    by_node = {leader.node: leader for leader in leaders if leader.host is not None}
    return [
        NodeEndpoint(node_id=leader.node, host=leader.host or "", port=leader.port, rack=leader.rack)
        for leader in by_node.values()
    ]
