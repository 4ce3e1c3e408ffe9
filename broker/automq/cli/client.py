"""A small blocking Kafka client on our own codec, for the read-only views: works with any Kafka."""

import socket
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from automq.cli.failures import CommandFailed
from automq.protocol.codec import MalformedMessage, decode, decode_whole, encode
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from automq.protocol.messages.header import RequestHeader, ResponseHeader
from automq.protocol.schema import Message
from automq.server.config.setting import Address

TIMEOUT_S: Final = 15.0
RESPONSE_BYTES_MAX: Final = 256 * 1024 * 1024
CLIENT_ID: Final = "automq-cli"

R = TypeVar("R", bound=Message)


class RequestFailed(CommandFailed):
    """A broker cannot be reached or answers with an error; the message names it and the remedy."""


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    versions: dict[int, range]
    correlation_id: int = 0


class KafkaClient:
    """Connections to the brokers of one cluster, made when they are needed."""

    def __init__(self, bootstrap: Address) -> None:
        self._bootstrap = bootstrap
        self._connections: dict[Address, _Connection] = {}
        self._brokers: dict[int, Address] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: types.TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.socket.close()

    @property
    def nodes(self) -> list[int]:
        """The brokers that the last `metadata` told of."""
        return sorted(self._brokers)

    def metadata(self, topics: Sequence[str] | None = None, *, create: bool = False) -> MetadataResponse:
        """All brokers, and all topics or those named; `create` lets the broker make the latter as it is set to."""
        named = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=named, allow_auto_topic_creation=create)
        answer = self.call(request, MetadataResponse)
        self._brokers = {broker.node_id: Address(host=broker.host, port=broker.port) for broker in answer.brokers}
        return answer

    def call(self, request: Message, response: type[R], *, node: int | None = None, versions: range | None = None) -> R:
        """Ask a broker (the bootstrap address without `node`) in the newest of `versions` that both sides know."""
        address = self._bootstrap if node is None else self._brokers.get(node)
        if address is None:
            raise RequestFailed(f"broker {node} is not in the cluster's metadata now; try again")
        try:
            connection = self._connection(address)
            api_key = request.API_KEY
            assert api_key is not None
            theirs = connection.versions.get(api_key, range(0))
            ours = [v for v in request.VERSIONS if v in theirs and (versions is None or v in versions)]
            if not ours:
                raise RequestFailed(
                    f"{address} does not serve {type(request).__name__} in a version that this program knows"
                )
            return _exchange(connection, request, response, version=ours[-1])
        except MalformedMessage as error:
            raise RequestFailed(f"{address} answers what cannot be read: {error}") from error
        except OSError as error:
            raise RequestFailed(
                f"{address} cannot be asked: {error.strerror or error}; is a broker running there?"
            ) from error

    def _connection(self, address: Address) -> _Connection:
        known = self._connections.get(address)
        if known is not None:
            return known
        opened = socket.create_connection((address.host, address.port), timeout=TIMEOUT_S)
        connection = self._connections[address] = _Connection(opened, {})
        answer = _exchange(connection, ApiVersionsRequest(), ApiVersionsResponse, version=0)
        connection.versions = {api.api_key: range(api.min_version, api.max_version + 1) for api in answer.api_keys}
        return connection


def _exchange(connection: _Connection, request: Message, response: type[R], *, version: int) -> R:
    connection.correlation_id += 1
    assert request.API_KEY is not None
    header = RequestHeader(
        request_api_key=request.API_KEY,
        request_api_version=version,
        correlation_id=connection.correlation_id,
        client_id=CLIENT_ID,
    )
    frame = encode(header, 2 if request.is_flexible(version) else 1) + encode(request, version)
    connection.socket.sendall(len(frame).to_bytes(4, "big") + frame)
    size = int.from_bytes(_read(connection.socket, 4), "big")
    if size > RESPONSE_BYTES_MAX:
        raise RequestFailed("the answer is no Kafka response; does the port speak the Kafka protocol without TLS?")
    body = _read(connection.socket, size)
    header_version = 1 if response.is_flexible(version) and response is not ApiVersionsResponse else 0
    answered, offset = decode(ResponseHeader, header_version, body)
    if answered.correlation_id != connection.correlation_id:
        raise RequestFailed("the broker answers another request than was asked")
    return decode_whole(response, version, body, offset)


def _read(source: socket.socket, size: int) -> bytes:
    chunks: list[bytes] = []
    while size:
        chunk = source.recv(min(size, 1 << 20))
        if not chunk:
            raise RequestFailed("the broker closed the connection; does the port speak the Kafka protocol without TLS?")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def check(code: int, what: str, message: str | None = None) -> None:
    """Raises RequestFailed when a broker answered with an error; `message` is its sentence, where it has one."""
    if code != ErrorCode.NONE:
        raise RequestFailed(f"{what}: the broker answers {error_name(code)}" + (f": {message}" if message else ""))


def error_name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"
