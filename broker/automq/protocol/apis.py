"""The table of APIs: key, name, versions, headers, and where the messages are.

Everything Kafka 4.3 serves to clients is here; which of it a broker lists in ApiVersions is the dispatcher's choice.
Message classes are imported when they are first asked for.
"""

import enum
import functools
import importlib
import struct
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from automq.protocol.codec import encode_in_parts, encode_into
from automq.protocol.messages.header import RequestHeader
from automq.protocol.schema import Message

_SIZE_BYTES: Final = 4
_pack_front = struct.Struct(">ii").pack
_pack_size_into = struct.Struct(">i").pack_into


class ApiKey(enum.IntEnum):
    """The first number of every request. Kafka's: never renumber."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    DESCRIBE_QUORUM = 55
    UPDATE_FEATURES = 57
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One API, all versions of it."""

    key: ApiKey
    name: str
    family: str
    """The module of `automq.protocol.messages` that has its classes."""
    versions: range
    """What can be decoded and answered."""
    advertised: range
    """What ApiVersions says."""
    flexible_since: int | None

    def is_flexible(self, version: int) -> bool:
        """Whether `version` has compact lengths and tagged fields."""
        return self.flexible_since is not None and version >= self.flexible_since

    def request_header_version(self, version: int) -> int:
        return 2 if self.is_flexible(version) else 1

    def response_header_version(self, version: int) -> int:
        """A client that asks for the versions does not know yet which header we can write: it is always the first."""
        return 1 if self.key is not ApiKey.API_VERSIONS and self.is_flexible(version) else 0

    @property
    def request_class(self) -> type[Message]:
        return _message_class(self.family, f"{self.name}Request")

    @property
    def response_class(self) -> type[Message]:
        return _message_class(self.family, f"{self.name}Response")


@functools.cache
def _message_class(family: str, name: str) -> type[Message]:
    module = importlib.import_module(f"automq.protocol.messages.{family}")
    cls: type[Message] = getattr(module, name)
    assert issubclass(cls, Message)
    return cls


def _api(
    key: ApiKey,
    name: str,
    family: str,
    first: int,
    last: int,
    flexible_since: int | None,
    *,
    advertised_first: int | None = None,
) -> Api:
    return Api(
        key=key,
        name=name,
        family=family,
        versions=range(first, last + 1),
        advertised=range(first if advertised_first is None else advertised_first, last + 1),
        flexible_since=flexible_since,
    )


