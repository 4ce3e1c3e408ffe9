"""The table of handlers."""

import pytest

from automq.handlers.context import RequestContext
from automq.protocol.apis import APIS, ApiKey
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.discovery import ApiVersionsRequest, ApiVersionsResponse
from automq.protocol.messages.group import HeartbeatRequest
from automq.server.network.dispatch import DispatchTable, answer_failure
from automq.steps import at_once


async def handler(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse:
    return ApiVersionsResponse()


def test_only_what_is_handled_is_listed() -> None:
    table = DispatchTable([{ApiVersionsRequest: handler}])

    assert table.api_versions == {0: range(14), 1: range(4, 19), 18: range(5)}


def test_whole_table_has_what_a_broker_needs() -> None:
    listed = DispatchTable().api_versions

    assert {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 19, 20, 21, 22, 23, 32, 33, 37, 42, 44, 47, 60, 75} <= set(listed)
    assert list(listed) == sorted(listed)
    assert all(listed[key] == APIS[key].advertised for key in listed)


def test_api_has_one_handler() -> None:
    with pytest.raises(AssertionError, match="two handlers"):
        DispatchTable([{ApiVersionsRequest: handler}, {ApiVersionsRequest: handler}])


def test_route_needs_key_and_version() -> None:
    table = DispatchTable([{ApiVersionsRequest: handler}])

    assert table.route(18, 4) is not None
    assert table.route(18, 5) is None
    assert table.route(3, 1) is None


def test_failure_is_answered_where_the_response_has_room_for_it() -> None:
    error = ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    answer = at_once(answer_failure(APIS[ApiKey.HEARTBEAT], 4, HeartbeatRequest(), error))

    assert answer.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE  # type: ignore[attr-defined]
