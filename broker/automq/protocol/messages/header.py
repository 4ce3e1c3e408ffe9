"""Headers: what comes before the body of every request and response."""

from dataclasses import dataclass

from automq.protocol.schema import Message, int16, int32, string


@dataclass(slots=True, kw_only=True)
class RequestHeader(Message):
    """Header of a request, versions 1 and 2. The server parses it by hand (`connection.RequestHead`).

    The client id keeps its two-byte length in the flexible version too, so that a broker can read the header of an
    ApiVersions request newer than itself.
    """

    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    request_api_key: int = int16()
    request_api_version: int = int16()
    correlation_id: int = int32()
    client_id: str | None = string(nullable_since=0, is_never_compact=True)


@dataclass(slots=True, kw_only=True)
class ResponseHeader(Message):
    """Header of a response, versions 0 and 1."""

    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    correlation_id: int = int32()
