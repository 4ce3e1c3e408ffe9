"""Where our answers are other than Apache Kafka's, by question and path in its answers, with the reason."""

from collections.abc import Mapping
from typing import Final

NOT_SERVED = "transactions, share groups, KIP-848 and security are not served yet"
FEATURE_LEVELS = (
    "features are named at the levels that are there; of metadata.version, kraft.version and "
    "transaction.version nothing is"
)
SENTENCE = "Kafka says nothing, or less, where there is a sentence"
OTHER_WORDS = "the sentence says what is different here"
DUPLICATE = "Kafka gives the batch's own timestamp for a duplicate, of a topic with the producer's times"
SEEN = "the greatest timestamp is that of the records readers see; Kafka answers a deleted one"
CUT = "Kafka cuts the batch off that passes the limit; only whole batches are given"
KAFKA_FAILS = "Kafka fails on it: UNKNOWN_SERVER_ERROR"
ORDER = "answers are in the order of the request; Kafka puts the unknown, or the wrong, first"
REPLACED = "a replaced static member is shown with the client that there is now; Kafka shows the first one for ever"
NO_EFFECT = "a value that would have no effect is refused, and so not shown; Kafka takes it"
AT_START = "the setting is read when a broker starts; Kafka alters it while it runs"
LARGEST = "a batch has a largest size here"
CANONICAL = "a created topic is shown with the values that DescribeConfigs shows; Kafka repeats what was typed"
NO_NUMBER = "NaN and Java's own ways to write a number are no numbers here"
EPOCHS = "Kafka raises the epoch twice for a restart: when the leader goes and when it comes"
REMEMBERED = "a producer's last five batches are known after a restart; Kafka knows the last one"
OWN_CLOCK = "idle producers are forgotten by the broker's clock; Kafka believes the records' timestamps"
ONE_EACH = "every way to name a topic has an answer of its own; Kafka gives one"

