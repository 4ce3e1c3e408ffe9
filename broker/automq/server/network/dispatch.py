"""The table from API key to handler; decoding, error mapping and answers around it.

Produce and Fetch are listed here and handled by `connection` itself: they are synchronous and have codecs of their
own.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from automq.handlers import (
    admin_brokers,
    admin_cluster,
    admin_configs,
    admin_partitions,
    admin_quorum,
    admin_quotas,
    admin_security,
    admin_topics,
    discovery,
    features,
    group,
    offset,
    partition_offsets,
    transaction,
    transaction_admin,
)
from automq.handlers.access import answer_allowed
from automq.handlers.context import Handler, RequestContext
from automq.handlers.errors import error_code_of, error_message_of
from automq.handlers.record_range import RecordsChanged
from automq.protocol.apis import APIS, Api, ApiKey, encode_response, encode_response_in_parts
from automq.protocol.codec import UnsupportedField, decode, decode_in_parts
from automq.protocol.connection import RequestHead, UnknownApi
from automq.protocol.error_response import error_codes, error_response_in_parts
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.discovery import ApiVersion, ApiVersionsResponse
from automq.protocol.metadata_codec import EncodedMetadata
from automq.protocol.schema import Message
from automq.runtime.turns import in_turns
from automq.s3stream.model import StreamError
from automq.s3stream.ports import StoreError
from automq.server.network.audit import Audit
from automq.server.network.wide_requests import WIDE_BYTES, emptied, is_wide, parts_max
from automq.steps import Steps

log = logging.getLogger(__name__)

COUNTED_PARTS_MAX: Final = 2_000
"""Of one answer, looked at for error codes: a tenth of a millisecond."""

HandlerTable = Mapping[type[Message], Handler]

HANDLER_TABLES: Final[tuple[HandlerTable, ...]] = (
    admin_brokers.HANDLERS,
    admin_cluster.HANDLERS,
    admin_configs.HANDLERS,
    admin_partitions.HANDLERS,
    admin_quorum.HANDLERS,
    admin_quotas.HANDLERS,
    admin_security.HANDLERS,
    admin_topics.HANDLERS,
    discovery.HANDLERS,
    features.HANDLERS,
    group.HANDLERS,
    offset.HANDLERS,
    partition_offsets.HANDLERS,
    transaction.HANDLERS,
    transaction_admin.HANDLERS,
)
"""Everything that is served."""

# Handled by the connection itself.
SYNCHRONOUS_APIS: Final = (ApiKey.PRODUCE, ApiKey.FETCH)


@dataclass(frozen=True, slots=True)
class Route:
    """One API and who answers it."""

    api: Api
    handler: Handler


class DispatchTable:
    """The routes of one broker. Built before the services are, because ApiVersions answers from it."""

    def __init__(self, tables: Iterable[HandlerTable] = HANDLER_TABLES) -> None:
        routes: dict[int, Route] = {}
        for table in tables:
            for request_class, handler in table.items():
                assert request_class.API_KEY is not None, request_class.__name__
                api = APIS[request_class.API_KEY]
                assert api.request_class is request_class, f"{request_class.__name__} is not a request of {api.name}"
                assert api.key not in routes, f"{api.name} has two handlers"
                routes[api.key] = Route(api, handler)
        listed = sorted([*routes, *SYNCHRONOUS_APIS])
        self.routes: Mapping[int, Route] = MappingProxyType(routes)
        self.api_versions: Mapping[int, range] = MappingProxyType({int(key): APIS[key].advertised for key in listed})
        """What ApiVersions lists: only what is really handled."""

    def route(self, key: int, version: int) -> Route | None:
        """Who answers this request; None when it cannot even be parsed here."""
        route = self.routes.get(key)
        return route if route is not None and version in route.api.versions else None

    def refuse_api_versions(self, correlation_id: int) -> bytes:
        """The answer to an ApiVersions request newer than we are: in version 0, with what we could read instead.

        Of ApiVersions itself and nothing else, as Kafka does.
        """
        listed = [row for row in self._listed() if row.api_key == ApiKey.API_VERSIONS]
        response = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=listed)
        return encode_response(APIS[ApiKey.API_VERSIONS], 0, correlation_id, response)

    def _listed(self) -> list[ApiVersion]:
        return [
            ApiVersion(api_key=key, min_version=versions[0], max_version=versions[-1])
            for key, versions in self.api_versions.items()
        ]


WideRequest = Steps[tuple[Message, int]]
"""A request that is decoded in turns, and how many elements its arrays have. Raises MalformedMessage."""


def decode_request(route: Route, version: int, body: memoryview, offset: int) -> Message | WideRequest:
    """The request behind a header. Raises MalformedMessage. Nothing of the result refers to `body`."""
    # What follows the message is ignored, as Kafka does.
    if len(body) > WIDE_BYTES:
        return decode_in_parts(route.api.request_class, version, bytes(body), offset)
    request: Message = decode(route.api.request_class, version, body, offset)[0]
    return request


async def respond(
    route: Route,
    context: RequestContext,
    correlation_id: int,
    asked: Message | WideRequest,
    *,
    size: int,
    audit: Audit,
    on_error: Callable[[int, int, int], None],
) -> bytes | None:
    """Run the handler and encode its answer; None, logged, when nothing can be answered and the connection closes.

    `size` is that of the request's frame; `on_error` is called with API and code of every error that is answered, and
    how often it is. Raises MalformedMessage where what is asked is to be decoded yet.
    """
    api = route.api
    is_wide_request = not isinstance(asked, Message)
    request, parts = (asked, 0) if isinstance(asked, Message) else await in_turns(asked)
    try:
        check_parts(api, parts)
        response: Message | EncodedMetadata = await answer_allowed(api, route.handler, context, request)
    except Exception as error:  # noqa: BLE001 - whatever a handler lets through must still be answered
        response = await in_turns(answer_failure(api, context.version, request, error))
    await in_turns(audit.answered(api, context, request, response))
    for code, count in codes_in(response, context.version).items():
        on_error(api.key, code, count)
    throttle_ms = context.session.throttle(api.key, size)
    if throttle_ms:
        set_throttle_time(response, throttle_ms)
    if is_wide_request:
        await in_turns(emptied(request))
    try:
        if isinstance(response, EncodedMetadata):
            return response.encode(context.version, correlation_id)
        if is_wide(response):
            return await in_turns(encode_response_in_parts(api, context.version, correlation_id, response))
        return encode_response(api, context.version, correlation_id, response)
    except UnsupportedField:
        # A bug of the handler. It costs this client its connection, not everybody the broker.
        log.exception(
            "connection closed: the answer cannot be said in this version",
            extra={"api": api.name, "version": context.version, "client_id": context.client_id},
        )
        return None


def check_parts(api: Api, parts: int) -> None:
    """Raises ApiError for a request with too many `parts`."""
    most = parts_max(api.key)
    if parts > most:
        message = f"{api.name} names {parts} things in one request; at most {most} are taken: ask in several"
        raise ApiError(ErrorCode.INVALID_REQUEST, message)


def answer_failure(api: Api, version: int, request: Message, error: Exception) -> Steps[Message]:
    """The answer to a request whose handler failed as a whole."""
    code = error_code_of(error)
    if code is ErrorCode.UNKNOWN_SERVER_ERROR:
        log.error("request failed unexpectedly", extra={"api": api.name}, exc_info=error)
    text = error_message_of(error)
    return error_response_in_parts(api.response_class, request, version, code=int(code), message=text)


def codes_in(response: Message | EncodedMetadata, version: int) -> Mapping[int, int]:
    """The errors that an answer has, and how often each is there."""
    if isinstance(response, EncodedMetadata):
        codes = Counter(response.codes)
        if response.response.error_code:
            codes[response.response.error_code] += 1
        return codes
    return Counter(error_codes(response, version, parts_max=COUNTED_PARTS_MAX))


def set_throttle_time(response: Message | EncodedMetadata, throttle_ms: int) -> None:
    """Have the answer say how long its client is not listened to, if it has room for that."""
    target: Any = response.response if isinstance(response, EncodedMetadata) else response
    if hasattr(target, "throttle_time"):
        target.throttle_time = throttle_ms


class UnsupportedVersion(Exception):
    """A version we cannot read or answer in: the connection is closed, as Kafka does."""

    def __init__(self, head: RequestHead, why: str) -> None:
        super().__init__(f"{head.api.name} {why}")
        self.client_id = head.client_id


class StalledRequest(Exception):
    """A request that has begun does not come in; sizes in bytes."""

    def __init__(self, *, size: int, arrived: int) -> None:
        super().__init__(f"a request of {size} bytes does not come in: {arrived} have arrived")


def cause_of(error: Exception) -> str:
    """Why a connection is closed, as `automq_connections_refused` names it."""
    match error:
        case TimeoutError():
            return "slow reader"
        case RecordsChanged() | StreamError() | StoreError() | OSError():
            return "answer lost"
        case UnsupportedVersion() | UnknownApi():
            return "unsupported"
        case _:
            return "malformed"
