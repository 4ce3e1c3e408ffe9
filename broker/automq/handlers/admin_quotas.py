"""Handles messages.quotas: no client has a quota here."""

from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.quotas import DescribeClientQuotasRequest, DescribeClientQuotasResponse
from automq.protocol.schema import Message

ENTITY_TYPES: Final = frozenset({"user", "client-id", "ip"})
_EXACT, _DEFAULT, _SPECIFIED = 0, 1, 2


async def handle_describe_client_quotas(
    _context: RequestContext, request: DescribeClientQuotasRequest
) -> DescribeClientQuotasResponse:
    """None, after the checks that Kafka makes of a filter."""
    seen: set[str] = set()
    for component in request.components:
        kind = component.entity_type
        if not kind:
            return _refused(ErrorCode.INVALID_REQUEST, "Invalid empty entity type.")
        if kind in seen:
            return _refused(
                ErrorCode.INVALID_REQUEST, f"Entity type {kind} cannot appear more than once in the filter."
            )
        if kind not in ENTITY_TYPES:
            return _refused(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")
        if component.match_type not in (_EXACT, _DEFAULT, _SPECIFIED):
            return _refused(ErrorCode.INVALID_REQUEST, f"Unknown match type {component.match_type}")
        if (component.match_type == _EXACT) != (component.match is not None):
            wanted = "a name to match" if component.match_type == _EXACT else "no name to match"
            return _refused(ErrorCode.INVALID_REQUEST, f"Request specified match type {component.match_type}: {wanted}")
        seen.add(kind)
    if "ip" in seen and len(seen) > 1:
        return _refused(
            ErrorCode.INVALID_REQUEST, "Invalid entity filter component combination: ip goes with no other entity type."
        )
    return DescribeClientQuotasResponse(error_message="", entries=[])


def _refused(code: ErrorCode, message: str) -> DescribeClientQuotasResponse:
    return DescribeClientQuotasResponse(error_code=code, error_message=message, entries=None)


HANDLERS: Final[Mapping[type[Message], Handler]] = {DescribeClientQuotasRequest: handle_describe_client_quotas}
