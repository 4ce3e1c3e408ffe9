"""Every API asks whether its client may, and answers a refusal with Kafka's code.

And every answer says how long its client is not listened to.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from automq.handlers.context import Services
from automq.protocol.apis import APIS, ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import (
    admin,
    admin_cluster,
    controller,
    discovery,
    fetch,
    group,
    group_admin,
    offset,
    transaction,
    transaction_admin,
)
from automq.protocol.messages import security as acls
from automq.protocol.messages.quotas import DescribeClientQuotasRequest
from automq.protocol.records import Record, build_batch
from automq.protocol.schema import Message, wire_of
from automq.security.authorizer import CLUSTER, Operation, Resource, ResourceType
from automq.security.session import Session
from automq.server.network.dispatch import DispatchTable
from tests.support.data_path import MemoryTransport, fetch_request, produce_request
from tests.support.served import Served, served

pytestmark = [pytest.mark.looptime]

TOPIC: Resource = (ResourceType.TOPIC, "orders")
GROUP: Resource = (ResourceType.GROUP, "billing")
TRANSACTION: Resource = (ResourceType.TRANSACTIONAL_ID, "t1")


class Refusing:
    """Refuses what is not allowed, and remembers what it was asked."""

    def __init__(self, *allowed: tuple[Operation, Resource]) -> None:
        self.allowed = set(allowed)
        self.asked: set[tuple[Operation, Resource]] = set()

    def authorize(self, session: Session, operation: Operation, resource: Resource) -> bool:
        assert session.client_id == "test"
        self.asked.add((operation, resource))
        return (operation, resource) in self.allowed

    def authorize_every(self, session: Session, operation: Operation, kind: ResourceType) -> bool:
        return False


@dataclass(frozen=True)
class Case:
    """A request that needs to be allowed something."""

    request: Callable[[int], Message]
    asks: set[tuple[Operation, Resource]]
    codes: set[ErrorCode]
    """In the answer, when nothing is allowed."""


def a_batch() -> bytearray:
    return build_batch([Record(key=b"k", value=b"v", timestamp=0)])


def case(request: Message, asks: tuple[Operation, Resource], *codes: ErrorCode) -> Case:
    return Case(lambda version: request, {asks}, set(codes))


TOPIC_REFUSED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
GROUP_REFUSED = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER_REFUSED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TRANSACTION_REFUSED = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def offset_fetch(version: int) -> Message:
    if version >= 8:
        return offset.OffsetFetchRequest(groups=[offset.OffsetFetchRequestGroup(group_id="billing", topics=None)])
    topics = [offset.OffsetFetchRequestTopic(name="orders", partition_indexes=[0])]
    return offset.OffsetFetchRequest(group_id="billing", topics=topics)


def find_coordinator(version: int) -> Message:
    if version >= 4:
        return group.FindCoordinatorRequest(coordinator_keys=["billing"])
    return group.FindCoordinatorRequest(key="billing")


def delete_topics(version: int) -> Message:
    if version >= 6:
        return admin.DeleteTopicsRequest(topics=[admin.DeleteTopicState(name="orders")], timeout=1000)
    return admin.DeleteTopicsRequest(topic_names=["orders"], timeout=1000)


def metadata(version: int) -> Message:
    return discovery.MetadataRequest(topics=[discovery.MetadataRequestTopic(name="orders")])


def of_topic(kind: Any, part: Any, **fields: Any) -> Any:
    name = "topic" if "topic" in {field.name for field in dataclasses.fields(part)} else "name"
    return kind(topics=[part(**{name: "orders"}, **fields)])


CASES: dict[int, Case] = {
    ApiKey.PRODUCE: Case(
        lambda v: produce_request(a_batch(), topic="orders"), {(Operation.WRITE, TOPIC)}, {TOPIC_REFUSED}
    ),
    ApiKey.FETCH: Case(lambda version: fetch_request(0, topic="orders"), {(Operation.READ, TOPIC)}, {TOPIC_REFUSED}),
    ApiKey.LIST_OFFSETS: case(
        of_topic(
            fetch.ListOffsetsRequest, fetch.ListOffsetsTopic, partitions=[fetch.ListOffsetsPartition(timestamp=-1)]
        ),
        (Operation.DESCRIBE, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.METADATA: Case(metadata, {(Operation.DESCRIBE, TOPIC)}, {TOPIC_REFUSED}),
    ApiKey.OFFSET_COMMIT: case(
        offset.OffsetCommitRequest(
            group_id="billing",
            topics=[offset.OffsetCommitRequestTopic(name="orders", partitions=[offset.OffsetCommitRequestPartition()])],
        ),
        (Operation.READ, GROUP),
        GROUP_REFUSED,
    ),
    ApiKey.OFFSET_FETCH: Case(offset_fetch, {(Operation.DESCRIBE, GROUP)}, {GROUP_REFUSED}),
    ApiKey.FIND_COORDINATOR: Case(find_coordinator, {(Operation.DESCRIBE, GROUP)}, {GROUP_REFUSED}),
    ApiKey.JOIN_GROUP: case(group.JoinGroupRequest(group_id="billing"), (Operation.READ, GROUP), GROUP_REFUSED),
    ApiKey.HEARTBEAT: case(group.HeartbeatRequest(group_id="billing"), (Operation.READ, GROUP), GROUP_REFUSED),
    ApiKey.LEAVE_GROUP: case(group.LeaveGroupRequest(group_id="billing"), (Operation.READ, GROUP), GROUP_REFUSED),
    ApiKey.SYNC_GROUP: case(group.SyncGroupRequest(group_id="billing"), (Operation.READ, GROUP), GROUP_REFUSED),
    ApiKey.DESCRIBE_GROUPS: case(
        group_admin.DescribeGroupsRequest(groups=["billing"]), (Operation.DESCRIBE, GROUP), GROUP_REFUSED
    ),
    ApiKey.LIST_GROUPS: case(group_admin.ListGroupsRequest(), (Operation.DESCRIBE, CLUSTER)),
    ApiKey.CREATE_TOPICS: case(
        admin.CreateTopicsRequest(topics=[admin.CreatableTopic(name="orders")], timeout=1000),
        (Operation.CREATE, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.DELETE_TOPICS: Case(delete_topics, {(Operation.DELETE, TOPIC)}, {TOPIC_REFUSED}),
    ApiKey.DELETE_RECORDS: case(
        of_topic(
            admin.DeleteRecordsRequest, admin.DeleteRecordsTopic, partitions=[admin.DeleteRecordsPartition(offset=0)]
        ),
        (Operation.DELETE, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.INIT_PRODUCER_ID: case(
        transaction.InitProducerIdRequest(transactional_id=None), (Operation.IDEMPOTENT_WRITE, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: case(
        of_topic(
            fetch.OffsetForLeaderEpochRequest, fetch.OffsetForLeaderTopic, partitions=[fetch.OffsetForLeaderPartition()]
        ),
        (Operation.DESCRIBE, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.DESCRIBE_ACLS: case(acls.DescribeAclsRequest(), (Operation.DESCRIBE, CLUSTER), CLUSTER_REFUSED),
    ApiKey.CREATE_ACLS: case(
        acls.CreateAclsRequest(creations=[acls.AclCreation()]), (Operation.ALTER, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.DELETE_ACLS: case(
        acls.DeleteAclsRequest(filters=[acls.DeleteAclsFilter()]), (Operation.ALTER, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.DESCRIBE_CONFIGS: case(
        admin.DescribeConfigsRequest(
            resources=[admin.DescribeConfigsResource(resource_type=2, resource_name="orders")]
        ),
        (Operation.DESCRIBE_CONFIGS, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.ALTER_CONFIGS: case(
        admin.AlterConfigsRequest(resources=[admin.AlterConfigsResource(resource_type=4, resource_name="1")]),
        (Operation.ALTER_CONFIGS, CLUSTER),
        CLUSTER_REFUSED,
    ),
    ApiKey.ALTER_REPLICA_LOG_DIRS: case(
        admin_cluster.AlterReplicaLogDirsRequest(
            dirs=[
                admin_cluster.AlterReplicaLogDir(
                    path="/", topics=[admin_cluster.AlterReplicaLogDirTopic(name="orders", partitions=[0])]
                )
            ]
        ),
        (Operation.ALTER, CLUSTER),
        CLUSTER_REFUSED,
    ),
    ApiKey.DESCRIBE_LOG_DIRS: case(
        admin_cluster.DescribeLogDirsRequest(topics=None), (Operation.DESCRIBE, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.CREATE_PARTITIONS: case(
        admin.CreatePartitionsRequest(topics=[admin.CreatePartitionsTopic(name="orders", count=2)], timeout=1000),
        (Operation.ALTER, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.DELETE_GROUPS: case(
        group_admin.DeleteGroupsRequest(groups_names=["billing"]), (Operation.DELETE, GROUP), GROUP_REFUSED
    ),
    ApiKey.ELECT_LEADERS: case(
        admin_cluster.ElectLeadersRequest(
            topic_partitions=[admin_cluster.TopicPartitions(topic="orders", partitions=[0])]
        ),
        (Operation.ALTER, CLUSTER),
        CLUSTER_REFUSED,
    ),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: case(
        admin.IncrementalAlterConfigsRequest(
            resources=[admin.IncrementalAlterConfigsResource(resource_type=32, resource_name="billing")]
        ),
        (Operation.ALTER_CONFIGS, GROUP),
        GROUP_REFUSED,
    ),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: case(
        admin_cluster.AlterPartitionReassignmentsRequest(), (Operation.ALTER, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: case(
        admin_cluster.ListPartitionReassignmentsRequest(), (Operation.DESCRIBE, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.OFFSET_DELETE: case(
        offset.OffsetDeleteRequest(group_id="billing"), (Operation.DELETE, GROUP), GROUP_REFUSED
    ),
    ApiKey.DESCRIBE_CLIENT_QUOTAS: case(
        DescribeClientQuotasRequest(), (Operation.DESCRIBE_CONFIGS, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: case(
        acls.DescribeUserScramCredentialsRequest(), (Operation.DESCRIBE, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.UPDATE_FEATURES: case(controller.UpdateFeaturesRequest(), (Operation.ALTER, CLUSTER), CLUSTER_REFUSED),
    ApiKey.UNREGISTER_BROKER: case(controller.UnregisterBrokerRequest(), (Operation.ALTER, CLUSTER), CLUSTER_REFUSED),
    ApiKey.DESCRIBE_QUORUM: case(controller.DescribeQuorumRequest(), (Operation.DESCRIBE, CLUSTER), CLUSTER_REFUSED),
    ApiKey.DESCRIBE_CLUSTER: case(
        discovery.DescribeClusterRequest(include_cluster_authorized_operations=True), (Operation.DESCRIBE, CLUSTER)
    ),
    ApiKey.DESCRIBE_PRODUCERS: case(
        of_topic(
            transaction_admin.DescribeProducersRequest,
            next(part for part in vars(transaction_admin).values() if getattr(part, "__name__", "") == "TopicRequest"),
            partition_indexes=[0],
        ),
        (Operation.READ, TOPIC),
        TOPIC_REFUSED,
    ),
    ApiKey.DESCRIBE_TRANSACTIONS: case(
        transaction_admin.DescribeTransactionsRequest(transactional_ids=["t1"]),
        (Operation.DESCRIBE, TRANSACTION),
        TRANSACTION_REFUSED,
    ),
    ApiKey.LIST_CONFIG_RESOURCES: case(
        admin_cluster.ListConfigResourcesRequest(), (Operation.DESCRIBE_CONFIGS, CLUSTER), CLUSTER_REFUSED
    ),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: case(
        discovery.DescribeTopicPartitionsRequest(topics=[discovery.TopicRequest(name="orders")]),
        (Operation.DESCRIBE, TOPIC),
        TOPIC_REFUSED,
    ),
}

NOTHING_TO_ASK = {
    ApiKey.API_VERSIONS: "needed before anybody can say who he is",
    ApiKey.LIST_TRANSACTIONS: "each transaction is asked for, and there are none",
}


NAMED_ONE_WAY = (discovery.MetadataRequest, admin.DeleteTopicsRequest)
"""These refuse a topic that is named by name and id."""


def codes(message: Any) -> set[ErrorCode]:
    """Every error code that is said anywhere in the message."""
    if isinstance(message, list | tuple):
        return set().union(*map(codes, message)) if message else set()
    if not dataclasses.is_dataclass(message):
        return set()
    found: set[ErrorCode] = set()
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if field.name == "error_code":
            found |= {ErrorCode(value)} if value else set()
        else:
            found |= codes(value)
    return found


def guarded(world: Served, authorizer: Refusing) -> MemoryTransport:
    world.services.authorizer = authorizer
    return world.connect()


def test_every_api_that_is_served_has_a_case() -> None:
    assert set(CASES) | set(NOTHING_TO_ASK) == set(DispatchTable().api_versions)


async def test_every_api_asks_and_answers_a_refusal_with_kafkas_code_in_every_version() -> None:
    async with served() as world:
        await world.create("orders")
        topic = world.services.metadata.image.topic("orders")
        assert topic is not None
        for key, asked in CASES.items():
            for version in APIS[ApiKey(key)].versions:
                refusing = Refusing()
                client = guarded(world, refusing)
                request = asked.request(version)
                for part in getattr(request, "topic_data", None) or getattr(request, "topics", None) or []:
                    if hasattr(part, "topic_id") and not isinstance(request, NAMED_ONE_WAY):
                        part.topic_id = topic.topic_id
                answer = await client.call(ApiKey(key), version, request)
                assert asked.asks <= refusing.asked, (key, version, refusing.asked)
                # Versions without a place for a code say nothing.
                said = codes(answer)
                has_place = not (key == ApiKey.DESCRIBE_LOG_DIRS and version < 3)
                assert said == (asked.codes if has_place else set()), (key, version, answer)
                client.disconnect()


async def test_what_is_allowed_is_answered_beside_what_is_refused() -> None:
    other: Resource = (ResourceType.TOPIC, "secret")
    async with served() as world:
        await world.create("orders")
        await world.create("secret")
        client = guarded(
            world, Refusing((Operation.DESCRIBE, TOPIC), (Operation.WRITE, TOPIC), (Operation.READ, TOPIC))
        )
        partitions = [fetch.ListOffsetsPartition(timestamp=-1)]
        request = fetch.ListOffsetsRequest(
            topics=[fetch.ListOffsetsTopic(name=name, partitions=partitions) for name in ("secret", "orders")]
        )
        answer = await client.call(ApiKey.LIST_OFFSETS, 5, request)
        assert {topic.name: topic.partitions[0].error_code for topic in answer.topics} == {
            "orders": 0,
            "secret": TOPIC_REFUSED,
        }

        everything = await client.call(ApiKey.METADATA, 12, discovery.MetadataRequest(topics=None))
        assert [topic.name for topic in everything.topics] == ["orders"]
        pages = await client.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, discovery.DescribeTopicPartitionsRequest())
        assert [topic.name for topic in pages.topics] == ["orders"]

        both = produce_request(a_batch(), topic="orders")
        both.topic_data += produce_request(a_batch(), topic="secret").topic_data
        produced = await client.call(ApiKey.PRODUCE, 9, both)
        assert [topic.partition_responses[0].error_code for topic in produced.responses] == [0, TOPIC_REFUSED]
        assert world.services.partitions.get("secret", 0).next_offset == 0

        read = fetch_request(0, topic="orders", max_wait=60_000)
        read.topics += fetch_request(0, topic="secret").topics
        fetched = await client.call(ApiKey.FETCH, 12, read)
        assert [topic.partitions[0].error_code for topic in fetched.responses] == [0, TOPIC_REFUSED]
        assert not fetched.responses[1].partitions[0].records
        assert (Operation.DESCRIBE, other) in world.services.authorizer.asked  # type: ignore[attr-defined]


async def test_operations_that_are_shown_are_those_that_are_allowed() -> None:
    async with served() as world:
        await world.create("orders")
        client = guarded(world, Refusing((Operation.DESCRIBE, TOPIC), (Operation.READ, TOPIC)))
        request = discovery.MetadataRequest(topics=None, include_topic_authorized_operations=True)
        (topic,) = (await client.call(ApiKey.METADATA, 12, request)).topics
        assert topic.topic_authorized_operations == 1 << Operation.DESCRIBE | 1 << Operation.READ


async def test_session_knows_the_clients_software() -> None:
    async with served() as world:
        client = world.connect()
        request = discovery.ApiVersionsRequest(client_software_name="librdkafka", client_software_version="2.15.0")
        await client.call(ApiKey.API_VERSIONS, 3, request)
        session = client.connection._session
        assert (session.software_name, session.software_version) == ("librdkafka", "2.15.0")
        assert (session.principal, session.listener_name) == ("User:ANONYMOUS", "PLAINTEXT")


class Slowing:
    """Every use of an API costs so much; sizes are remembered."""

    def __init__(self, throttle_ms: int) -> None:
        self.milliseconds = throttle_ms
        self.used: list[tuple[int, int]] = []

    def throttle_ms(self, session: Session, api_key: int, size: int) -> int:
        self.used.append((api_key, size))
        return self.milliseconds


def slowed(services: Services, throttle_ms: int) -> Slowing:
    quotas = Slowing(throttle_ms)
    services.quotas = quotas
    return quotas


async def test_every_answer_says_how_long_its_client_is_not_listened_to() -> None:
    async with served() as world:
        await world.create("orders")
        quotas = slowed(world.services, 1)
        for key in DispatchTable().api_versions:
            for version in APIS[ApiKey(key)].versions:
                client = world.connect()
                asked = CASES.get(key)
                request = asked.request(version) if asked else APIS[ApiKey(key)].request_class()
                if key == ApiKey.API_VERSIONS:
                    request = discovery.ApiVersionsRequest(client_software_name="x", client_software_version="1")
                if key == ApiKey.JOIN_GROUP:
                    request = group.JoinGroupRequest(group_id="")
                used = len(quotas.used)
                answer = await client.call(ApiKey(key), version, request)
                assert [api for api, _ in quotas.used[used:]] == [key]
                if any(field.name == "throttle_time" for field in dataclasses.fields(answer)):
                    has_field = "throttle_time" in encoded_fields(answer, version)
                    assert answer.throttle_time == (1 if has_field else 0), (key, version)
                client.disconnect()
                await world.create("orders") if key == ApiKey.DELETE_TOPICS else None


def encoded_fields(message: Message, version: int) -> set[str]:

    return {field.name for field in dataclasses.fields(message) if wire_of(field).is_in(version)}


@pytest.mark.parametrize("key", [ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_GROUPS])
async def test_throttled_client_is_answered_at_once_and_then_not_listened_to(key: ApiKey) -> None:
    async with served() as world:
        await world.create("orders")
        quotas = slowed(world.services, 5000)
        client = world.connect()
        loop = asyncio.get_running_loop()
        started = loop.time()
        version = APIS[key].versions[-1] if key != ApiKey.FETCH else 12
        request = produce_request(a_batch(), topic="orders") if key == ApiKey.PRODUCE else CASES[key].request(version)
        if key == ApiKey.PRODUCE:
            version = 12
        answer = await client.call(key, version, request)
        assert answer.throttle_time == 5000
        assert loop.time() - started < 1
        quotas.milliseconds = 0

        waiting = client.send(key, version, request)
        await asyncio.sleep(4.5 - (loop.time() - started))
        assert client.answers() == {}
        assert not client._reading
        await asyncio.sleep(1)
        assert waiting in client.answers()