_ROWS: Final = (
    # Versions 0 to 2 are refused, but clients of librdkafka before 2025 do not compress unless they are listed.
    _api(ApiKey.PRODUCE, "Produce", "produce", 3, 13, 9, advertised_first=0),
    _api(ApiKey.FETCH, "Fetch", "fetch", 4, 18, 12),
    _api(ApiKey.LIST_OFFSETS, "ListOffsets", "fetch", 1, 11, 6),
    _api(ApiKey.METADATA, "Metadata", "discovery", 0, 13, 9),
    _api(ApiKey.OFFSET_COMMIT, "OffsetCommit", "offset", 2, 10, 8),
    _api(ApiKey.OFFSET_FETCH, "OffsetFetch", "offset", 1, 10, 6),
    _api(ApiKey.FIND_COORDINATOR, "FindCoordinator", "group", 0, 6, 3),
    _api(ApiKey.JOIN_GROUP, "JoinGroup", "group", 0, 9, 6),
    _api(ApiKey.HEARTBEAT, "Heartbeat", "group", 0, 4, 4),
    _api(ApiKey.LEAVE_GROUP, "LeaveGroup", "group", 0, 5, 4),
    _api(ApiKey.SYNC_GROUP, "SyncGroup", "group", 0, 5, 4),
    _api(ApiKey.DESCRIBE_GROUPS, "DescribeGroups", "group_admin", 0, 6, 5),
    _api(ApiKey.LIST_GROUPS, "ListGroups", "group_admin", 0, 5, 3),
    _api(ApiKey.SASL_HANDSHAKE, "SaslHandshake", "security", 0, 1, None),
    _api(ApiKey.API_VERSIONS, "ApiVersions", "discovery", 0, 4, 3),
    _api(ApiKey.CREATE_TOPICS, "CreateTopics", "admin", 2, 7, 5),
    _api(ApiKey.DELETE_TOPICS, "DeleteTopics", "admin", 1, 6, 4),
    _api(ApiKey.DELETE_RECORDS, "DeleteRecords", "admin", 0, 2, 2),
    _api(ApiKey.INIT_PRODUCER_ID, "InitProducerId", "transaction", 0, 5, 2),
    _api(ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", "fetch", 2, 4, 4),
    _api(ApiKey.ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxn", "transaction", 0, 5, 3),
    _api(ApiKey.ADD_OFFSETS_TO_TXN, "AddOffsetsToTxn", "transaction", 0, 4, 3),
    _api(ApiKey.END_TXN, "EndTxn", "transaction", 0, 5, 3),
    _api(ApiKey.WRITE_TXN_MARKERS, "WriteTxnMarkers", "transaction", 1, 2, 1),
    _api(ApiKey.TXN_OFFSET_COMMIT, "TxnOffsetCommit", "transaction", 0, 5, 3),
    _api(ApiKey.DESCRIBE_ACLS, "DescribeAcls", "security", 1, 3, 2),
    _api(ApiKey.CREATE_ACLS, "CreateAcls", "security", 1, 3, 2),
    _api(ApiKey.DELETE_ACLS, "DeleteAcls", "security", 1, 3, 2),
    _api(ApiKey.DESCRIBE_CONFIGS, "DescribeConfigs", "admin", 1, 4, 4),
    _api(ApiKey.ALTER_CONFIGS, "AlterConfigs", "admin", 0, 2, 2),
    _api(ApiKey.ALTER_REPLICA_LOG_DIRS, "AlterReplicaLogDirs", "admin_cluster", 1, 2, 2),
    _api(ApiKey.DESCRIBE_LOG_DIRS, "DescribeLogDirs", "admin_cluster", 1, 5, 2),
    _api(ApiKey.SASL_AUTHENTICATE, "SaslAuthenticate", "security", 0, 2, 2),
    _api(ApiKey.CREATE_PARTITIONS, "CreatePartitions", "admin", 0, 3, 2),
    _api(ApiKey.CREATE_DELEGATION_TOKEN, "CreateDelegationToken", "security_tokens", 1, 3, 2),
    _api(ApiKey.RENEW_DELEGATION_TOKEN, "RenewDelegationToken", "security_tokens", 1, 2, 2),
    _api(ApiKey.EXPIRE_DELEGATION_TOKEN, "ExpireDelegationToken", "security_tokens", 1, 2, 2),
    _api(ApiKey.DESCRIBE_DELEGATION_TOKEN, "DescribeDelegationToken", "security_tokens", 1, 3, 2),
    _api(ApiKey.DELETE_GROUPS, "DeleteGroups", "group_admin", 0, 2, 2),
    _api(ApiKey.ELECT_LEADERS, "ElectLeaders", "admin_cluster", 0, 2, 2),
    _api(ApiKey.INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", "admin", 0, 1, 1),
    _api(ApiKey.ALTER_PARTITION_REASSIGNMENTS, "AlterPartitionReassignments", "admin_cluster", 0, 1, 0),
    _api(ApiKey.LIST_PARTITION_REASSIGNMENTS, "ListPartitionReassignments", "admin_cluster", 0, 0, 0),
    _api(ApiKey.OFFSET_DELETE, "OffsetDelete", "offset", 0, 0, None),
    _api(ApiKey.DESCRIBE_CLIENT_QUOTAS, "DescribeClientQuotas", "quotas", 0, 1, 1),
    _api(ApiKey.ALTER_CLIENT_QUOTAS, "AlterClientQuotas", "quotas", 0, 1, 1),
    _api(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, "DescribeUserScramCredentials", "security", 0, 0, 0),
    _api(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, "AlterUserScramCredentials", "security", 0, 0, 0),
    _api(ApiKey.DESCRIBE_QUORUM, "DescribeQuorum", "controller", 0, 2, 0),
    _api(ApiKey.UPDATE_FEATURES, "UpdateFeatures", "controller", 0, 2, 0),
    _api(ApiKey.DESCRIBE_CLUSTER, "DescribeCluster", "discovery", 0, 2, 0),
    _api(ApiKey.DESCRIBE_PRODUCERS, "DescribeProducers", "transaction_admin", 0, 0, 0),
    _api(ApiKey.UNREGISTER_BROKER, "UnregisterBroker", "controller", 0, 0, 0),
    _api(ApiKey.DESCRIBE_TRANSACTIONS, "DescribeTransactions", "transaction_admin", 0, 0, 0),
    _api(ApiKey.LIST_TRANSACTIONS, "ListTransactions", "transaction_admin", 0, 2, 0),
    _api(ApiKey.CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", "consumer_group", 0, 1, 0),
    _api(ApiKey.CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", "consumer_group", 0, 1, 0),
    _api(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, "GetTelemetrySubscriptions", "telemetry", 0, 0, 0),
    _api(ApiKey.PUSH_TELEMETRY, "PushTelemetry", "telemetry", 0, 0, 0),
    _api(ApiKey.LIST_CONFIG_RESOURCES, "ListConfigResources", "admin_cluster", 0, 1, 0),
    _api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", "discovery", 0, 0, 0),
    _api(ApiKey.SHARE_GROUP_HEARTBEAT, "ShareGroupHeartbeat", "share", 1, 1, 0),
    _api(ApiKey.SHARE_GROUP_DESCRIBE, "ShareGroupDescribe", "share", 1, 1, 0),
    _api(ApiKey.SHARE_FETCH, "ShareFetch", "share", 1, 2, 0),
    _api(ApiKey.SHARE_ACKNOWLEDGE, "ShareAcknowledge", "share", 1, 2, 0),
    _api(ApiKey.ADD_RAFT_VOTER, "AddRaftVoter", "controller", 0, 1, 0),
    _api(ApiKey.REMOVE_RAFT_VOTER, "RemoveRaftVoter", "controller", 0, 0, 0),
    _api(ApiKey.INITIALIZE_SHARE_GROUP_STATE, "InitializeShareGroupState", "share_state", 0, 0, 0),
    _api(ApiKey.READ_SHARE_GROUP_STATE, "ReadShareGroupState", "share_state", 0, 0, 0),
    _api(ApiKey.WRITE_SHARE_GROUP_STATE, "WriteShareGroupState", "share_state", 0, 1, 0),
    _api(ApiKey.DELETE_SHARE_GROUP_STATE, "DeleteShareGroupState", "share_state", 0, 0, 0),
    _api(ApiKey.READ_SHARE_GROUP_STATE_SUMMARY, "ReadShareGroupStateSummary", "share_state", 0, 1, 0),
    _api(ApiKey.STREAMS_GROUP_HEARTBEAT, "StreamsGroupHeartbeat", "streams", 0, 0, 0),
    _api(ApiKey.STREAMS_GROUP_DESCRIBE, "StreamsGroupDescribe", "streams", 0, 0, 0),
    _api(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, "DescribeShareGroupOffsets", "share_offsets", 0, 1, 0),
    _api(ApiKey.ALTER_SHARE_GROUP_OFFSETS, "AlterShareGroupOffsets", "share_offsets", 0, 0, 0),
    _api(ApiKey.DELETE_SHARE_GROUP_OFFSETS, "DeleteShareGroupOffsets", "share_offsets", 0, 0, 0),
)

APIS: Final[Mapping[int, Api]] = MappingProxyType({row.key.value: row for row in _ROWS})
"""By key, in the order of the keys."""


def start_response(api: Api, version: int, correlation_id: int) -> bytearray:
    """The front of a frame: room for its size, and the header. The body is appended, then `finish_frame` called."""
    out = bytearray(_pack_front(0, correlation_id))
    if api.response_header_version(version):
        out.append(0)
    return out


def finish_frame(frame: bytearray) -> bytes:
    """Put the size in front."""
    _pack_size_into(frame, 0, len(frame) - _SIZE_BYTES)
    return bytes(frame)


def encode_response(api: Api, version: int, correlation_id: int, response: Message) -> bytes:
    """A whole frame: size, header, body."""
    out = start_response(api, version, correlation_id)
    encode_into(out, response, version)
    return finish_frame(out)


def encode_response_in_parts(
    api: Api, version: int, correlation_id: int, response: Message
) -> Generator[None, None, bytes]:
    """The same, of a response that is nobody else's and empty afterwards: some hundred parts of it at a time."""
    out = start_response(api, version, correlation_id)
    yield from encode_in_parts(out, response, version)
    return finish_frame(out)


def encode_request(api: Api, version: int, correlation_id: int, client_id: str | None, request: Message) -> bytes:
    """A whole frame: size, header, body. For whoever is a client: tests, tools, brokers among themselves."""
    out = bytearray(_SIZE_BYTES)
    header = RequestHeader(
        request_api_key=api.key, request_api_version=version, correlation_id=correlation_id, client_id=client_id
    )
    encode_into(out, header, api.request_header_version(version))
    encode_into(out, request, version)
    return finish_frame(out)
