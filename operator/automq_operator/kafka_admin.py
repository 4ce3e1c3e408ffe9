"""Adapter: the few requests of Kafka's admin protocol that the operator makes. Any broker that serves answers them.

A connection lasts one request: there is one in minutes, and brokers come and go. Whatever goes wrong is an
`AdminFailed`: no answer, a refusal, a broker that is too old to know what it is asked.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from automq.protocol.codec import MalformedMessage, decode, decode_whole, encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
    IncrementalAlterableConfig,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
)
from automq.protocol.messages.controller import UnregisterBrokerRequest, UnregisterBrokerResponse
from automq.protocol.messages.discovery import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from automq.protocol.messages.header import RequestHeader, ResponseHeader
from automq.protocol.schema import Message
from automq_operator.observed import BrokerConfig

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S: Final = 5.0
"""For one broker, the connection included; then another one is asked."""
PARALLEL_MAX: Final = 16
"""Requests in flight: an operator that starts over many topics is no storm."""
RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
CLIENT_ID: Final = "automq-operator"
BROKER_RESOURCE: Final = 4
SET, DELETE = 0, 1
OF_THE_BROKER, OF_ALL_BROKERS, OF_ITS_FILE = 2, 3, 4
"""Sources of a broker's settings."""
DRAINING_CONFIG: Final = "automq.broker.draining"
TRANSIENT: Final = frozenset({
    ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.BROKER_NOT_AVAILABLE, ErrorCode.NETWORK_EXCEPTION,
})  # fmt: skip

R = TypeVar("R", bound=Message)