_PATHS: Final[Mapping[str, Mapping[str, str]]] = {
    "client-name": {
        NOT_SERVED: """
            0.api_keys.SASL_HANDSHAKE 0.api_keys.ADD_PARTITIONS_TO_TXN 0.api_keys.ADD_OFFSETS_TO_TXN
            0.api_keys.END_TXN 0.api_keys.WRITE_TXN_MARKERS 0.api_keys.TXN_OFFSET_COMMIT
            0.api_keys.SASL_AUTHENTICATE
            0.api_keys.CREATE_DELEGATION_TOKEN 0.api_keys.RENEW_DELEGATION_TOKEN
            0.api_keys.EXPIRE_DELEGATION_TOKEN 0.api_keys.DESCRIBE_DELEGATION_TOKEN
            0.api_keys.ALTER_CLIENT_QUOTAS 0.api_keys.ALTER_USER_SCRAM_CREDENTIALS
            0.api_keys.CONSUMER_GROUP_HEARTBEAT
            0.api_keys.CONSUMER_GROUP_DESCRIBE 0.api_keys.SHARE_GROUP_HEARTBEAT
            0.api_keys.SHARE_GROUP_DESCRIBE 0.api_keys.SHARE_FETCH 0.api_keys.SHARE_ACKNOWLEDGE
            0.api_keys.ADD_RAFT_VOTER 0.api_keys.REMOVE_RAFT_VOTER 0.api_keys.INITIALIZE_SHARE_GROUP_STATE
            0.api_keys.READ_SHARE_GROUP_STATE 0.api_keys.WRITE_SHARE_GROUP_STATE
            0.api_keys.DELETE_SHARE_GROUP_STATE 0.api_keys.READ_SHARE_GROUP_STATE_SUMMARY
            0.api_keys.STREAMS_GROUP_HEARTBEAT 0.api_keys.STREAMS_GROUP_DESCRIBE
            0.api_keys.DESCRIBE_SHARE_GROUP_OFFSETS 0.api_keys.ALTER_SHARE_GROUP_OFFSETS
            0.api_keys.DELETE_SHARE_GROUP_OFFSETS
        """,
        FEATURE_LEVELS: "0.supported_features 0.finalized_features",
    },
    "grow-topic": {
        SENTENCE: "4.results.0.error_message",
    },
    "produce-checks": {
        SENTENCE: """
            5.responses.0.partition_responses.0.error_message
            6.responses.0.partition_responses.0.error_message
            7.responses.0.partition_responses.0.error_message
        """,
    },
    "produce-too-large": {
        SENTENCE: "1.responses.0.partition_responses.0.error_message",
    },
    "idempotent-producer": {
        DUPLICATE: """
            4.responses.0.partition_responses.0.log_append_time
            5.responses.0.partition_responses.0.log_append_time
        """,
        SENTENCE: """
            6.responses.0.partition_responses.0.error_message
            9.responses.0.partition_responses.0.error_message
            10.responses.0.partition_responses.0.error_message
        """,
    },
    "configs": {
        SENTENCE: "9.results.0.error_message",
    },
    "list-offsets-of-a-trimmed-log": {
        SEEN: "77.topics.0.partitions.0.timestamp 77.topics.0.partitions.0.offset",
    },
    "fetch-limits": {
        CUT: "7.responses.0.partitions.0.records",
        KAFKA_FAILS: """
            8.responses.0.partitions.0.error_code 8.responses.0.partitions.0.high_watermark
            8.responses.0.partitions.0.last_stable_offset 8.responses.0.partitions.0.log_start_offset
            8.responses.0.partitions.0.records
        """,
    },
    "offset-fetch-versions": {
        ORDER: """
            2.topics.0.partitions.0.partition_index 2.topics.0.partitions.0.error_code
            2.topics.0.partitions.1.partition_index 2.topics.0.partitions.1.error_code
            3.topics.0.partitions.0.partition_index 3.topics.0.partitions.0.error_code
            3.topics.0.partitions.1.partition_index 3.topics.0.partitions.1.error_code
            4.topics.0.partitions.0.partition_index 4.topics.0.partitions.0.error_code
            4.topics.0.partitions.1.partition_index 4.topics.0.partitions.1.error_code
            5.topics.0.partitions.0.partition_index 5.topics.0.partitions.0.error_code
            5.topics.0.partitions.1.partition_index 5.topics.0.partitions.1.error_code
        """,
    },
    "static-members-5": {
        REPLACED: """
            18.groups.0.members.1.client_id 24.groups.0.members.1.client_id 28.groups.0.members.0.client_id
            28.groups.0.members.1.client_id
        """,
    },
    "static-members-7": {
        REPLACED: """
            18.groups.0.members.1.client_id 24.groups.0.members.1.client_id 28.groups.0.members.0.client_id
            28.groups.0.members.1.client_id
        """,
    },
    "static-members-8": {
        REPLACED: """
            18.groups.0.members.1.client_id 24.groups.0.members.1.client_id 28.groups.0.members.0.client_id
            28.groups.0.members.1.client_id
        """,
    },
    "static-members-9": {
        REPLACED: """
            18.groups.0.members.1.client_id 24.groups.0.members.1.client_id 28.groups.0.members.0.client_id
            28.groups.0.members.1.client_id
        """,
    },
    "group-limits": {
        OTHER_WORDS: "27.coordinators.0.error_message 28.error_message",
    },
    "values-of-00": {
        OTHER_WORDS: "9.responses.0.error_message 11.responses.0.error_message",
        CANONICAL: "17.topics.0.configs.0.value",
    },
    "values-of-02": {
        LARGEST: """
            5.responses.0.error_code 5.responses.0.error_message 6.results.0.configs.0.value
            8.results.0.configs.0.value 10.results.0.configs.0.value 12.results.0.configs.0.value
        """,
    },
    "values-of-03": {
        CANONICAL: "13.topics.0.configs.22.value",
    },
    "values-of-05": {
        NO_NUMBER: """
            9.responses.0.error_code 9.responses.0.error_message 10.results.0.configs.0.value
            12.results.0.configs.0.value 19.responses.0.error_code 19.responses.0.error_message
        """,
        CANONICAL: "25.topics.0.configs.19.value",
    },
    "values-of-17": {
        OTHER_WORDS: """
            7.responses.0.error_message 9.responses.0.error_message 13.responses.0.error_message
            15.responses.0.error_message
        """,
    },
    "values-of-18": {
        OTHER_WORDS: "3.responses.0.error_message",
    },
    "values-of-19": {
        OTHER_WORDS: "1.responses.0.error_message 5.topics.0.error_message",
    },
    "topic-configs": {
        KAFKA_FAILS: """
            13.responses.0.error_code 13.responses.0.error_message 14.responses.0.error_code
            14.responses.0.error_message
        """,
    },
    "group-configs": {
        NO_EFFECT: """
            4.responses.0.error_code 4.responses.0.error_message 5.results.0.configs.0.value
            5.results.0.configs.0.config_source 5.results.0.configs.0.synonyms 6.responses.0.error_message
            8.responses.0.error_message 9.responses.0.error_code 9.responses.0.error_message
            10.responses.0.error_message 11.responses.0.error_code 11.responses.0.error_message
            12.responses.0.error_code 12.responses.0.error_message 13.responses.0.error_code
            13.responses.0.error_message 14.responses.0.error_message 15.responses.0.error_code
            15.responses.0.error_message 17.responses.0.error_code 17.responses.0.error_message
            23.config_resources 24.results.0.configs.1.value 24.results.0.configs.1.config_source
            24.results.0.configs.2.value 24.results.0.configs.2.config_source 24.results.0.configs.4.value
            24.results.0.configs.4.config_source 24.results.0.configs.7.value
            24.results.0.configs.7.config_source 24.results.0.configs.15.value
            24.results.0.configs.15.config_source 27.responses.0.error_code 27.responses.0.error_message
            28.results.0.configs.0.value 28.results.0.configs.0.config_source
        """,
    },
    "client-metrics-configs": {
        NO_EFFECT: """
            2.responses.0.error_code 2.responses.0.error_message 3.responses.0.error_code
            3.responses.0.error_message 4.responses.0.error_code 4.responses.0.error_message
            6.responses.0.error_code 6.responses.0.error_message 7.responses.0.error_message
            8.responses.0.error_code 8.responses.0.error_message 9.responses.0.error_code
            9.responses.0.error_message 10.responses.0.error_message 11.responses.0.error_message
            12.responses.0.error_message 15.results.0.configs.0.value 15.results.0.configs.0.config_source
            15.results.0.configs.1.value 15.results.0.configs.1.config_source 15.results.0.configs.2.value
            15.results.0.configs.2.config_source 16.results.0.configs.0.value
            16.results.0.configs.0.config_source 16.results.0.configs.0.synonyms
            16.results.0.configs.1.value 16.results.0.configs.1.config_source
            16.results.0.configs.1.synonyms 16.results.0.configs.2.value
            16.results.0.configs.2.config_source 16.results.0.configs.2.synonyms
            17.results.0.configs.0.value 17.results.0.configs.0.config_source 18.config_resources
            19.config_resources 20.responses.0.error_code 20.responses.0.error_message
            21.results.0.configs.0.value 21.results.0.configs.0.config_source
        """,
    },
    "broker-configs": {
        NO_EFFECT: """
            25.responses.0.error_code 25.responses.0.error_message 26.responses.0.error_code
            26.responses.0.error_message 30.responses.0.error_code
            30.responses.0.error_message
        """,
        AT_START: """
            31.responses.0.error_code 31.responses.0.error_message 32.responses.0.error_code
            32.responses.0.error_message
        """,
    },
    "config-resources": {
        OTHER_WORDS: """
            1.results.0.error_message 2.results.0.error_message 3.results.0.error_message
            4.results.0.error_message
        """,
    },
    "topic-numbers": {
        ORDER: """
            8.topics.0.name 8.topics.0.error_code 8.topics.0.error_message 8.topics.1.name
            8.topics.1.error_code 8.topics.1.error_message
        """,
    },
    "topic-assignments": {
        ORDER: "9.topics.0.error_message",
        KAFKA_FAILS: "21.results.0.error_code 21.results.0.error_message",
        SENTENCE: "26.results.0.error_message 27.results.0.error_message",
    },
    "time-outs": {
        SENTENCE: "13.results.0.error_message 14.topics.0.error_message 15.topics.0.error_message",
    },
    "delete-topics": {
        ONE_EACH: "10.responses",
        KAFKA_FAILS: "14.brokers 14.cluster_id 14.controller_id 14.topics.0.error_code",
    },
    "described-partitions": {
        KAFKA_FAILS: "2.topics",
    },
    "trimmed-epochs": {
        SEEN: """
            22.topics.0.partitions.0.offset 27.topics.0.partitions.0.timestamp
            27.topics.0.partitions.0.offset 27.topics.0.partitions.0.leader_epoch
        """,
    },
    "empty-truths": {
        SENTENCE: "12.responses.0.partitions.0.error_message 30.topics.0.partitions.1.error_message",
    },
    "features": {
        FEATURE_LEVELS: """
            1.error_message 3.error_message 5.error_message 7.error_message 9.error_message 11.error_message
            14.error_message 16.supported_features 16.finalized_features 17.supported_features
            17.finalized_features
        """,
        NOT_SERVED: """
            15.api_keys.SASL_HANDSHAKE 15.api_keys.ADD_PARTITIONS_TO_TXN 15.api_keys.ADD_OFFSETS_TO_TXN
            15.api_keys.END_TXN 15.api_keys.WRITE_TXN_MARKERS 15.api_keys.TXN_OFFSET_COMMIT
            15.api_keys.SASL_AUTHENTICATE
            15.api_keys.CREATE_DELEGATION_TOKEN 15.api_keys.RENEW_DELEGATION_TOKEN
            15.api_keys.EXPIRE_DELEGATION_TOKEN 15.api_keys.DESCRIBE_DELEGATION_TOKEN
            15.api_keys.ALTER_CLIENT_QUOTAS 15.api_keys.ALTER_USER_SCRAM_CREDENTIALS
            15.api_keys.CONSUMER_GROUP_HEARTBEAT
            15.api_keys.CONSUMER_GROUP_DESCRIBE 15.api_keys.SHARE_GROUP_HEARTBEAT
            15.api_keys.SHARE_GROUP_DESCRIBE 15.api_keys.SHARE_FETCH 15.api_keys.SHARE_ACKNOWLEDGE
            15.api_keys.ADD_RAFT_VOTER 15.api_keys.REMOVE_RAFT_VOTER
            15.api_keys.INITIALIZE_SHARE_GROUP_STATE 15.api_keys.READ_SHARE_GROUP_STATE
            15.api_keys.WRITE_SHARE_GROUP_STATE 15.api_keys.DELETE_SHARE_GROUP_STATE
            15.api_keys.READ_SHARE_GROUP_STATE_SUMMARY 15.api_keys.STREAMS_GROUP_HEARTBEAT
            15.api_keys.STREAMS_GROUP_DESCRIBE 15.api_keys.DESCRIBE_SHARE_GROUP_OFFSETS
            15.api_keys.ALTER_SHARE_GROUP_OFFSETS 15.api_keys.DELETE_SHARE_GROUP_OFFSETS
            16.api_keys.SASL_HANDSHAKE 16.api_keys.ADD_PARTITIONS_TO_TXN 16.api_keys.ADD_OFFSETS_TO_TXN
            16.api_keys.END_TXN 16.api_keys.WRITE_TXN_MARKERS 16.api_keys.TXN_OFFSET_COMMIT
            16.api_keys.SASL_AUTHENTICATE
            16.api_keys.CREATE_DELEGATION_TOKEN 16.api_keys.RENEW_DELEGATION_TOKEN
            16.api_keys.EXPIRE_DELEGATION_TOKEN 16.api_keys.DESCRIBE_DELEGATION_TOKEN
            16.api_keys.ALTER_CLIENT_QUOTAS 16.api_keys.ALTER_USER_SCRAM_CREDENTIALS
            16.api_keys.CONSUMER_GROUP_HEARTBEAT
            16.api_keys.CONSUMER_GROUP_DESCRIBE 16.api_keys.SHARE_GROUP_HEARTBEAT
            16.api_keys.SHARE_GROUP_DESCRIBE 16.api_keys.SHARE_FETCH 16.api_keys.SHARE_ACKNOWLEDGE
            16.api_keys.ADD_RAFT_VOTER 16.api_keys.REMOVE_RAFT_VOTER
            16.api_keys.INITIALIZE_SHARE_GROUP_STATE 16.api_keys.READ_SHARE_GROUP_STATE
            16.api_keys.WRITE_SHARE_GROUP_STATE 16.api_keys.DELETE_SHARE_GROUP_STATE
            16.api_keys.READ_SHARE_GROUP_STATE_SUMMARY 16.api_keys.STREAMS_GROUP_HEARTBEAT
            16.api_keys.STREAMS_GROUP_DESCRIBE 16.api_keys.DESCRIBE_SHARE_GROUP_OFFSETS
            16.api_keys.ALTER_SHARE_GROUP_OFFSETS 16.api_keys.DELETE_SHARE_GROUP_OFFSETS
            17.api_keys.SASL_HANDSHAKE 17.api_keys.ADD_PARTITIONS_TO_TXN 17.api_keys.ADD_OFFSETS_TO_TXN
            17.api_keys.END_TXN 17.api_keys.WRITE_TXN_MARKERS 17.api_keys.TXN_OFFSET_COMMIT
            17.api_keys.SASL_AUTHENTICATE
            17.api_keys.CREATE_DELEGATION_TOKEN 17.api_keys.RENEW_DELEGATION_TOKEN
            17.api_keys.EXPIRE_DELEGATION_TOKEN 17.api_keys.DESCRIBE_DELEGATION_TOKEN
            17.api_keys.ALTER_CLIENT_QUOTAS 17.api_keys.ALTER_USER_SCRAM_CREDENTIALS
            17.api_keys.CONSUMER_GROUP_HEARTBEAT
            17.api_keys.CONSUMER_GROUP_DESCRIBE 17.api_keys.SHARE_GROUP_HEARTBEAT
            17.api_keys.SHARE_GROUP_DESCRIBE 17.api_keys.SHARE_FETCH 17.api_keys.SHARE_ACKNOWLEDGE
            17.api_keys.ADD_RAFT_VOTER 17.api_keys.REMOVE_RAFT_VOTER
            17.api_keys.INITIALIZE_SHARE_GROUP_STATE 17.api_keys.READ_SHARE_GROUP_STATE
            17.api_keys.WRITE_SHARE_GROUP_STATE 17.api_keys.DELETE_SHARE_GROUP_STATE
            17.api_keys.READ_SHARE_GROUP_STATE_SUMMARY 17.api_keys.STREAMS_GROUP_HEARTBEAT
            17.api_keys.STREAMS_GROUP_DESCRIBE 17.api_keys.DESCRIBE_SHARE_GROUP_OFFSETS
            17.api_keys.ALTER_SHARE_GROUP_OFFSETS 17.api_keys.DELETE_SHARE_GROUP_OFFSETS
        """,
    },
    "log-after-a-stop": {
        EPOCHS: """
            9.topics.0.partitions.0.leader_epoch 11.topics.0.partitions.0.leader_epoch
            21.topics.0.partitions.0.leader_epoch
        """,
    },
    "producers-after-a-stop": {
        EPOCHS: """
            6.topics.0.partitions.0.leader_epoch 13.topics.0.partitions.0.leader_epoch
            17.topics.0.partitions.0.leader_epoch 20.topics.0.partitions.0.leader_epoch
        """,
        DUPLICATE: """
            7.responses.0.partition_responses.0.log_append_time
            15.responses.0.partition_responses.0.log_append_time
            18.responses.0.partition_responses.0.log_append_time
        """,
        REMEMBERED: "8.responses.0.partition_responses.0.error_code 8.responses.0.partition_responses.0.base_offset",
        SENTENCE: """
            9.responses.0.partition_responses.0.error_message
            12.responses.0.partition_responses.0.error_message
        """,
        OWN_CLOCK: "14.topics.0.partitions.0.active_producers.0.last_timestamp",
    },
    "log-after-a-kill": {
        EPOCHS: """
            9.topics.0.partitions.0.leader_epoch 11.topics.0.partitions.0.leader_epoch
            21.topics.0.partitions.0.leader_epoch
        """,
    },
    "producers-after-a-kill": {
        EPOCHS: """
            6.topics.0.partitions.0.leader_epoch 13.topics.0.partitions.0.leader_epoch
            17.topics.0.partitions.0.leader_epoch 20.topics.0.partitions.0.leader_epoch
        """,
        DUPLICATE: """
            7.responses.0.partition_responses.0.log_append_time
            15.responses.0.partition_responses.0.log_append_time
            18.responses.0.partition_responses.0.log_append_time
        """,
        REMEMBERED: "8.responses.0.partition_responses.0.error_code 8.responses.0.partition_responses.0.base_offset",
        SENTENCE: """
            9.responses.0.partition_responses.0.error_message
            12.responses.0.partition_responses.0.error_message
        """,
        OWN_CLOCK: "14.topics.0.partitions.0.active_producers.0.last_timestamp",
    },
}
"""The paths are separated by blanks."""

DIFFERENCES: Final[Mapping[tuple[str, str], str]] = {
    (question, path): reason
    for question, reasons in _PATHS.items()
    for reason, paths in reasons.items()
    for path in paths.split()
}
"""(question, path in its answers): why we answer otherwise. Everything else must be equal."""
