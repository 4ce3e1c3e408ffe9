"""Handles messages.security: what a Kafka without authorizer and without SCRAM users answers.

Tools ask as a matter of course, MirrorMaker at every synchronisation: a refusal by name is an answer, a closed
connection is an outage.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from automq.handlers.context import Handler, RequestContext
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.security import (
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
    DescribeAclsRequest,
    DescribeAclsResponse,
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)
from automq.protocol.schema import Message
from automq.runtime.turns import Pace

# About how long it takes to answer for a user.
USER_US: Final = 2

NO_AUTHORIZER: Final = "No Authorizer is configured."


async def handle_describe_acls(_context: RequestContext, _request: DescribeAclsRequest) -> DescribeAclsResponse:
    """There is no authorizer."""
    return DescribeAclsResponse(
        error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured on the broker"
    )


async def handle_create_acls(_context: RequestContext, request: CreateAclsRequest) -> CreateAclsResponse:
    """There is no authorizer: nothing is created, each entry says so."""
    refused = AclCreationResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
    return CreateAclsResponse(results=[refused for _ in request.creations])


async def handle_delete_acls(_context: RequestContext, request: DeleteAclsRequest) -> DeleteAclsResponse:
    """There is no authorizer: nothing is deleted, each filter says so."""
    refused = DeleteAclsFilterResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
    return DeleteAclsResponse(filter_results=[refused for _ in request.filters])


async def handle_describe_user_scram_credentials(
    _context: RequestContext, request: DescribeUserScramCredentialsRequest
) -> DescribeUserScramCredentialsResponse:
    """There are no users: none when all are asked for, RESOURCE_NOT_FOUND for each that is named."""
    results: list[DescribeUserScramCredentialsResult] = []
    pace = Pace()
    for name, count in Counter(user.name for user in request.users or []).items():
        if count > 1:
            code = ErrorCode.DUPLICATE_RESOURCE
            message = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
        else:
            code = ErrorCode.RESOURCE_NOT_FOUND
            message = f"Attempt to describe a user credential that does not exist: {name}"
        results.append(DescribeUserScramCredentialsResult(user=name, error_code=code, error_message=message))
        await pace.spend(USER_US)
    return DescribeUserScramCredentialsResponse(error_message="", results=results)


HANDLERS: Final[Mapping[type[Message], Handler]] = {
    DescribeAclsRequest: handle_describe_acls,
    CreateAclsRequest: handle_create_acls,
    DeleteAclsRequest: handle_delete_acls,
    DescribeUserScramCredentialsRequest: handle_describe_user_scram_credentials,
}
