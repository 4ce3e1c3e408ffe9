"""Requests of the admin protocol against a broker that answers by a script of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from automq.protocol.codec import decode, decode_whole, encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    AlterConfigsResourceResponse,
    DescribeConfigsRequest,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.controller import UnregisterBrokerRequest, UnregisterBrokerResponse
from automq.protocol.messages.discovery import (
    ApiVersion,
    ApiVersionsResponse,
    DescribeClusterBroker,
    DescribeClusterResponse,
)
from automq.protocol.messages.header import RequestHeader, ResponseHeader
from automq.protocol.schema import Message
from automq_operator.kafka_admin import AdminFailed, KafkaAdmin
from automq_operator.observed import BrokerConfig

KNOWN = {18: (0, 3), 32: (1, 4), 44: (0, 1), 60: (0, 2), 64: (0, 0)}


class Broker:
    """Answers ApiVersions, and each other request with what a test gives for its API key."""

    def __init__(self) -> None:
        self.answers: dict[int, Callable[[bytes, int], Message] | bytes] = {}
        self.known = dict(KNOWN)
        self.asked: list[tuple[int, int]] = []
        self.address = ("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                key, version = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:4], "big")
                answer = self._answer(frame, key, version)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(4, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, frame: bytes, key: int, version: int) -> bytes | None:
        self.asked.append((key, version))
        if key == 18:
            keys = [ApiVersion(api_key=k, min_version=low, max_version=high) for k, (low, high) in self.known.items()]
            return encode(ResponseHeader(correlation_id=1), 0) + encode(ApiVersionsResponse(api_keys=keys), version)
        scripted = self.answers.get(key)
        if scripted is None or isinstance(scripted, bytes):
            return scripted
        flexible = {32: 4, 44: 1, 60: 0, 64: 0}[key] <= version
        header, offset = decode(RequestHeader, 2 if flexible else 1, frame)
        assert header.request_api_key == key
        made = scripted(bytes(frame[offset:]), version)
        return encode(ResponseHeader(correlation_id=1), 1 if flexible else 0) + encode(made, version)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    made = Broker()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = server.sockets[0].getsockname()[:2]
    yield made
    server.close()


async def test_draining_is_a_dynamic_config_of_the_broker(broker: Broker) -> None:
    seen: list[tuple[int, str, str, int, str | None]] = []

    def altered(body: bytes, version: int) -> Message:
        request = decode_whole(IncrementalAlterConfigsRequest, version, body, 0)
        for resource in request.resources:
            for config in resource.configs:
                seen.append(
                    (
                        resource.resource_type,
                        resource.resource_name,
                        config.name,
                        config.config_operation,
                        config.value,
                    )
                )
        return IncrementalAlterConfigsResponse(
            responses=[AlterConfigsResourceResponse(error_code=0, resource_type=4, resource_name="3")]
        )

    broker.answers[44] = altered
    admin = KafkaAdmin()
    await admin.set_draining([broker.address], 3, on=True)
    await admin.set_draining([broker.address], 3, on=False)
    assert seen == [(4, "3", "automq.broker.draining", 0, "true"), (4, "3", "automq.broker.draining", 1, None)]


async def test_a_refusal_has_kafkas_word_and_the_brokers_sentence(broker: Broker) -> None:
    broker.answers[44] = lambda _body, _version: IncrementalAlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=ErrorCode.NOT_CONTROLLER, error_message="somebody else", resource_type=4, resource_name="3"
            )
        ]
    )
    with pytest.raises(AdminFailed) as failed:
        await KafkaAdmin().set_draining([broker.address], 3, on=True)
    assert failed.value.message == "NOT_CONTROLLER: somebody else"
    assert failed.value.passing


async def test_brokers_are_listed_with_those_that_are_fenced(broker: Broker) -> None:
    broker.answers[60] = lambda _body, version: DescribeClusterResponse(
        cluster_id="x",
        brokers=[
            DescribeClusterBroker(broker_id=0, host="a", port=1),
            DescribeClusterBroker(broker_id=1, host="b", port=1, is_fenced=version >= 2),
        ],
    )
    assert await KafkaAdmin().brokers([broker.address]) == {0: False, 1: True}
    assert (60, 2) in broker.asked, "the newest version that both know"


@pytest.mark.parametrize(
    ("code", "fails"), [(0, False), (ErrorCode.BROKER_ID_NOT_REGISTERED, False), (ErrorCode.UNKNOWN_SERVER_ERROR, True)]
)
async def test_a_broker_that_is_not_known_is_forgotten(broker: Broker, code: int, fails: bool) -> None:
    broker.answers[64] = lambda _body, _version: UnregisterBrokerResponse(error_code=code)
    if not fails:
        await KafkaAdmin().unregister([broker.address], 7)
        return
    with pytest.raises(AdminFailed):
        await KafkaAdmin().unregister([broker.address], 7)


async def test_the_next_broker_is_asked_where_one_does_not_answer(broker: Broker) -> None:
    broker.answers[64] = lambda _body, _version: UnregisterBrokerResponse(error_code=0)
    await KafkaAdmin().unregister([("127.0.0.1", 1), broker.address], 7)


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x01", b"\x00\x00\x00\x01" + b"\xff" * 30])
async def test_what_is_no_answer_is_a_failure_and_nothing_else(broker: Broker, garbage: bytes) -> None:
    broker.answers[60] = garbage
    with pytest.raises(AdminFailed) as failed:
        await KafkaAdmin().brokers([broker.address])
    assert failed.value.passing


async def test_a_connection_that_ends_is_a_failure(broker: Broker) -> None:
    with pytest.raises(AdminFailed):
        await KafkaAdmin().brokers([broker.address])


async def test_nobody_to_ask_is_a_failure() -> None:
    with pytest.raises(AdminFailed, match="no broker serves"):
        await KafkaAdmin().brokers([])


async def test_a_request_that_brokers_are_too_old_for_is_said(broker: Broker) -> None:
    del broker.known[60]
    with pytest.raises(AdminFailed, match="knows no DescribeClusterRequest"):
        await KafkaAdmin().brokers([broker.address])


async def test_one_value_that_is_refused_keeps_no_other_from_being_set(broker: Broker) -> None:
    kept: dict[str, str | None] = {}

    def altered(body: bytes, version: int) -> Message:
        (resource,) = decode_whole(IncrementalAlterConfigsRequest, version, body, 0).resources
        assert (resource.resource_type, resource.resource_name) == (4, "")
        answer = AlterConfigsResourceResponse(resource_type=4, resource_name="")
        bad = [config.name for config in resource.configs if config.value == "-5"]
        if bad:
            answer.error_code, answer.error_message = ErrorCode.INVALID_REQUEST, f"Invalid value -5 for {bad[0]}"
        else:
            kept.update({config.name: config.value for config in resource.configs})
        return IncrementalAlterConfigsResponse(responses=[answer])

    broker.answers[44] = altered
    wanted = {"log.retention.ms": "-5", "log.retention.bytes": "9"}
    with pytest.raises(AdminFailed) as failed:
        await KafkaAdmin().set_configs([broker.address], None, set=wanted, unset=["log.roll.ms"])
    assert failed.value.message == "INVALID_REQUEST: Invalid value -5 for log.retention.ms"
    assert kept == {"log.retention.bytes": "9", "log.roll.ms": None}


async def test_where_a_setting_is_set_is_the_brokers_own_word(broker: Broker) -> None:
    def described(body: bytes, version: int) -> Message:
        request = decode_whole(DescribeConfigsRequest, version, body, 0)
        (resource,) = request.resources
        assert (resource.resource_type, resource.resource_name, request.include_synonyms) == (4, "1", True)
        assert resource.configuration_keys == ["log.retention.ms"]
        values = {2: "20", 3: "30", 4: "40"}
        synonyms = [DescribeConfigsSynonym(name="log.retention.ms", value=v, source=s) for s, v in values.items()]
        synonyms.append(DescribeConfigsSynonym(name="log.retention.hours", value="168", source=4))
        config = DescribeConfigsResourceResult(name="log.retention.ms", value="20", synonyms=synonyms)
        return DescribeConfigsResponse(
            results=[DescribeConfigsResult(resource_type=4, resource_name="1", configs=[config])]
        )

    broker.answers[32] = described
    found = await KafkaAdmin().configs(broker.address, 1, ["log.retention.ms"])
    assert found == {"log.retention.ms": BrokerConfig(own="20", shared="30", started_with="40")}


async def test_an_incarnation_is_ended_by_its_epoch(broker: Broker) -> None:
    asked: list[tuple[int, int]] = []
    codes = [ErrorCode.NONE, ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED]

    def ended(body: bytes, version: int) -> Message:
        request = decode_whole(UnregisterBrokerRequest, version, body, 0)
        asked.append((request.broker_id, request.broker_epoch))
        return UnregisterBrokerResponse(error_code=codes[len(asked) - 1])

    broker.answers[64] = ended
    for _ in range(3):
        await KafkaAdmin().end([broker.address], 3, 17, timeout_s=5.0)
    assert asked == [(3, 17)] * 3
    codes.append(ErrorCode.INVALID_REQUEST)
    with pytest.raises(AdminFailed):
        await KafkaAdmin().end([broker.address], 3, 17, timeout_s=5.0)
