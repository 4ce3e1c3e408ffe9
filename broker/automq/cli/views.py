"""What the read-only views show: rows gathered from a cluster's brokers."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from automq.cli.client import KafkaClient, check
from automq.cli.output import Row, kafka_id
from automq.protocol.codec import MalformedMessage, decode_versioned
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.consumer_protocol import ConsumerProtocolAssignment
from automq.protocol.messages.discovery import MetadataResponseTopic
from automq.protocol.messages.fetch import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from automq.protocol.messages.group_admin import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
)
from automq.protocol.messages.offset import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse

EARLIEST: Final = -2
LATEST: Final = -1
# OffsetFetch has groups in lists since 8, and names of topics until 9.
OFFSET_FETCH_VERSIONS: Final = range(8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """One partition of a topic; offsets are None where no leader answers."""

    topic: str
    partition: int
    leader: int
    leader_epoch: int
    earliest: int | None
    latest: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitView:
    """What a group has committed for a partition."""

    topic: str
    partition: int
    committed: int
    latest: int | None
    member: str

    @property
    def lag(self) -> int | None:
        """Records that are not committed yet."""
        return None if self.latest is None else max(0, self.latest - self.committed)


def topic_names(client: KafkaClient, *, internal: bool) -> list[MetadataResponseTopic]:
    """Topics in order of name."""
    topics = client.metadata().topics
    return sorted((topic for topic in topics if internal or not topic.is_internal), key=lambda topic: topic.name or "")


def partitions_of(client: KafkaClient, topic: MetadataResponseTopic) -> list[PartitionView]:
    """The partitions of a topic with their offsets."""
    leaders = {partition.partition_index: partition.leader_id for partition in topic.partitions}
    name = topic.name or ""
    earliest = list_offsets(client, {(name, index): leader for index, leader in leaders.items()}, EARLIEST)
    latest = list_offsets(client, {(name, index): leader for index, leader in leaders.items()}, LATEST)
    return [
        PartitionView(
            topic=name,
            partition=partition.partition_index,
            leader=partition.leader_id,
            leader_epoch=partition.leader_epoch,
            earliest=earliest.get((name, partition.partition_index)),
            latest=latest.get((name, partition.partition_index)),
        )
        for partition in sorted(topic.partitions, key=lambda partition: partition.partition_index)
    ]


def topic_row(topic: MetadataResponseTopic) -> Row:
    """One line of the list of topics."""
    return {
        "topic": topic.name,
        "id": kafka_id(topic.topic_id),
        "partitions": len(topic.partitions),
        "replication_factor": len(topic.partitions[0].replica_nodes) if topic.partitions else 0,
        "internal": topic.is_internal,
    }


def partition_rows(client: KafkaClient, topic: MetadataResponseTopic) -> list[Row]:
    """The lines of one topic."""
    return [
        {
            "topic": view.topic,
            "partition": view.partition,
            "leader": view.leader,
            "leader_epoch": view.leader_epoch,
            "earliest": view.earliest,
            "latest": view.latest,
            "records_max": None if view.earliest is None or view.latest is None else view.latest - view.earliest,
        }
        for view in partitions_of(client, topic)
    ]


def group_row(node: int, group: DescribedGroup) -> Row:
    """One line of the list of groups."""
    return {
        "group": group.group_id,
        "state": group.group_state,
        "protocol": "/".join(filter(None, (group.protocol_type, group.protocol_data))),
        "members": len(group.members),
        "coordinator": node,
    }


def commit_rows(client: KafkaClient, node: int, group: DescribedGroup) -> list[Row]:
    """The lines of one group."""
    return [
        {
            "group": group.group_id,
            "topic": view.topic,
            "partition": view.partition,
            "committed": view.committed,
            "latest": view.latest,
            "lag": view.lag,
            "member": view.member,
        }
        for view in commits_of(client, node, group)
    ]


def list_offsets(
    client: KafkaClient, leaders: dict[tuple[str, int], int], timestamp: int
) -> dict[tuple[str, int], int]:
    """Offsets at a special timestamp, asked of each partition's leader."""
    asked: dict[int, dict[str, list[ListOffsetsPartition]]] = defaultdict(lambda: defaultdict(list))
    for (topic, index), leader in leaders.items():
        if leader in client.nodes:
            asked[leader][topic].append(ListOffsetsPartition(partition_index=index, timestamp=timestamp))
    offsets: dict[tuple[str, int], int] = {}
    for leader, topics in asked.items():
        request = ListOffsetsRequest(
            replica_id=-1,
            topics=[ListOffsetsTopic(name=topic, partitions=partitions) for topic, partitions in topics.items()],
        )
        for answer in client.call(request, ListOffsetsResponse, node=leader).topics:
            for partition in answer.partitions:
                if partition.error_code == ErrorCode.NONE:
                    offsets[answer.name, partition.partition_index] = partition.offset
    return offsets


def list_groups(client: KafkaClient) -> list[tuple[int, DescribedGroup]]:
    """Every group with the broker that coordinates it, in order of name."""
    client.metadata()
    found: list[tuple[int, DescribedGroup]] = []
    for node in client.nodes:
        listed = client.call(ListGroupsRequest(), ListGroupsResponse, node=node)
        check(listed.error_code, f"broker {node} does not list its groups")
        names = [group.group_id for group in listed.groups]
        if names:
            described = client.call(DescribeGroupsRequest(groups=names), DescribeGroupsResponse, node=node)
            found += [(node, group) for group in described.groups]
    return sorted(found, key=lambda entry: entry[1].group_id)


def committed_offsets(client: KafkaClient, node: int, group_id: str) -> dict[tuple[str, int], int]:
    """What a group has committed, by topic and partition."""
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group_id, topics=None)])
    answer = client.call(request, OffsetFetchResponse, node=node, versions=OFFSET_FETCH_VERSIONS)
    committed: dict[tuple[str, int], int] = {}
    for answered in answer.groups:
        check(answered.error_code, f"group {group_id}")
        for topic in answered.topics:
            for partition in topic.partitions:
                committed[topic.name, partition.partition_index] = partition.committed_offset
    return committed


def commits_of(client: KafkaClient, node: int, group: DescribedGroup) -> list[CommitView]:
    """Committed offsets of a group with the ends of the partitions."""
    committed = committed_offsets(client, node, group.group_id)
    leaders = {
        (topic.name or "", partition.partition_index): partition.leader_id
        for topic in client.metadata().topics
        for partition in topic.partitions
    }
    latest = list_offsets(client, {key: leaders[key] for key in committed if key in leaders}, LATEST)
    members = _owners(group)
    return [
        CommitView(
            topic=topic,
            partition=index,
            committed=offset,
            latest=latest.get((topic, index)),
            member=members.get((topic, index), ""),
        )
        for (topic, index), offset in sorted(committed.items())
    ]


def _owners(group: DescribedGroup) -> dict[tuple[str, int], str]:
    """Which member reads a partition now, as far as the group speaks the consumer protocol."""
    owners: dict[tuple[str, int], str] = {}
    for member in group.members:
        if group.protocol_type != "consumer" or not member.member_assignment:
            continue
        try:
            assignment = decode_versioned(
                ConsumerProtocolAssignment, member.member_assignment, is_newest_for_newer=True
            )
        except MalformedMessage:
            continue
        for topic in assignment.assigned_partitions:
            for index in topic.partitions:
                owners[topic.topic, index] = member.group_instance_id or member.member_id
    return owners
