"""Without an authorizer and without users, each question has Kafka's answer."""

from automq.handlers.admin_security import (
    handle_create_acls,
    handle_delete_acls,
    handle_describe_acls,
    handle_describe_user_scram_credentials,
)
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import security
from tests.support.handler_world import context_of, image_of

CONTEXT = context_of(image_of({}), version=3)


async def test_acls_are_answered_security_disabled() -> None:
    described = await handle_describe_acls(CONTEXT, security.DescribeAclsRequest())
    assert (described.error_code, described.error_message) == (
        ErrorCode.SECURITY_DISABLED,
        "No Authorizer is configured on the broker",
    )
    created = await handle_create_acls(
        CONTEXT, security.CreateAclsRequest(creations=[security.AclCreation(), security.AclCreation()])
    )
    assert [result.error_code for result in created.results] == [ErrorCode.SECURITY_DISABLED] * 2
    deleted = await handle_delete_acls(CONTEXT, security.DeleteAclsRequest(filters=[security.DeleteAclsFilter()]))
    assert [result.error_code for result in deleted.filter_results] == [ErrorCode.SECURITY_DISABLED]


async def test_there_are_no_scram_users() -> None:
    everybody = await handle_describe_user_scram_credentials(
        CONTEXT, security.DescribeUserScramCredentialsRequest(users=None)
    )
    assert (everybody.error_code, everybody.results) == (ErrorCode.NONE, [])
    users = [security.UserName(name=name) for name in ("a", "b", "b")]
    named = await handle_describe_user_scram_credentials(
        CONTEXT, security.DescribeUserScramCredentialsRequest(users=users)
    )
    assert [(result.user, result.error_code) for result in named.results] == [
        ("a", ErrorCode.RESOURCE_NOT_FOUND),
        ("b", ErrorCode.DUPLICATE_RESOURCE),
    ]
