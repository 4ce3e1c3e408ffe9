"""There are no quotas; filters are checked as Kafka checks them."""

import pytest

from automq.handlers.admin_quotas import handle_describe_client_quotas
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.quotas import ComponentData, DescribeClientQuotasRequest
from tests.support.handler_world import context_of, image_of

CONTEXT = context_of(image_of({}), version=1)


def component(kind: str, match_type: int = 2, match: str | None = None) -> ComponentData:
    return ComponentData(entity_type=kind, match_type=match_type, match=match)


@pytest.mark.parametrize(
    "components", [[], [component("user")], [component("user", 0, "a"), component("client-id", 1)]]
)
async def test_no_quota_is_found(components: list[ComponentData]) -> None:
    answer = await handle_describe_client_quotas(CONTEXT, DescribeClientQuotasRequest(components=components))
    assert (answer.error_code, answer.entries) == (ErrorCode.NONE, [])


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ([component("")], ErrorCode.INVALID_REQUEST),
        ([component("user"), component("user")], ErrorCode.INVALID_REQUEST),
        ([component("team")], ErrorCode.UNSUPPORTED_VERSION),
        ([component("user", 0)], ErrorCode.INVALID_REQUEST),
        ([component("user", 1, "a")], ErrorCode.INVALID_REQUEST),
        ([component("user", 9)], ErrorCode.INVALID_REQUEST),
        ([component("ip"), component("user")], ErrorCode.INVALID_REQUEST),
    ],
)
async def test_filter_that_makes_no_sense_is_refused(components: list[ComponentData], code: ErrorCode) -> None:
    answer = await handle_describe_client_quotas(CONTEXT, DescribeClientQuotasRequest(components=components))
    assert (answer.error_code, answer.entries) == (code, None)
    assert answer.error_message