class AdminFailed(Exception):
    """What became of a request that was not carried out. `status` is Kafka's error code, 0 when there was no answer."""

    def __init__(self, *, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.retry_after_s: float | None = None

    @property
    def passing(self) -> bool:
        """The same request may well succeed a little later."""
        return self.status == 0 or self.status in TRANSIENT


class NotServed(AdminFailed):
    """No broker that was asked knows this request."""


class KafkaAdmin:
    """Requests by the addresses of brokers (HOST, PORT), of which the first that answers is enough."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(PARALLEL_MAX)

    async def set_draining(self, through: Sequence[tuple[str, int]], broker: int, *, on: bool) -> None:
        """Have a broker emptied, or end that. Raises AdminFailed."""
        config = IncrementalAlterableConfig(
            name=DRAINING_CONFIG, config_operation=SET if on else DELETE, value="true" if on else None
        )
        await self._alter(through, broker, [config])

    async def set_configs(
        self, through: Sequence[tuple[str, int]], broker: int | None, *, set: Mapping[str, str], unset: Sequence[str]
    ) -> None:
        """Set and unset what all brokers, or one, take while they run.

        What one value is refused for keeps no other from being set. Raises AdminFailed with the words for each.
        """
        changes = [IncrementalAlterableConfig(name=key, config_operation=SET, value=text) for key, text in set.items()]
        changes += [IncrementalAlterableConfig(name=key, config_operation=DELETE, value=None) for key in unset]
        try:
            await self._alter(through, broker, changes)
        except AdminFailed as refused:
            if len(changes) == 1 or refused.passing:
                raise
        else:
            return
        failed: dict[str, AdminFailed] = {}
        for change in changes:
            try:
                await self._alter(through, broker, [change])
            except AdminFailed as refused:
                failed[change.name] = refused
                if refused.passing:
                    break
        if failed:
            last = list(failed.values())[-1]
            raise AdminFailed(status=last.status, message="; ".join(item.message for item in failed.values()))

    async def _alter(
        self, through: Sequence[tuple[str, int]], broker: int | None, changes: list[IncrementalAlterableConfig]
    ) -> None:
        resource = IncrementalAlterConfigsResource(
            resource_type=BROKER_RESOURCE, resource_name="" if broker is None else str(broker), configs=changes
        )
        request = IncrementalAlterConfigsRequest(resources=[resource])
        answer = await self.ask(through, request, IncrementalAlterConfigsResponse)
        for response in answer.responses:
            check(response.error_code, response.error_message)

    async def configs(self, address: tuple[str, int], broker: int, names: Sequence[str]) -> dict[str, BrokerConfig]:
        """Where a broker has each of these settings from, by its own answer. Raises AdminFailed."""
        resource = DescribeConfigsResource(
            resource_type=BROKER_RESOURCE, resource_name=str(broker), configuration_keys=list(names)
        )
        request = DescribeConfigsRequest(resources=[resource], include_synonyms=True)
        answer = await self.ask([address], request, DescribeConfigsResponse)
        found = {}
        for result in answer.results:
            check(result.error_code, result.error_message)
            for config in result.configs:
                values = {item.source: item.value for item in config.synonyms if item.name == config.name}
                found[config.name] = BrokerConfig(
                    own=values.get(OF_THE_BROKER),
                    shared=values.get(OF_ALL_BROKERS),
                    started_with=values.get(OF_ITS_FILE),
                )
        return found

    async def brokers(self, through: Sequence[tuple[str, int]]) -> Mapping[int, bool]:
        """The brokers that are registered, each with whether it is fenced. Raises AdminFailed."""
        request = DescribeClusterRequest(include_fenced_brokers=True)
        answer = await self.ask(through, request, DescribeClusterResponse)
        check(answer.error_code, answer.error_message)
        return {broker.broker_id: broker.is_fenced for broker in answer.brokers}

    async def unregister(self, through: Sequence[tuple[str, int]], broker: int) -> None:
        """Have a broker that is fenced and has nothing forgotten. One that is not known is so. Raises AdminFailed."""
        try:
            answer = await self.ask(through, UnregisterBrokerRequest(broker_id=broker), UnregisterBrokerResponse)
        except NotServed:
            return
        if answer.error_code != ErrorCode.BROKER_ID_NOT_REGISTERED:
            check(answer.error_code, answer.error_message)

    async def end(self, through: Sequence[tuple[str, int]], broker: int, epoch: int, *, timeout_s: float) -> None:
        """Have an incarnation of a broker that is gone ended at once, and what it had given to others.

        One that sends heartbeats is not ended. Returns, too, where it has ended already. Raises AdminFailed.
        """
        request = UnregisterBrokerRequest(broker_id=broker, broker_epoch=epoch)
        answer = await self.ask(through, request, UnregisterBrokerResponse, timeout_s=timeout_s)
        if answer.error_code not in (ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED):
            check(answer.error_code, answer.error_message)

    async def ask(
        self,
        through: Sequence[tuple[str, int]],
        request: Message,
        response: type[R],
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> R:
        """The answer of the first broker that gives one. Raises AdminFailed with the last one's words."""
        failed = AdminFailed(status=0, message="no broker serves that could be asked")
        for host, port in through:
            try:
                async with self._places, asyncio.timeout(timeout_s):
                    return await _asked(host, port, request, response)
            except TimeoutError:
                failed = AdminFailed(status=0, message=f"{host}:{port} did not answer in {timeout_s:.0f} s")
            except (OSError, EOFError) as error:
                failed = AdminFailed(status=0, message=f"{host}:{port}: {type(error).__name__}: {error}")
            except MalformedMessage as error:
                failed = AdminFailed(status=0, message=f"{host}:{port} answers what cannot be read: {error}")
            except NotServed as error:
                failed = error
        raise failed


def check(code: int, message: str | None) -> None:
    """Raises AdminFailed when a broker answered with an error."""
    if code == ErrorCode.NONE:
        return
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"error {code}"
    raise AdminFailed(status=code, message=f"{name}: {message}" if message else name)


async def _asked(host: str, port: int, request: Message, response: type[R]) -> R:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        known = await _exchange(reader, writer, ApiVersionsRequest(), ApiVersionsResponse, version=0)
        theirs = {api.api_key: range(api.min_version, api.max_version + 1) for api in known.api_keys}
        assert request.API_KEY is not None
        common = [version for version in request.VERSIONS if version in theirs.get(request.API_KEY, range(0))]
        if not common:
            raise NotServed(
                status=ErrorCode.UNSUPPORTED_VERSION, message=f"{host}:{port} knows no {type(request).__name__}"
            )
        return await _exchange(reader, writer, request, response, version=common[-1])
    finally:
        writer.close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Message, response: type[R], *, version: int
) -> R:
    assert request.API_KEY is not None
    header = RequestHeader(
        request_api_key=request.API_KEY, request_api_version=version, correlation_id=1, client_id=CLIENT_ID
    )
    frame = encode(header, 2 if request.is_flexible(version) else 1) + encode(request, version)
    writer.write(len(frame).to_bytes(4, "big") + frame)
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > RESPONSE_BYTES_MAX:
        raise EOFError(f"{size} bytes are no answer")
    body = await reader.readexactly(size)
    header_version = 1 if response.is_flexible(version) and response is not ApiVersionsResponse else 0
    _, offset = decode(ResponseHeader, header_version, body)
    return decode_whole(response, version, body, offset)
